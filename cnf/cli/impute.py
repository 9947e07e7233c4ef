"""`cnf impute`: the empty cells of a table, drawn given the others of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from tqdm import tqdm
from tyro.conf import Positional

from cnf.arguments import Count, Seed
from cnf.cli.frames import check_writable, write_frames
from cnf.cli.options import ReadingOptions
from cnf.cli.table_runs import blocks, known_part, named, need_table_run, open_for, open_table_run, seeded
from cnf.cli.usage import UsageError, check_numbers, part_of
from cnf.errors import DataError
from cnf.tables import TableFlow
from cnf.training.launch import find_launch

if TYPE_CHECKING:
    import polars as pl

Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
DRAW = "draw"  # name of the column that numbers the draws


@dataclass
class Impute(ReadingOptions):
    """Fill the empty cells of a table with draws from their distribution given the other cells of their rows.

    Cells that have values, and columns that the model does not know, stay as they are; columns that the model knows
    and the table lacks are drawn too. Under torchrun, each process fills a share of the rows and writes a part of the
    file.

    Args:
        folder: Folder that `cnf fit` wrote.
        data: A table with columns of the training data.
        out: The file to write: .csv, .tsv, .txt, .parquet, .feather, .xlsx.
        draws: How many times each row is completed; with more than one, the rows of the draws follow each other, and a
            first column `draw` numbers them.
        seed: Random seed; the same seed draws the same cells.
        progress: Show a progress bar.
    """

    folder: Positional[Folder]
    data: Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    draws: Count = 1
    seed: Seed = 0
    progress: bool = True

    def __call__(self) -> None:
        check_numbers(self)
        check_writable(self.out)
        need_table_run(self.folder, "impute")
        launch = find_launch()
        out = part_of(self.out, launch)
        assert out is not None
        flow, _ = open_table_run(self.folder)
        pieces = open_for(flow, self.data, header=self.header_given(), sheet=self.sheet)
        if self.draws > 1 and DRAW in pieces.reading.frame.columns:
            raise UsageError(f"{self.data} has a column {DRAW!r}, which would number the draws: rename it")
        filled = 0

        def frames() -> Iterator[pl.DataFrame]:
            nonlocal filled
            total = pieces.rows // launch.size
            with tqdm(total=total, desc="rows", unit="row", unit_scale=True, disable=not self.progress) as bar:
                for first, frame in blocks(pieces, launch.rank, launch.size):
                    filled += sum(frame[name].null_count() for name in flow.schema.names if name in frame.columns)
                    yield self._completed(flow, first, frame)
                    bar.update(frame.height)

        write_frames(out, frames(), pieces.reading.style)
        print(f"{filled} empty cells filled{f', {self.draws} times' if self.draws > 1 else ''}; wrote {out}")

    def _completed(self, flow: TableFlow, first: int, frame: pl.DataFrame) -> pl.DataFrame:
        """Some rows without empty cells, those of the draws of one row after another."""
        import polars as pl

        part = known_part(frame, flow.schema)
        try:
            drawn = seeded(flow, self.seed, first).impute(part, draws=self.draws)
        except DataError as error:
            raise named(self.data, first, error) from error
        tables = [_filled(frame, each) for each in (drawn if self.draws > 1 else [drawn])]
        if self.draws == 1:
            return tables[0]
        numbered = [table.insert_column(0, pl.Series(DRAW, np.full(table.height, i))) for i, table in enumerate(tables)]
        order = np.arange(frame.height * self.draws).reshape(self.draws, -1).T.ravel()
        return pl.concat(numbered)[order]


def _filled(frame: pl.DataFrame, drawn: pl.DataFrame) -> pl.DataFrame:
    """The table with drawn cells in the place of empty ones; the others are not touched."""
    cells = [
        frame[name].fill_null(drawn[name].cast(frame[name].dtype, strict=False))
        if name in frame.columns and frame[name].null_count() < frame.height
        else drawn[name]
        for name in drawn.columns
        if name not in frame.columns or frame[name].null_count()
    ]
    return frame.with_columns(cells)
