"""Conditions of samples: `--given COLUMN=VALUE,…` or a table of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cnf.cli.runs import context_of_table
from cnf.cli.table_runs import known_part, open_for
from cnf.cli.usage import UsageError
from cnf.data.reading import is_table
from cnf.data.reading.cells import typed
from cnf.tables import Column, Schema, TableFlow

if TYPE_CHECKING:
    import polars as pl


def is_file(given: str) -> bool:
    """Whether conditions stand in a table."""
    return is_table(given) and ("=" not in given or Path(given).is_file())


def _pairs(given: str) -> list[tuple[str, str]]:
    try:
        parts = [pair.rpartition("=") for pair in next(csv.reader([given]), [])]
    except csv.Error as error:
        raise UsageError(f"--given takes COLUMN=VALUE,…, got {given[:60]!r}: {error}") from error
    return [(name.strip(), value.strip()) for name, _, value in parts]


def condition(columns: Sequence[str], given: str) -> Tensor | None:
    """The context of a flow of numbers, `(C,)`, or `(N, C)` of a table; None of a flow without context."""
    if given and not columns:
        raise UsageError(f"--given is for conditional models, and this model has no context: leave it out; got {given}")
    if is_file(given):
        return context_of_table(given, columns)
    parts = _pairs(given)
    pairs = dict(parts)
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


def conditions(flow: TableFlow, given: str) -> pl.DataFrame | None:
    """The conditions of a flow of a table, a row for each; None where nothing is given.

    Raises:
        UsageError: Columns that are not there, or values that a column cannot have.
    """
    import polars as pl

    if not given:
        return None
    if is_file(given):
        frame = known_part(open_for(flow, given, header=None, sheet=None).reading.frame, flow.schema)
        if not frame.width:
            raise UsageError(f"--given {given} has none of the columns of the model, {', '.join(flow.schema.names)}")
        return frame
    pairs = _pairs(given)
    names = [name for name, _ in pairs]
    if unknown := [name for name in names if name not in flow.schema.names]:
        known = ", ".join(flow.schema.names)
        raise UsageError(f"--given takes COLUMN=VALUE,… of the columns {known}; got {', '.join(unknown) or given}")
    if len(set(names)) < len(names):
        raise UsageError(f"--given names a column twice: {given}")
    return pl.DataFrame([_cell(flow.schema, name, text) for name, text in pairs])


def _cell(schema: Schema, name: str, text: str) -> pl.Series:
    import polars as pl

    column = schema[name]
    if not text:
        return pl.Series(name, [None])
    if column.levels:
        return pl.Series(name, [_level(column, text)])
    cells = typed(pl.Series(name, [text])).values
    if column.kind == "date" and not cells.dtype.is_temporal():
        raise UsageError(f"--given {name}={text}: expected a date, such as 2024-01-31")
    if column.kind != "date" and not cells.dtype.is_numeric():
        raise UsageError(f"--given {name}={text}: expected a number, for {name} is {column.kind}")
    return cells


def _level(column: Column, text: str) -> Any:
    """The level that a text names; numbers may be written in other ways, such as 1 for 1.0."""
    for level in column.levels:
        if text == str(level) or (isinstance(level, int | float) and _same_number(level, text)):
            return level
    shown = ", ".join(map(str, column.levels[:20])) + (", …" if len(column.levels) > 20 else "")
    raise UsageError(
        f"--given {column.name}={text}: this value never occurred; the levels of {column.name} are {shown}"
    )


def _same_number(level: float, text: str) -> bool:
    try:
        return float(text) == level
    except ValueError:
        return False
