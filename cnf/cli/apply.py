"""`cnf score`, `sample` and `plot`: what a trained model is for."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from cnf.checkpoints import load, read_json, write_pieces
from cnf.cli.report import draw
from cnf.cli.tables import check_suffix, csv_text, table_bytes
from cnf.cli.usage import UsageError, use_threads
from cnf.data.sources import open_source
from cnf.data.tabular import READERS, load_table, take
from cnf.errors import CheckpointError, DataError
from cnf.flows import Flow
from cnf.metrics import log_prob_of_rows, mean_and_error


@dataclass
class Score:
    """Print the mean log-density of data under a trained model, and write that of each row if asked.

    Args:
        folder: What `cnf fit` left.
        data: A .csv or .npy table with the columns the model was trained on, or a built-in name (its test rows).
        out: A .csv or .npy file for the log-density of each row, in nats.
        batch_size: Rows at a time; only these are in memory where the table is a .npy file.
        progress: Show a progress bar.
    """

    folder: Positional[Path]
    data: Positional[str]
    out: Path | None = None
    batch_size: int = 2048
    progress: bool = True

    def __call__(self) -> None:
        check_suffix(self.out)
        flow, about = _open(self.folder)
        rows = _rows_for(about, self.data)
        log_prob = log_prob_of_rows(flow, rows, batch_size=self.batch_size, progress=self.progress)
        mean, error = mean_and_error(log_prob)
        how = "" if flow.exact else ", each of them estimated"
        print(f"log p = {mean:.4f} ± {error:.4f} nats, mean and standard error over {len(log_prob)} rows{how}")
        if self.out is not None:
            pieces = log_prob.unsqueeze(1).split(self.batch_size)
            write_pieces(self.out, table_bytes(self.out, pieces, len(log_prob), ["log_prob"]))
            print(f"wrote {self.out}")


@dataclass
class Sample:
    """Draw samples from a trained model, as CSV.

    Args:
        folder: What `cnf fit` left.
        n: Number of samples.
        out: A .csv or .npy file; standard output by default.
        given: For conditional models, the context as COLUMN=VALUE,…
        seed: Of the noise.
        batch_size: Samples at a time.
        progress: Show a progress bar.
    """

    folder: Positional[Path]
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    out: Path | None = None
    given: str = ""
    seed: int = 0
    batch_size: int = 2048
    progress: bool = True

    def __call__(self) -> None:
        check_suffix(self.out)
        flow, about = _open(self.folder)
        columns = about["columns"] or [f"x{i}" for i in range(flow.event_shape.numel())]
        pieces = self._pieces(flow, _condition(about["context"], self.given))
        if self.out is None:
            for text in csv_text(pieces, columns):
                sys.stdout.write(text)
        else:
            write_pieces(self.out, table_bytes(self.out, pieces, self.n, columns))
            print(f"wrote {self.out}")

    def _pieces(self, flow: Flow, context: Tensor | None) -> Iterator[Tensor]:
        """The samples, `(batch_size, D)` at a time."""
        generator = torch.Generator().manual_seed(self.seed)
        hidden = not self.progress or self.n <= self.batch_size
        with tqdm(total=self.n, desc="samples", unit="row", unit_scale=True, disable=hidden) as bar:
            for piece in flow.sample_in_pieces(self.n, context, batch_size=self.batch_size, generator=generator):
                yield piece.flatten(1)
                bar.update(len(piece))


@dataclass
class Plot:
    """Draw the pictures of a trained model again.

    Args:
        folder: What `cnf fit` left.
        out: Where to; the same folder by default.
    """

    folder: Positional[Path]
    out: Path | None = None

    def __call__(self) -> None:
        flow, about = _open(self.folder)
        source = open_source(about["data"], context=about["context"], root=about["data_root"], seed=about["seed"])
        for path in draw(flow, source, self.out or self.folder, []):
            print(f"wrote {path}")


def _open(folder: Path) -> tuple[Flow, dict[str, Any]]:
    """The flow of a folder and the description of its data."""
    flow = load(folder)
    use_threads(flow)
    about = read_json(folder / "data.json")
    missing = [key for key in ("data", "columns", "context", "seed", "data_root") if key not in about]
    if missing:
        raise CheckpointError(f"{folder / 'data.json'} is not of cnf fit: it has no {', '.join(missing)}")
    return flow, about


def _rows_for(about: dict[str, Any], name: str) -> Any:
    """Rows of a table or of a built-in set in the columns of the model."""
    wanted, context = about["columns"], about["context"]
    if Path(name).suffix.lower() not in READERS:
        return open_source(name, context=context, root=about["data_root"], seed=about["seed"]).test
    table = load_table(name)
    if table.columns != tuple(f"x{i}" for i in range(len(table.columns))) or context:
        missing = [column for column in (*wanted, *context) if column not in table.columns]
        if missing:
            raise DataError(
                f"{name} lacks the columns {', '.join(missing)}: the model was trained on "
                f"{', '.join((*wanted, *context))}, the table has {', '.join(table.columns)}"
            )
        values, *condition = (
            take(table.values, [table.columns.index(column) for column in names])
            for names in (wanted, context) if names
        )  # fmt: skip
        return (values, *condition) if context else values
    return table.values


def _condition(columns: Sequence[str], given: str) -> Tensor | None:
    pairs = {pair.rpartition("=")[0].strip(): pair.rpartition("=")[2] for pair in next(csv.reader([given]), [])}
    if set(pairs) != set(columns):
        expected = ",".join(f"{column}=VALUE" for column in columns) or "none, for the model is unconditional"
        raise UsageError(f"--given must name every context column once: {expected}; got {given or 'nothing'}")
    try:
        return torch.tensor([float(pairs[column]) for column in columns]) if columns else None
    except ValueError as error:
        raise UsageError(f"--given takes numbers, got {given}: {error}") from error
