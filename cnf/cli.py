"""The command line: `cnf fit`, `score`, `sample`, `plot` and `list`.

A folder that `cnf fit` leaves holds the model (`model.json`, `model.safetensors`), where its data came from
(`data.json`), its numbers (`metrics.json`), the curves of training (`log.csv`), a checkpoint to resume from, and
pictures.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import inspect
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from cnf.checkpoints import CheckpointError, load, read_json, save, write_json, write_pieces
from cnf.continuous.solvers import SolverError, count_evaluations
from cnf.data import DataError
from cnf.data.benchmarks import MAF_SETS
from cnf.data.sources import IMAGES, Source, open_source
from cnf.data.tabular import READERS, load_table, take
from cnf.data.toy import TOYS
from cnf.flows import Flow
from cnf.metrics import bits_per_dim, log_prob_of_rows, mean_and_error
from cnf.models import MODELS, build

if TYPE_CHECKING:
    from cnf.training import FitResult


SMALL = 100_000  # parameters
PIECE = 65_536  # rows read together


class UsageError(ValueError):
    """A request that cannot be met; the message says what was expected, what came and what to do."""


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
        if not _is_helper():
            self._check_folder()
        columns = [name.strip() for name in next(csv.reader([self.context]), []) if name.strip()]
        source = open_source(self.data, context=columns, root=self.data_root, seed=self.seed)
        torch.manual_seed(self.seed)
        flow = _built(self.model, source, _options(self.option))
        _use_threads(flow, self.threads)
        if not _is_helper():
            self._describe(source)
        result = self._train(flow, source)
        if result.stopped == "interrupted":
            print(f"Interrupted at step {result.steps}; go on with the same command and --resume")
            raise SystemExit(130)
        if not _is_helper():
            self._report(flow, source, result)

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
        write_json(self.out / "metrics.json", numbers := _numbers(flow, source, result, self.progress))
        draw(flow, source, self.out, result.history)
        print(_summary(numbers, self.out))

    def _train(self, flow: Flow, source: Source) -> FitResult:
        from cnf.training import FitConfig, fit  # it loads the training engine

        names = {entry.name for entry in dataclasses.fields(FitConfig)} & set(vars(self))
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None or name == "patience"}
        return fit(
            flow, source.train, validation=source.validation, config=FitConfig(**given),
            folder=self.out, resume=self.resume,
        )  # fmt: skip


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
        _check_suffix(self.out)
        flow, about = _open(self.folder)
        rows = _rows_for(about, self.data)
        log_prob = log_prob_of_rows(flow, rows, batch_size=self.batch_size, progress=self.progress)
        mean, error = mean_and_error(log_prob)
        how = "" if flow.exact else ", each of them estimated"
        print(f"log p = {mean:.4f} ± {error:.4f} nats, mean and standard error over {len(log_prob)} rows{how}")
        if self.out is not None:
            pieces = log_prob.unsqueeze(1).split(self.batch_size)
            write_pieces(self.out, _table(self.out, pieces, len(log_prob), ["log_prob"]))
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
        _check_suffix(self.out)
        flow, about = _open(self.folder)
        columns = about["columns"] or [f"x{i}" for i in range(flow.event_shape.numel())]
        pieces = self._pieces(flow, _condition(about["context"], self.given))
        if self.out is None:
            for text in _csv(pieces, columns):
                sys.stdout.write(text)
        else:
            write_pieces(self.out, _table(self.out, pieces, self.n, columns))
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


@dataclass
class List:
    """List the models with their options, and the built-in data sets."""

    def __call__(self) -> None:
        print("Models (cnf fit DATA --model NAME --option KEY=VALUE):")
        for name, builder in MODELS.items():
            print(f"  {name:18} {(inspect.getdoc(builder) or '').splitlines()[0]}")
            options = list(inspect.signature(builder).parameters.values())[2:]
            plain = [option for option in options if isinstance(option.default, (int, float, str, tuple, type(None)))]
            print(f"  {'':18} {', '.join(f'{option.name}={option.default!r}' for option in plain)}")
        print("\nData:")
        print(f"  toys         {', '.join(TOYS)}")
        print(f"  images       {', '.join(IMAGES)}")
        print(f"  benchmarks   {', '.join(MAF_SETS)} (files of your own download: --data-root)")
        print("  tables       any .csv (with a header or without) or .npy of your own")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `cnf`."""
    names = {"fit": Fit, "score": Score, "sample": Sample, "plot": Plot, "list": List}
    command = tyro.extras.subcommand_cli_from_dict(dict(names.items()), args=arguments, prog="cnf", description=__doc__)
    try:
        command()
    except (ValueError, OSError, CheckpointError, SolverError) as error:
        raise SystemExit(f"cnf: {error}") from error
    except RuntimeError as error:
        from cnf.training import TrainingError  # it loads the training engine

        if not isinstance(error, TrainingError):
            raise
        raise SystemExit(f"cnf: {error}") from error


def _is_helper() -> bool:
    """Whether this is one of several processes of a training run, and not the one that writes."""
    return any(int(os.environ.get(name, 0)) > 0 for name in ("LOCAL_RANK", "RANK", "NODE_RANK"))


def _built(model: str, source: Source, options: dict[str, Any]) -> Flow:
    try:
        return build(model, source.event_shape, len(source.context), **options)
    except TypeError as error:
        raise UsageError(f"{model} cannot be built with these options: {error}") from error


def _open(folder: Path) -> tuple[Flow, dict[str, Any]]:
    """The flow of a folder and the description of its data."""
    flow = load(folder)
    _use_threads(flow)
    about = read_json(folder / "data.json")
    missing = [key for key in ("data", "columns", "context", "seed", "data_root") if key not in about]
    if missing:
        raise CheckpointError(f"{folder / 'data.json'} is not of cnf fit: it has no {', '.join(missing)}")
    return flow, about


def _use_threads(flow: Flow, threads: int | None = None) -> None:
    """Small matrices are multiplied faster than threads are woken, above all on a machine with other work."""
    small = sum(parameter.numel() for parameter in flow.parameters()) < SMALL
    if threads or small:
        torch.set_num_threads(threads or 1)


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


def _numbers(flow: Flow, source: Source, result: FitResult, progress: bool) -> dict[str, Any]:
    """The content of `metrics.json`; likelihoods of the test rows in the units of the data."""
    with count_evaluations() as count:
        log_prob = log_prob_of_rows(flow, source.test, progress=progress)
    nll = mean_and_error(-log_prob)
    numbers: dict[str, Any] = {
        "test_nll": nll.mean,
        "test_nll_standard_error": nll.error,
        "unit": "nats a row, in the units of the data",
        "trace": "exact" if flow.exact else "estimated",
        "test_nll_standardized": nll.mean - _log_scale(source),
        "evaluations_a_solve": count.evaluations / max(count.solves, 1),
        "training_seconds": result.seconds,
        "steps": result.steps,
        "stopped": result.stopped,
        "best_step": result.best_step,
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "rows": {part: len(getattr(source, part)) for part in ("train", "validation", "test")},
    }
    if source.levels is not None:
        bits = mean_and_error(bits_per_dim(log_prob, flow.event_shape.numel(), levels=source.levels))
        numbers |= {"bits_per_dim": bits.mean, "bits_per_dim_standard_error": bits.error}
    if source.toy is not None and source.toy.entropy is not None:
        gap = mean_and_error(source.toy.log_prob(_all(source.test).double()) - log_prob.double())
        numbers |= {"entropy": source.toy.entropy, "kl": gap.mean, "kl_standard_error": gap.error}
    return numbers


def _log_scale(source: Source) -> float:
    """`Σ log σ` of the training rows: what standardised units take off the NLL."""
    rows = source.train
    origin = rows.read([0])[0].double().flatten(1)  # near the mean, so that little cancels
    total = squares = torch.zeros_like(origin[0])
    for numbers in torch.arange(len(rows)).split(PIECE):
        x = rows.read(numbers.tolist())[0].double().flatten(1) - origin
        total, squares = total + x.sum(0), squares + x.square().sum(0)
    variance = (squares - total.square() / len(rows)) / (len(rows) - 1)
    return 0.5 * variance.log().sum().item()


def _all(rows: Any) -> Tensor:
    x: Tensor = rows.read(range(len(rows)))[0]
    return x


def _summary(numbers: dict[str, Any], out: Path) -> str:
    lines = [
        f"test NLL {numbers['test_nll']:.4f} ± {numbers['test_nll_standard_error']:.4f} nats "
        f"({numbers['test_nll_standardized']:.4f} in standardised units; {numbers['trace']} trace, "
        f"{numbers['evaluations_a_solve']:.0f} evaluations a solve)",
    ]
    if "kl" in numbers:
        lines.append(
            f"KL(data ‖ model) {numbers['kl']:.4f} ± {numbers['kl_standard_error']:.4f} nats above the entropy"
        )
    if "bits_per_dim" in numbers:
        lines.append(f"{numbers['bits_per_dim']:.3f} ± {numbers['bits_per_dim_standard_error']:.3f} bits/dim")
    lines.append(f"{numbers['training_seconds']:.0f} s of training; everything is in {out}/")
    return "\n".join(lines)


def draw(flow: Flow, source: Source, out: Path, history: Sequence[dict[str, float]]) -> list[Path]:
    """Write the pictures that suit the data, and the curves of training if there are any."""
    from cnf import plotting  # it loads matplotlib

    x, context, _ = source.test.read(range(min(len(source.test), 2000)))
    paths = [out / "training.png"] if history else []
    if history:
        plotting.save_figure(plotting.training_figure(history), paths[0])
    generator = torch.Generator().manual_seed(0)
    if len(source.event_shape) == 3:
        images = flow.sample(100, generator=generator).clamp(0, 1)
        paths.append(plotting.save_figure(plotting.image_figure(images), out / "samples.png"))
    elif source.event_shape == (2,) and context is None:
        density = source.toy.log_prob if source.toy is not None and source.toy.density is not None else None
        paths.append(plotting.save_figure(plotting.fit_figure(flow, x, true_density=density), out / "fit.png"))
        if flow.transform.continuous:
            paths.append(plotting.save_figure(plotting.trajectory_figure(flow, generator=generator), out / "path.png"))
            paths.append(plotting.path_animation(flow, out / "path.gif", generator=generator))
    elif source.columns:
        samples = flow.sample(len(x), context, generator=generator)
        paths.append(plotting.save_figure(plotting.corner_figure(x, samples, source.columns), out / "corner.png"))
    return paths


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


def _check_suffix(path: Path | None) -> None:
    """Before hours of work, not after them."""
    if path is not None and path.suffix.lower() not in (".csv", ".npy"):
        raise UsageError(f"cannot write {path}: known suffixes are .csv, .npy")


def _table(path: Path, pieces: Iterable[Tensor], rows: int, columns: Sequence[str]) -> Iterator[bytes]:
    """The bytes of a table's file, with no more than a piece of it in memory."""
    if path.suffix.lower() == ".npy":
        return _npy(pieces, (rows, len(columns)))
    return (text.encode() for text in _csv(pieces, columns))


def _npy(pieces: Iterable[Tensor], shape: tuple[int, ...]) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        values = piece.numpy()
        if not number:
            header = io.BytesIO()
            descr = np.lib.format.dtype_to_descr(values.dtype)
            np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
            yield header.getvalue()
        yield values.tobytes()


def _csv(pieces: Iterable[Tensor], columns: Sequence[str]) -> Iterator[str]:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(columns)
    yield text.getvalue()
    for piece in pieces:
        text = io.StringIO()
        np.savetxt(text, piece.double().numpy(), delimiter=",", fmt="%.8g")
        yield text.getvalue()
