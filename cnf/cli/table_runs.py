"""Folders of flows of tables, and tables that are read for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.cli.runs import DATA, check_about, check_ended
from cnf.cli.usage import UsageError, note, use_threads
from cnf.data.reading import Pieces, Style, open_pieces
from cnf.errors import DataError
from cnf.files import read_json
from cnf.tables import Schema, TableFlow
from cnf.tables.unknown import without_unknown

if TYPE_CHECKING:
    import polars as pl

TABLE, SCHEMA = "table.json", "schema.json"
ROWS = 4_096  # evaluated together: the noise of scores and draws depends on the place of a row in the file alone


def is_table_run(folder: Path) -> bool:
    """Whether a folder holds a flow of a table."""
    return (folder / TABLE).exists()


def need_table_run(folder: Path, command: str) -> None:
    """Refuse a folder of another model.

    Raises:
        UsageError: The run models numbers, not any cells given any others.
    """
    if not is_table_run(folder) and (folder / "model.json").exists():
        raise UsageError(
            f"cnf {command} needs a model of any cells given any others, and {folder} holds another one: train it with "
            "cnf fit … --model any_cnf"
        )


def open_table_run(folder: Path) -> tuple[TableFlow, dict[str, Any]]:
    """The flow of a folder, and the description of its data.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    check_ended(folder)
    flow, about = TableFlow.load(folder), read_json(folder / DATA)
    check_about(folder, about)
    use_threads(flow.flow)
    return flow, about


def style_of(about: dict[str, Any]) -> Style:
    """How the table of a run was written."""
    return Style(**{key: about[key] for key in ("separator", "decimal", "dates") if key in about})


def open_for(flow: TableFlow, path: str, *, header: bool | None, sheet: str | None) -> Pieces:
    """A table to be used with a flow; its columns of text are read as they are written."""
    text = [column.name for column in flow.schema.columns if column.levels and column.dtype == "String"]
    pieces = open_pieces(path, header=header, sheet=sheet, text=text)
    names = set(flow.schema.names)
    for line in pieces.reading.notes:
        note(f"{path}: {line}")
    for name in names & set(pieces.reading.mixed):
        raise pieces.reading.mixed[name]
    if ignored := [name for name in pieces.reading.frame.columns if name not in names]:
        note(f"{path}: the model does not need {', '.join(ignored[:8])}{', …' if len(ignored) > 8 else ''}")
    return pieces


def known_part(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The columns of a table that a flow knows, with the types that its levels have."""
    import polars as pl

    for column in schema.columns:
        if column.name in frame.columns and column.levels and frame[column.name].dtype.is_numeric():
            kind = getattr(pl, column.dtype, None)
            if kind is not None and kind().is_numeric():
                frame = frame.with_columns(pl.col(column.name).cast(kind, strict=False))
    return frame.select(name for name in schema.names if name in frame.columns)


def blocks(pieces: Pieces, rank: int = 0, of: int = 1, rows: int = ROWS) -> Iterator[tuple[int, pl.DataFrame]]:
    """The share of one process in small parts, each with the number of its first row."""
    for start, frame in pieces.share(rank, of):
        for first in range(0, frame.height, rows):
            yield start + first, frame[first : first + rows]


def seeded(flow: TableFlow, seed: int, first: int) -> TableFlow:
    """The flow with the noise of the rows from number `first` on."""
    flow.seed = int(np.random.SeedSequence((seed, first)).generate_state(1)[0] >> 1)
    return flow


def checked_part(frame: pl.DataFrame, flow: TableFlow, *, unknown: str) -> tuple[pl.DataFrame, np.ndarray]:
    """The known columns of some rows, and which rows have a level that is unknown, where these may be there.

    Raises:
        UsageError: `unknown` is neither "error" nor "impossible".
    """
    if unknown not in ("error", "impossible"):
        raise UsageError(f"--unknown must be error or impossible, got {unknown!r}")
    part = known_part(frame, flow.schema)
    if unknown == "impossible":
        return without_unknown(part, flow.schema)
    return part, np.zeros(part.height, dtype=bool)


def named(path: str, first: int, error: DataError) -> DataError:
    """An error of some rows with the name of the file, and the row that they begin with."""
    where = f" (rows counted from row {first} of the file)" if first else ""
    return DataError(f"{path}: {error}{where}")
