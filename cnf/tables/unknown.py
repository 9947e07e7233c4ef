"""Levels that a column had not when its schema was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.tables.codec import to_numbers
from cnf.tables.coding import Coded, Coding
from cnf.tables.reading import read
from cnf.tables.schema import Schema

if TYPE_CHECKING:
    import polars as pl

UNKNOWN = ("error", "impossible")  # what unknown levels are


def without_unknown(frame: pl.DataFrame, schema: Schema) -> tuple[pl.DataFrame, np.ndarray]:
    """The table with empty cells in the place of unknown levels, and which rows had one, `(N,)`.

    Example:
        >>> import polars as pl
        >>> from cnf.tables import schema_of
        >>> schema = schema_of(pl.DataFrame({"sex": ["f", "m", "f"]}))
        >>> frame, unknown = without_unknown(pl.DataFrame({"sex": ["m", "x"]}), schema)
        >>> frame["sex"].to_list(), unknown.tolist()
        (['m', None], [False, True])
    """
    import polars as pl

    unknown = np.zeros(frame.height, dtype=bool)
    for column in schema.columns:
        if column.levels and column.name in frame.columns and frame[column.name].dtype != pl.Boolean:
            cells = frame[column.name]
            strange = cells.is_not_null() & ~cells.cast(pl.String).is_in([str(level) for level in column.levels])
            unknown |= strange.to_numpy()
            frame = frame.with_columns(pl.when(strange).then(None).otherwise(cells).alias(column.name))
    return frame, unknown


def coded_rows(table: Any, schema: Schema, coding: Coding, *, unknown: str = "error") -> Coded:
    """The rows of a table for a flow; those with unknown levels are impossible, where these may be there.

    Raises:
        ValueError: `unknown` is neither "error" nor "impossible".
        DataError: Cells do not fit the schema.
    """
    if unknown not in UNKNOWN:
        raise ValueError(f"unknown must be {' or '.join(map(repr, UNKNOWN))}, got {unknown!r}")
    frame = read(table).frame
    if unknown == "error":
        return coding.encode(to_numbers(frame, schema))
    frame, strange = without_unknown(frame, schema)
    coded = coding.encode(to_numbers(frame, schema))
    return coded._replace(impossible=coded.impossible | strange)
