"""Runs of the default and of zuko's flows, each kept in a file, so that a long comparison can be stopped."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

import cnf
from cnf.data import DataError
from cnf.discrete import Standardize, Whiten
from cnf.files import read_json, write_json
from cnf.metrics import log_prob_of_rows, mean_and_error
from cnf.models import PREPROCESSING
from experiments.parts.peers import ZukoFlow
from experiments.parts.toys_and_tables import parts
from experiments.provenance import provenance


class Cell(NamedTuple):
    """One run; seconds are those that one thread has of a processor."""

    data: str
    seconds: float
    model: str
    seed: int


class Cells:
    """Cells in a folder.

    Args:
        folder: Of their files.
        toy_rows: Training, validation and test rows of a toy.
        data_root: Has the tables, itself or in its folder `tables`.
    """

    def __init__(self, folder: str, toy_rows: tuple[int, int, int], data_root: str | None) -> None:
        self.folder, self.toy_rows, self.data_root = Path(folder), toy_rows, data_root
        self.folder.mkdir(parents=True, exist_ok=True)
        self.commit = provenance()["commit"]

    def path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.data}-{cell.seconds:g}-{cell.model}-{cell.seed}.json"

    def found(self, cell: Cell) -> dict[str, Any] | None:
        """What a run left; None if it was not run."""
        return read_json(self.path(cell)) if self.path(cell).is_file() else None

    def settle(self, cell: Cell) -> None:
        """Run a cell, unless it was run before or another process is at it; the lock of one that dies is free again."""
        path = self.path(cell)
        with open(path.with_suffix(".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not path.is_file():
                    write_json(path, {**cell._asdict(), "commit": self.commit, **self._trained(cell)})
            except BlockingIOError:
                return
            except DataError as error:
                print(f"left out: {error}")

    def _trained(self, cell: Cell) -> dict[str, Any]:
        begun = time.process_time()
        train, validation, test, floor = parts(cell.data, cell.seed, self.toy_rows, self.data_root)
        torch.manual_seed(cell.seed)
        flow = built(cell.model, train.shape[1])
        settings: dict[str, Any] = {} if cell.model == "cnf" else {"learning_rate": 1e-3, "weight_decay": 0.0}
        given = cnf.FitConfig(seconds=cell.seconds, seed=cell.seed, progress=False, **settings)
        numbers: dict[str, Any] = {}
        try:
            fitted = cnf.fit(flow, train, validation=validation, config=given, clock=time.process_time)
            numbers = {"steps": fitted.steps, "used": fitted.seconds, "ended": fitted.stopped}
            numbers["stepped_back"] = sum(row["stepped_back"] for row in fitted.history)
        except cnf.TrainingError as error:  # the flow has its best weights
            numbers = {"ended": str(error)}
        loss = mean_and_error(-log_prob_of_rows(flow, test).double() - floor)
        print(*cell, f"{loss.mean:.4f} ± {loss.standard_error:.4f}", numbers, flush=True)
        seconds = time.process_time() - begun
        return {"score": loss.mean, "error": loss.standard_error, "processor_seconds": seconds, **numbers}


def built(model: str, dim: int) -> cnf.Flow:
    """The default, or one of zuko's flows; `+`: with our marginals and whitening in front."""
    if model == "cnf":
        return cnf.build("cnf", dim)
    import zuko  # only the peers need it

    peer = getattr(zuko.flows, model.removesuffix("+"))(dim, 0, transforms=5, hidden_features=(128, 128))
    ours = [*PREPROCESSING["gaussianize"]((dim,)), Whiten(dim)]
    front = ours if model.endswith("+") else [Standardize(dim)]
    return cnf.Flow(cnf.Compose([*front, ZukoFlow(peer)]), cnf.StandardNormal(dim))
