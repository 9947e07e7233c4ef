"""Levels that a column had not when its schema was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnf.tables.schema import Schema

if TYPE_CHECKING:
    import polars as pl


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
