"""`cnf score`: log-densities of rows under a trained model, and how unusual they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from cnf.arguments import Count
from cnf.cli.frames import check_writable, write_frames
from cnf.cli.options import REMEDY, ReadingOptions, SolverOptions, optional, solving
from cnf.cli.report import likelihood
from cnf.cli.runs import open_run, rows_for, seen_in
from cnf.cli.table_runs import blocks, checked_part, is_table_run, named, open_for, open_table_run, seeded
from cnf.cli.tables import check_suffix, table_bytes
from cnf.cli.usage import UsageError, check_numbers, note, part_of
from cnf.data.keys import row_keys
from cnf.data.sketch import Seen, keys_of
from cnf.errors import DataError, SampleError
from cnf.failures import told
from cnf.files import write_pieces
from cnf.metrics import mean_and_error, score_rows
from cnf.tables import TableFlow, to_numbers
from cnf.tables.unusual import conformal, two_sided
from cnf.training.launch import Launch, find_launch

if TYPE_CHECKING:
    import polars as pl

Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
UNUSUAL = 0.01  # p-value below which rows are counted


@dataclass
class Score(ReadingOptions, SolverOptions):
    """Print the mean log-density of data under a trained model; with --out, write that of each row.

    Of a table with columns of any kinds, the file also has for each row the conformal p-value (small for rows that are
    less likely than nearly all of those that training was judged by), the typicality (small also for rows that are too
    likely), and the column that is the most unusual given the others. Under torchrun, each process scores a share of
    the rows and writes a part of the file.

    Args:
        folder: Folder that `cnf fit` wrote.
        data: A table with the columns of the training data (other columns are ignored), or the name of a
            built-in data set, for its test rows.
        out: A .csv or .npy file for the log-density of each row, in nats; of a table of any kinds also .parquet, …
        unknown: What a level is that the training had not: an error, or impossible, with log-density −inf.
        batch_size: Rows evaluated together; a .npy table is never in memory as a whole.
        progress: Show a progress bar.
    """

    folder: Positional[Folder]
    data: Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    out: Annotated[Path | None, optional("FILE")] = None
    unknown: Annotated[str, tyro.conf.arg(metavar="error|impossible")] = "error"
    batch_size: Count = 2048
    progress: bool = True

    def __call__(self) -> None:
        check_numbers(self)
        if is_table_run(self.folder):
            check_writable(self.out)
            TableScore(self).run(find_launch())
        else:
            check_suffix(self.out)
            self._of_numbers()

    def _of_numbers(self) -> None:
        header = self.header_given()
        flow, about = open_run(self.folder)
        flow = self.solved(flow)
        rows = rows_for(flow, about, self.data, header, self.sheet)
        with solving(flow):
            log_prob, failures = score_rows(flow, rows, batch_size=self.batch_size, progress=self.progress)
        if log_prob.isnan().all() and failures:
            raise SampleError(told(failures, len(log_prob)), advice=REMEDY)
        how = "" if flow.exact else f", each of them {likelihood(flow)}"
        print(_in_words(log_prob, how))
        if failures:
            print(f"{told(failures, len(log_prob))}; they are left out. Try: {REMEDY}")
        seen = seen_in(self.folder, keys_of(rows))
        if seen is not None and seen.rows:
            print(_warning(seen, log_prob))
        if self.out is not None:
            pieces = log_prob.unsqueeze(1).split(self.batch_size)
            write_pieces(self.out, table_bytes(self.out, pieces, len(log_prob), ["log_prob"]))
            print(f"wrote {self.out}")


def _in_words(log_prob: Tensor, how: str) -> str:
    """The mean over rows, and how many have no density, which are not in it."""
    zeros = (log_prob == -torch.inf).nonzero().flatten().tolist()
    finite = int(log_prob.isfinite().sum())
    if not finite:
        return f"none of the {len(log_prob)} rows has a positive density"
    text = f"log p = {_mean(log_prob)} nats, mean and standard error over {finite} rows{how}"
    if not zeros:
        return text
    where = f"{len(zeros)} of {len(log_prob)} rows have density 0, first {zeros[:5]} (counted from 0)"
    return f"{text}\n{where}: they are left out of the mean"


def _mean(log_prob: Tensor) -> str:
    mean, error = mean_and_error(log_prob[log_prob.isfinite()])
    return f"{mean:.4f} ± {error:.4f}"


def _warning(seen: Seen, log_prob: Tensor) -> str:
    """A warning that the mean includes rows that the model was trained on."""
    about = "" if seen.exact else "about "
    text = f"{about}{seen.rows} of these rows are equal to rows that the model was trained on"
    fresh = log_prob[~torch.from_numpy(seen.known) & log_prob.isfinite()]
    if not seen.exact or not len(fresh):
        return f"{text}: this mean tells little about new rows"
    return f"{text}; over the other {len(fresh)} rows log p = {_mean(fresh)} nats"


@dataclass
class TableScore:
    """The scores of a table of any kinds of columns.

    Args:
        command: What was asked for.
    """

    command: Score
    log_prob: list[np.ndarray] = field(default_factory=list)
    p_values: list[np.ndarray] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)

    def run(self, launch: Launch) -> None:
        """Score the share of a process."""
        command, out = self.command, part_of(self.command.out, launch)
        if command.solver or command.tolerance or command.solver_steps:
            raise UsageError("--solver, --tolerance and --solver-steps are for flows of numbers: leave them out")
        flow, about = open_table_run(command.folder)
        pieces = open_for(flow, command.data, header=command.header_given(), sheet=command.sheet)
        frames = self._frames(flow, blocks(pieces, launch.rank, launch.size), about, pieces.rows // launch.size)
        if out is None:
            for _ in frames:
                continue
        else:
            write_frames(out, frames, pieces.reading.style)
        self._report(flow, out)

    def _frames(
        self, flow: TableFlow, parts: Iterator[tuple[int, pl.DataFrame]], about: dict[str, list[str]], rows: int
    ) -> Iterator[pl.DataFrame]:
        import polars as pl

        command = self.command
        with tqdm(total=rows, desc="log p", unit="row", unit_scale=True, disable=not command.progress) as bar:
            for first, frame in parts:
                try:
                    part, impossible = checked_part(frame, flow, unknown=command.unknown)
                    log_prob = seeded(flow, 0, first).log_prob(part, given=about["context"])
                except DataError as error:
                    raise named(command.data, first, error) from error
                log_prob[impossible] = -np.inf
                p_values = conformal(log_prob, flow.validation)
                for kept, values in ((self.log_prob, log_prob), (self.p_values, p_values)):
                    kept.append(values)
                self.keys.append(row_keys(to_numbers(part, flow.schema)))
                columns: dict[str, Any] = {
                    "log_prob": log_prob,
                    "p_value": p_values,
                    "typicality": two_sided(log_prob, flow.validation),
                }
                if command.out is not None:
                    columns["unusual"] = _most_unusual(flow, part, about["context"])
                yield pl.DataFrame(columns)
                bar.update(len(log_prob))

    def _report(self, flow: TableFlow, out: Path | None) -> None:
        log_prob = torch.from_numpy(np.concatenate(self.log_prob or [np.empty(0)]))
        print(_in_words(log_prob, "" if flow.exact else f", each of them {flow.likelihood}"))
        low = int((np.concatenate(self.p_values or [np.empty(0)]) < UNUSUAL).sum())
        print(
            f"{low} of {len(log_prob)} rows have a p-value below {UNUSUAL}; {UNUSUAL * len(log_prob):.1f} are expected"
        )
        seen = seen_in(self.command.folder, self.keys) if len(log_prob) else None
        if seen is not None and seen.rows:
            print(_warning(seen, log_prob))
            note("p-values of rows that the model was trained on mean nothing")
        if out is not None:
            print(f"wrote {out}")


def _most_unusual(flow: TableFlow, part: pl.DataFrame, context: list[str]) -> list[str]:
    """The column with the largest `−log p(x_j | x_−j)` of each row."""
    found = flow.contributions(part, draws=8)
    names = [name for name in found if name not in context]
    values = np.stack([np.nan_to_num(found[name], nan=-np.inf) for name in names], 1)
    return [names[place] for place in values.argmax(1)]
