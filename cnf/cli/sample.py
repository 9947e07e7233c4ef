"""`cnf sample`: rows from a trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from cnf.arguments import Count, NonNegative, Seed
from cnf.cli.frames import check_writable, text_of, write_frames
from cnf.cli.given import condition, conditions
from cnf.cli.options import SolverOptions, optional, solving
from cnf.cli.runs import condition as of_classes
from cnf.cli.runs import open_run
from cnf.cli.table_runs import ROWS, is_table_run, open_table_run, seeded, style_of
from cnf.cli.tables import check_suffix, csv_text, table_bytes
from cnf.cli.usage import UsageError, check_numbers
from cnf.continuous.guidance import guided
from cnf.errors import CnfError
from cnf.files import write_pieces
from cnf.flows import Flow
from cnf.objectives.matching import FlowMatching
from cnf.tables import TableFlow

if TYPE_CHECKING:
    import polars as pl

Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
SAMPLES = 1_000


@dataclass
class Sample(SolverOptions):
    """Draw samples from a trained model, as a table with the columns that it was trained on.

    Args:
        folder: Folder that `cnf fit` wrote.
        n: Number of samples; with a table of conditions, for each of its rows.
        out: A .csv or .npy file; of a table of any kinds also .tsv, .parquet, .feather, .xlsx.
        given: Values that the samples have, such as --given load=1.5,wind=3 or --given city=Lyon, or a table of them.
            A model of numbers takes those of its context columns, a model of any kinds those of any columns.
        guidance: How much more clearly samples show what is given than the data do, such as 2; of models trained by
            flow matching. They are no samples of the model then.
        seed: Random seed; the same seed draws the same samples.
        batch_size: Samples drawn together.
        progress: Show a progress bar.
    """

    folder: Positional[Folder]
    n: Annotated[Count | None, tyro.conf.arg(aliases=["-n"]), optional("INT", "1000; 1 for each row of a table")] = None
    out: Annotated[Path | None, optional("FILE", "standard output")] = None
    given: Annotated[str, optional("COLUMN=VALUE,…|FILE")] = ""
    guidance: NonNegative = 0.0
    seed: Seed = 0
    batch_size: Count = 2048
    progress: bool = True

    def __call__(self) -> None:
        check_numbers(self)
        if is_table_run(self.folder):
            self._of_table()
        else:
            self._of_numbers()
        if self.out is not None:
            print(f"wrote {self.out}")

    def _of_numbers(self) -> None:
        check_suffix(self.out)
        flow, about = open_run(self.folder)
        flow = self.solved(flow)
        columns = about["columns"] or [f"x{i}" for i in range(flow.event_shape.numel())]
        context = of_classes(flow, about, condition(about["context"], self.given))
        n = self._number(context is not None and context.dim() == 2)
        if context is not None and context.dim() == 2:
            context, n = context.repeat_interleave(n, 0), n * len(context)
        pieces = self._pieces(self._guided(flow, context), context, n)
        with solving(flow):
            if self.out is None:
                for text in csv_text(pieces, columns):
                    sys.stdout.write(text)
            else:
                write_pieces(self.out, table_bytes(self.out, pieces, n, columns))

    def _guided(self, flow: Flow, context: Tensor | None) -> Flow:
        """The flow, with guidance if it is wanted and there is something to guide to."""
        if not self.guidance:
            return flow
        forgets = any(isinstance(each.objective, FlowMatching) and each.objective.forget for each in flow.recipe)
        if context is None or not forgets:
            raise UsageError(
                "--guidance needs a model of some columns given others that was trained without them in some rows: "
                "fit one with --context … --model flow_matching, and give --given"
            )
        return guided(flow, self.guidance)

    def _number(self, of_rows: bool) -> int:
        return self.n or (1 if of_rows else SAMPLES)

    def _pieces(self, flow: Flow, context: Tensor | None, n: int) -> Iterator[Tensor]:
        """The samples, `(batch_size, D)` at a time."""
        generator = torch.Generator().manual_seed(self.seed)
        hidden = not self.progress or n <= self.batch_size
        with tqdm(total=n, desc="samples", unit="row", unit_scale=True, disable=hidden) as bar:
            for piece in flow.sample_in_pieces(n, context, batch_size=self.batch_size, generator=generator):
                _check_finite(piece.flatten(1))
                yield piece.flatten(1)
                bar.update(len(piece))

    def _of_table(self) -> None:
        check_writable(self.out)
        if self.solver or self.tolerance or self.solver_steps:
            raise UsageError("--solver, --tolerance and --solver-steps are for flows of numbers: leave them out")
        flow, about = open_table_run(self.folder)
        frames = self._frames(flow, conditions(flow, self.given))
        if self.out is not None:
            write_frames(self.out, frames, style_of(about))
            return
        for text in text_of(frames, style_of(about)):
            sys.stdout.write(text)

    def _frames(self, flow: TableFlow, given: pl.DataFrame | None) -> Iterator[pl.DataFrame]:
        """The samples, some at a time; those of each condition follow each other."""
        n = self._number(given is not None and given.height > 1)
        total = n if given is None else n * given.height
        with tqdm(
            total=total, desc="samples", unit="row", unit_scale=True, disable=not self.progress or total <= ROWS
        ) as bar:
            for first in range(0, total, ROWS):
                size = min(ROWS, total - first)
                some: Any = (
                    None
                    if given is None
                    else given[torch.arange(first, first + size).div(n, rounding_mode="floor").numpy()]
                )
                yield seeded(flow, self.seed, first).sample(size, given=some).select(flow.schema.names)
                bar.update(size)


def _check_finite(samples: Tensor) -> None:
    bad = int((~samples.isfinite().all(1)).sum())
    if bad:
        raise CnfError(f"{bad} of {len(samples)} samples are NaN or infinite: the model has diverged, train it again")
