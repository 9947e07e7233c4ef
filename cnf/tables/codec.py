"""A table as numbers and back: levels by their place, dates as days, empty cells as NaN."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.errors import DataError
from cnf.tables.schema import Column, Schema

if TYPE_CHECKING:
    import polars as pl

DAY = 86_400.0  # seconds
SHOWN = 5  # rows that a message lists


def to_numbers(frame: pl.DataFrame, schema: Schema) -> np.ndarray:
    """The cells as numbers, `(N, D)` in float64, NaN where they are empty.

    Levels are their place among the levels, dates are days since 1970, angles are within their period.

    Args:
        frame: The table.
        schema: The columns, with their kinds and levels.

    Raises:
        DataError: A column is missing, or a cell has a level or a value that the column cannot have; the message names
            the column, the value and the first rows.

    Example:
        >>> import polars as pl
        >>> from cnf.tables import schema_of
        >>> frame = pl.DataFrame({"sex": ["f", "m", "f", None], "age": [20, 31, 31, 44]})
        >>> to_numbers(frame, schema_of(frame)).tolist()
        [[0.0, 20.0], [1.0, 31.0], [0.0, 31.0], [nan, 44.0]]
    """
    if missing := [name for name in schema.names if name not in frame.columns]:
        raise DataError(f"the table lacks the columns {', '.join(missing)}: it has {', '.join(frame.columns)}")
    return np.stack([NUMBERS.get(column.kind, _of_values)(column, frame[column.name]) for column in schema.columns], 1)


def to_frame(values: np.ndarray, schema: Schema) -> pl.DataFrame:
    """The table that numbers stand for, with the types and levels that its columns had.

    Args:
        values: `(N, D)`; NaN where cells are empty.
        schema: Of the columns.

    Example:
        >>> import polars as pl
        >>> from cnf.tables import schema_of
        >>> frame = pl.DataFrame({"sex": ["f", "m", "f", None], "age": [20, 31, 31, 44]})
        >>> to_frame(to_numbers(frame, schema_of(frame)), schema_of(frame)).equals(frame)
        True
    """
    import polars as pl

    columns = zip(schema.columns, values.T, strict=True)
    return pl.DataFrame([CELLS.get(column.kind, _values_of)(column, numbers) for column, numbers in columns])


def _of_levels(column: Column, cells: pl.Series) -> np.ndarray:
    import polars as pl

    places = {_key(level): float(place) for place, level in enumerate(column.levels)}
    numbers = cells.map_elements(lambda cell: places.get(_key(cell), -1.0), return_dtype=pl.Float64)
    _refuse(
        column, cells, numbers == -1.0, f"levels that it had not before (it has {', '.join(map(str, column.levels))})"
    )
    return _filled(numbers)


def _key(level: Any) -> str:
    return str(level)


def _of_values(column: Column, cells: pl.Series) -> np.ndarray:
    import polars as pl

    if not cells.dtype.is_numeric() and cells.null_count() < len(cells):
        raise DataError(f"column {column.name!r}: expected numbers, got {cells.drop_nulls()[0]!r}")
    numbers = cells.cast(pl.Float64)
    low = 0.0 if column.kind == "positive" else column.low
    if low is not None:
        below = numbers <= low if column.kind == "positive" else numbers < low
        _refuse(column, cells, below, f"values below its bound {low:g}")
    if column.high is not None:
        _refuse(column, cells, numbers > column.high, f"values above its bound {column.high:g}")
    if column.kind == "integer":
        _refuse(column, cells, numbers != numbers.round(), "values that are no whole numbers")
    _refuse(column, cells, numbers.is_infinite(), "infinite values")
    return _filled(numbers if column.period is None else numbers % column.period)


def _of_dates(column: Column, cells: pl.Series) -> np.ndarray:
    import polars as pl

    if not cells.dtype.is_temporal() and cells.null_count() < len(cells):
        raise DataError(f"column {column.name!r}: expected dates, got {cells.drop_nulls()[0]!r}")
    return _filled(cells.cast(pl.Datetime("us")).dt.epoch("us") / (DAY * 1e6))


def _filled(numbers: pl.Series) -> np.ndarray:
    return numbers.fill_null(float("nan")).to_numpy().astype(np.float64)


def _refuse(column: Column, cells: pl.Series, bad: pl.Series, what: str) -> None:
    rows = bad.fill_null(False).arg_true()
    if len(rows):
        raise DataError(
            f"column {column.name!r}: {len(rows)} rows have {what}, first {cells[rows[0]]!r} in row {rows[0]} "
            f"(rows {rows[:SHOWN].to_list()}, counted from 0)"
        )


def _levels_of(column: Column, numbers: np.ndarray) -> pl.Series:
    import polars as pl

    places = [None if np.isnan(number) else int(number) for number in numbers]
    cells = [None if place is None else column.levels[place] for place in places]
    return pl.Series(column.name, cells, dtype=_type(column))


def _values_of(column: Column, numbers: np.ndarray) -> pl.Series:
    import polars as pl

    if column.step is not None:
        numbers = numbers.round(round(-math.log10(column.step)))
    if column.period is not None:
        numbers = numbers % column.period
    cells = pl.Series(column.name, numbers, dtype=pl.Float64).fill_nan(None)
    return (cells.round() if _type(column).is_integer() else cells).cast(_type(column))


def _dates_of(column: Column, numbers: np.ndarray) -> pl.Series:
    import polars as pl

    days = numbers.round() if column.step is not None else numbers
    start = datetime.datetime(1970, 1, 1)
    cells = [None if np.isnan(day) else start + datetime.timedelta(days=float(day)) for day in days]
    return pl.Series(column.name, cells, dtype=pl.Datetime("us")).cast(_type(column))


def _type(column: Column) -> pl.DataType:
    """The type of Polars that a column's cells had."""
    import polars as pl

    if column.dtype.startswith("Datetime"):
        return pl.Datetime("us")
    kind = getattr(pl, column.dtype.split("(")[0], pl.String)
    return pl.String() if kind in (pl.Categorical, pl.Enum) else kind()


Numbers = Callable[[Column, "pl.Series"], np.ndarray]
Cells = Callable[[Column, np.ndarray], "pl.Series"]
NUMBERS: dict[str, Numbers] = {"binary": _of_levels, "category": _of_levels, "date": _of_dates}
CELLS: dict[str, Cells] = {"binary": _levels_of, "category": _levels_of, "date": _dates_of}
