"""Tables that lack columns: what is given of rows whose other cells are to be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnf.errors import DataError
from cnf.tables.codec import to_numbers
from cnf.tables.reading import read
from cnf.tables.schema import Schema, check_names


def partial_numbers(table: Any, schema: Schema) -> np.ndarray:
    """The numbers of a table, `(N, D)`, NaN in columns that it lacks.

    Raises:
        DataError: Columns that the schema has not, or cells that do not fit it.
    """
    import polars as pl

    frame = read(table).frame
    check_names(frame.columns, schema.names, "the table")
    missing = [name for name in schema.names if name not in frame.columns]
    return to_numbers(frame.with_columns(pl.lit(None).alias(name) for name in missing), schema)


def is_one_row(given: Any) -> bool:
    """Whether conditions are a mapping of columns to single values."""
    return isinstance(given, Mapping) and all(np.ndim(value) == 0 for value in given.values())


def conditions(given: Any, n: int, schema: Schema) -> np.ndarray:
    """Conditions of n rows as numbers, `(n, D)`: a mapping of columns to values, a table of one row or of n, or None.

    Raises:
        DataError: Another number of rows, or conditions that do not fit the schema.
    """
    if given is None:
        return np.full((n, len(schema.columns)), np.nan)
    values = partial_numbers({key: [value] for key, value in given.items()} if is_one_row(given) else given, schema)
    if len(values) not in (1, n):
        raise DataError(f"expected conditions of one row or of {n} rows, got {len(values)}")
    return np.repeat(values, n, axis=0) if len(values) == 1 else values
