"""`cnf score`, `cnf sample` and `cnf plot`: the uses of a trained model."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from cnf.arguments import Count, Seed
from cnf.cli.options import REMEDY, ReadingOptions, SolverOptions, optional, solving
from cnf.cli.pictures import REPORT, check_shown, draw
from cnf.cli.report import likelihood
from cnf.cli.runs import condition, open_run, rows_for, seen_in, source_of
from cnf.cli.tables import check_suffix, csv_text, table_bytes
from cnf.cli.usage import UsageError, check_numbers, chosen_columns
from cnf.data.sketch import Seen
from cnf.errors import CnfError, SampleError
from cnf.failures import told
from cnf.files import write_pieces
from cnf.flows import Flow
from cnf.metrics import mean_and_error, score_rows

Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]


@dataclass
class Score(ReadingOptions, SolverOptions):
    """Print the mean log-density of data under a trained model; with --out, write that of each row.

    Args:
        folder: Folder that `cnf fit` wrote.
        data: A table with the columns of the training data (other columns are ignored), or the name of a
            built-in data set, for its test rows.
        out: A .csv or .npy file for the log-density of each row, in nats.
        batch_size: Rows evaluated together; a .npy table is never in memory as a whole.
        progress: Show a progress bar.
    """

    folder: Positional[Folder]
    data: Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    out: Annotated[Path | None, optional("FILE")] = None
    batch_size: Count = 2048
    progress: bool = True

    def __call__(self) -> None:
        check_numbers(self)
        check_suffix(self.out)
        header = self.header_given()
        flow, about = open_run(self.folder)
        flow = self.solved(flow)
        rows = rows_for(flow, about, self.data, header, self.sheet)
        with solving(flow):
            log_prob, failures = score_rows(flow, rows, batch_size=self.batch_size, progress=self.progress)
        if log_prob.isnan().all() and failures:
            raise SampleError(told(failures, len(log_prob)), advice=REMEDY)
        how = "" if flow.exact else f", each of them {likelihood(flow)}"
        solved = len(log_prob) - len(failures)
        print(f"log p = {_mean(log_prob)} nats, mean and standard error over {solved} rows{how}")
        if failures:
            print(f"{told(failures, len(log_prob))}; they are left out. Try: {REMEDY}")
        seen = seen_in(self.folder, rows)
        if seen is not None and seen.rows:
            print(_warning(seen, log_prob))
        if self.out is not None:
            pieces = log_prob.unsqueeze(1).split(self.batch_size)
            write_pieces(self.out, table_bytes(self.out, pieces, len(log_prob), ["log_prob"]))
            print(f"wrote {self.out}")


def _mean(log_prob: Tensor) -> str:
    mean, error = mean_and_error(log_prob[~log_prob.isnan()])
    return f"{mean:.4f} ± {error:.4f}"


def _warning(seen: Seen, log_prob: Tensor) -> str:
    """A warning that the mean includes rows that the model was trained on."""
    about = "" if seen.exact else "about "
    text = f"{about}{seen.rows} of these rows are equal to rows that the model was trained on"
    fresh = log_prob[~torch.from_numpy(seen.known) & ~log_prob.isnan()]
    if not seen.exact or not len(fresh):
        return f"{text}: this mean tells little about new rows"
    return f"{text}; over the other {len(fresh)} rows log p = {_mean(fresh)} nats"


@dataclass
class Sample(SolverOptions):
    """Draw samples from a trained model as CSV.

    Args:
        folder: Folder that `cnf fit` wrote.
        n: Number of samples.
        out: A .csv or .npy file.
        given: Values of the context columns of a conditional model, such as --given load=1.5,wind=3.
        seed: Random seed; the same seed draws the same samples.
        batch_size: Samples drawn together.
        progress: Show a progress bar.
    """

    folder: Positional[Folder]
    n: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 1000
    out: Annotated[Path | None, optional("FILE", "standard output")] = None
    given: Annotated[str, optional("COLUMN=VALUE,…")] = ""
    seed: Seed = 0
    batch_size: Count = 2048
    progress: bool = True

    def __call__(self) -> None:
        check_numbers(self)
        check_suffix(self.out)
        flow, about = open_run(self.folder)
        flow = self.solved(flow)
        columns = about["columns"] or [f"x{i}" for i in range(flow.event_shape.numel())]
        pieces = self._pieces(flow, condition(flow, about, _condition(about["context"], self.given)))
        with solving(flow):
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
                _check_finite(piece.flatten(1))
                yield piece.flatten(1)
                bar.update(len(piece))


def _check_finite(samples: Tensor) -> None:
    bad = int((~samples.isfinite().all(1)).sum())
    if bad:
        raise CnfError(f"{bad} of {len(samples)} samples are NaN or infinite: the model has diverged, train it again")


@dataclass
class Plot(SolverOptions):
    """Draw the pictures of a trained model again, and write its report page.

    Args:
        folder: Folder that `cnf fit` wrote.
        out: Folder for the pictures.
        data: File of the data, if it was moved.
        columns: Columns to show in corner.png, separated by commas.
    """

    folder: Positional[Folder]
    out: Annotated[Path | None, optional("FOLDER", "the folder of the model")] = None
    data: Annotated[str | None, optional("DATA", "where it was in training")] = None
    columns: Annotated[str, optional("COLUMNS", "the first 8")] = ""

    def __call__(self) -> None:
        check_numbers(self)
        flow, about = open_run(self.folder)
        flow = self.solved(flow)
        columns = chosen_columns(self.columns, about["columns"])
        source = source_of(about, self.data)
        check_shown(columns, flow, source)
        paths = draw(flow, source, self.out or self.folder, columns=columns, folder=self.folder)
        for path in paths:
            print(f"wrote {path}")
        if not any(path.name != REPORT for path in paths):
            raise SystemExit(1)


def _condition(columns: Sequence[str], given: str) -> Tensor | None:
    try:
        parts = [pair.rpartition("=") for pair in next(csv.reader([given]), [])]
    except csv.Error as error:
        raise UsageError(f"--given takes COLUMN=VALUE,…, got {given[:60]!r}: {error}") from error
    pairs = {name.strip(): value for name, _, value in parts}
    if parts and not columns:
        raise UsageError(f"--given is for conditional models, and this model has no context: leave it out; got {given}")
    if set(pairs) != set(columns) or len(parts) != len(columns):
        expected = ",".join(f"{column}=VALUE" for column in columns)
        raise UsageError(f"--given must name every context column once: {expected}; got {given or 'nothing'}")
    try:
        values = torch.tensor([float(pairs[column]) for column in columns])
    except ValueError as error:
        raise UsageError(f"--given takes numbers, got {given}: {error}") from error
    if not values.isfinite().all():
        raise UsageError(f"--given takes finite numbers that float32 can hold (up to 3.4e38), got {given}")
    return values if columns else None
