"""What the columns of a table are, and which kind of model they need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnf.cli.usage import UsageError, names_in
from cnf.data.tabular import OpenTable
from cnf.errors import DataError
from cnf.tables import Reading, Schema, read, schema_of
from cnf.tables.schema import check_names

if TYPE_CHECKING:
    import polars as pl

MOST = 65_536  # rows of an array on disk that are looked at
COARSE = 20  # numbers of float32 that a standard deviation must hold, as for the flow of numbers


def declared(text: str) -> Mapping[str, str] | Schema:
    """What `--kinds` says: kinds by the names of columns, or a whole schema from a JSON file.

    Raises:
        UsageError: It has another form, or the file cannot be read.
    """
    if text.lower().endswith(".json"):
        return _of_file(Path(text).expanduser())
    pairs = [pair.rpartition("=") for pair in names_in(text)]
    if wrong := [pair for pair in pairs if not pair[0].strip() or not pair[2].strip()]:
        raise UsageError(
            f"--kinds takes COLUMN=KIND,…, such as city=category,wind=angle:360, or a .json file; got {wrong[0][2]!r}"
        )
    names = [name.strip() for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise UsageError(f"--kinds names a column twice: {text}")
    return {name.strip(): kind.strip() for name, _, kind in pairs}


def _of_file(path: Path) -> Mapping[str, str] | Schema:
    try:
        text = path.read_text(encoding="utf-8")
        facts = json.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"--kinds {path} is no JSON file that can be read: {error}") from error
    if isinstance(facts, dict) and "columns" in facts:
        try:
            return Schema.from_json(text)
        except DataError as error:
            raise UsageError(f"--kinds {path}: {error}") from error
    if isinstance(facts, dict) and all(isinstance(kind, str) for kind in facts.values()):
        return facts
    raise UsageError(
        f'--kinds {path}: expected kinds by the names of columns, such as {{"wind": "angle:360"}}, or a schema.json'
    )


def as_text(kinds: Mapping[str, str] | Schema) -> list[str]:
    """The columns whose cells are kept as they are written."""
    if isinstance(kinds, Schema):
        return [column.name for column in kinds.columns if column.levels and column.dtype == "String"]
    return [name for name, kind in kinds.items() if kind.startswith("category")]


def seen_schema(path: str, opened: OpenTable, kinds: Mapping[str, str] | Schema, drop: Sequence[str]) -> Schema:
    """The schema of a table in a file; an error names the file."""
    reading = opened.reading or _of_array(opened.path)
    try:
        if isinstance(kinds, Schema):
            check_names(kinds.names, reading.frame.columns, "the schema of --kinds")
            return kinds
        check_names(kinds, reading.frame.columns, "--kinds")
        check_names(drop, reading.frame.columns, "--drop")
        return schema_of(reading.frame, kinds=kinds, drop=drop, mixed=reading.mixed)
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(path) else f"{path}: {text}") from error


def _of_array(path: Path) -> Reading:
    """The first rows of an array that may be larger than memory."""
    values = np.load(path, mmap_mode="r")
    return read(np.array(values.reshape(len(values), -1)[:MOST]))


def is_plain(schema: Schema, frame: pl.DataFrame | None, drop: Sequence[str] = ()) -> bool:
    """Whether a table needs no more than a flow of numbers: complete columns of real numbers.

    A column with empty cells, text, whole numbers, few values, rounded values, values that many rows share, angles or
    dates needs a flow of tables, and so does one that float32 cannot hold before an offset is taken from it.
    """
    return not set(schema.left_out) - set(drop) and all(
        column.kind in ("real", "positive") and not (column.empty or column.step or column.atoms)
        and (frame is None or _is_fine(frame[column.name]))
        for column in schema.columns
    )  # fmt: skip


def _is_fine(cells: pl.Series) -> bool:
    """Whether float32 tells the values apart."""
    values = cells.to_numpy().astype(np.float64)
    largest, eps = np.abs(values).max(), np.finfo(np.float32).eps
    tiny, huge = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    return bool(tiny < largest < huge and values.std() > COARSE * eps * abs(values.mean()))
