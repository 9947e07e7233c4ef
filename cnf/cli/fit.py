"""`cnf fit`: train a model on a data set."""

from __future__ import annotations

import ast
import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro
from tyro.conf import Positional

from cnf.checkpoints import read_json, save, write_json
from cnf.cli.report import draw, measure, summary
from cnf.cli.usage import UsageError, use_threads
from cnf.data.sources import Source, open_source
from cnf.flows import Flow
from cnf.models import build
from cnf.training.launch import find_launch

if TYPE_CHECKING:
    from cnf.training import FitResult


@dataclass
class Fit:
    """Train a model on a data set; leave the model, its numbers and its pictures in a folder.

    Args:
        data: A built-in name (see `cnf list`) or the path of a .csv or .npy table.
        out: The folder to write; it must not exist, unless you resume.
        model: A name from `cnf list`.
        context: Columns, separated by commas, that the density of the others is conditional on.
        option: Options of the model as KEY=VALUE, e.g. hidden=128,128 or activation=softplus.
        steps: Budget in steps.
        epochs: Budget in passes over the data.
        seconds: Budget in seconds; 90 if no budget is given.
        batch_size: Rows a step.
        learning_rate: Peak of the learning rate; that of the model's recipe by default.
        patience: Checks without improvement after which to stop.
        seed: Of the split, the initial weights, the order of the data and all noise.
        data_root: Folder of downloaded data sets (or the environment variable CNF_DATA).
        devices: Processes on this machine.
        num_nodes: Machines; start with torchrun on each.
        accelerator: "auto", "cpu" or "cuda".
        threads: Threads on a CPU; by default one for models of less than 100,000 parameters, which more slow down.
        precision: "32-true", "bf16-mixed", …
        resume: Go on with a run that was interrupted.
        progress: Show progress bars.
    """

    data: Positional[str]
    out: Path
    model: str = "cnf"
    context: str = ""
    option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    steps: int | None = None
    epochs: float | None = None
    seconds: float | None = None
    batch_size: int = 256
    learning_rate: float | None = None
    patience: int | None = 5
    seed: int = 0
    data_root: Path | None = None
    devices: int = 1
    num_nodes: int = 1
    accelerator: str = "auto"
    threads: int | None = None
    precision: str = "32-true"
    resume: bool = False
    progress: bool = True

    def __call__(self) -> None:
        if not self._is_helper():
            self._check_folder()
        columns = [name.strip() for name in next(csv.reader([self.context]), []) if name.strip()]
        source = open_source(self.data, context=columns, root=self.data_root, seed=self.seed)
        torch.manual_seed(self.seed)
        flow = _built(self.model, source, _options(self.option))
        use_threads(flow, self.threads)
        if not self._is_helper():
            self._describe(source)
        result = self._train(flow, source)
        if result.stopped == "interrupted":
            print(f"Interrupted at step {result.steps}; go on with the same command and --resume")
            raise SystemExit(130)
        if not self._is_helper():
            self._report(flow, source, result)

    def _is_helper(self) -> bool:
        """Whether this is one of several processes of a training run, and not the one that writes."""
        return find_launch(self.devices, self.num_nodes).helper

    def _check_folder(self) -> None:
        if self.resume != (self.out / "checkpoint.safetensors").exists():
            raise UsageError(
                f"there is no run to resume in {self.out}: leave --resume out"
                if self.resume
                else f"{self.out} holds a run already: give another --out, or --resume to go on with it"
            )
        if not self.resume and self.out.exists() and any(self.out.iterdir()):
            raise UsageError(f"{self.out} exists and is not empty: give another --out")

    def _describe(self, source: Source) -> None:
        """Write down what the run is of; a run that is resumed must be of the same."""
        about = {
            "data": str(Path(self.data).resolve()) if Path(self.data).is_file() else self.data,
            "model": self.model,
            "options": list(self.option),
            "columns": list(source.columns),
            "context": list(source.context),
            "seed": self.seed,
            "data_root": None if self.data_root is None else str(self.data_root),
            "rows": {part: len(getattr(source, part)) for part in ("train", "validation", "test")},
        }
        if self.resume:
            before = read_json(self.out / "data.json")
            differing = [
                f"{key} {before.get(key)!r} → {value!r}" for key, value in about.items() if before.get(key) != value
            ]
            if differing:
                raise UsageError(
                    f"{self.out} holds another run ({'; '.join(differing)}): resume it with its own arguments"
                )
        write_json(self.out / "data.json", about)

    def _report(self, flow: Flow, source: Source, result: FitResult) -> None:
        save(flow, self.out)
        write_json(self.out / "metrics.json", numbers := measure(flow, source, result, self.progress))
        draw(flow, source, self.out, result.history)
        print(summary(numbers, self.out))

    def _train(self, flow: Flow, source: Source) -> FitResult:
        from cnf.training import FitConfig, fit  # it loads the training engine

        names = {entry.name for entry in dataclasses.fields(FitConfig)} & set(vars(self))
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None or name == "patience"}
        return fit(
            flow, source.train, validation=source.validation, config=FitConfig(**given),
            folder=self.out, resume=self.resume,
        )  # fmt: skip


def _built(model: str, source: Source, options: dict[str, Any]) -> Flow:
    try:
        return build(model, source.event_shape, len(source.context), **options)
    except TypeError as error:
        raise UsageError(f"{model} cannot be built with these options: {error}") from error


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` as Python values; what is no literal is a string."""
    options = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"options are KEY=VALUE, got {pair!r}")
        try:
            options[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = text
    return options
