"""Kinds of columns, seen by their cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.errors import DataError
from cnf.tables.schema import Column, Schema, check_names, parse_kind

if TYPE_CHECKING:
    import polars as pl

FEW = 50  # distinct numbers with decimals that still are levels
REPEATS = 10  # rows that each of them has on average
FEWEST = 20  # rows of which text can be names
NAMES = 0.5  # of the cells distinct: text that names the rows
SKEWED = 1.5  # skewness from which positive numbers are taken by their logarithm
ATOM = 0.01  # share of the rows that a value of its own needs
STEEP = 10.0  # times the share of its neighbours
TURNS = re.compile(r"angle|azimuth|bearing|heading|direction|phase|longitude", re.IGNORECASE)
STEPS = 10.0 ** np.arange(0, -7, -1)


def schema_of(
    frame: pl.DataFrame,
    *,
    kinds: Mapping[str, str] = {},
    drop: Collection[str] = (),
    mixed: Mapping[str, DataError] = {},
) -> Schema:
    """The schema of a table; what a person declares is believed, the rest is seen by the cells.

    Args:
        frame: The table.
        kinds: Names of columns to their kinds, see `parse_kind`.
        drop: Names of columns to leave out.
        mixed: Errors of columns that are neither numbers nor text, see `Reading`; raised where no kind is declared.

    Raises:
        DataError: An unknown column or kind, an empty or constant column, levels that are more than the rows.

    Example:
        >>> import polars as pl
        >>> frame = pl.DataFrame({"sex": ["f", "m", "f", "m"], "height": [1.71, 1.8, 1.65, 1.92]})
        >>> [column.kind for column in schema_of(frame).columns]
        ['binary', 'real']
    """
    import polars as pl

    if not isinstance(frame, pl.DataFrame):
        raise TypeError(
            f"frame must be a polars DataFrame, got {type(frame).__name__}: give cnf.tables.read(source).frame"
        )
    check_names(kinds, frame.columns, "kinds")
    check_names(drop, frame.columns, "drop")
    columns, left_out = [], dict.fromkeys(drop, "as declared")
    for cells in frame.iter_columns():
        if cells.name in drop:
            continue
        if cells.name in mixed and cells.name not in kinds:
            raise mixed[cells.name]
        if cells.name not in kinds and _names_rows(cells):
            left_out[cells.name] = f"text with {cells.n_unique()} different values in {len(cells)} rows"
        else:
            columns.append(column_of(cells, kinds.get(cells.name)))
    if not columns:
        raise DataError("expected a column to model, got none: all are left out")
    return Schema(tuple(columns), left_out)


def column_of(cells: pl.Series, declared: str | None = None) -> Column:
    """The column that cells are of.

    Raises:
        DataError: It has no cells, or the same in all rows, or cells that do not fit what was declared.
    """
    full = cells.drop_nulls()
    if not len(full):
        raise DataError(f"column {cells.name!r} has no values, all cells are empty: drop it")
    if full.n_unique() == 1:
        raise DataError(f"column {cells.name!r} has the same value in all rows, {full[0]!r}: drop it")
    column = parse_kind(cells.name, declared) if declared else _seen(full)
    column = replace(column, empty=cells.null_count() / len(cells), dtype=str(cells.dtype))
    return _with_details(column, full)


def _names_rows(cells: pl.Series) -> bool:
    import polars as pl

    return cells.dtype == pl.String and len(cells) > FEWEST and cells.n_unique() > NAMES * len(cells)


def _seen(cells: pl.Series) -> Column:
    """The first kind whose sign the cells show."""
    kind, why = next(found for found in _signs(cells) if found is not None)
    return Column(cells.name, kind, why)


def _signs(cells: pl.Series) -> Iterator[tuple[str, str] | None]:
    import polars as pl

    distinct = cells.n_unique()
    yield ("binary", "two values") if distinct == 2 else None
    yield ("category", f"{distinct} different texts") if not cells.dtype.is_numeric() and not _is_date(cells) else None
    yield ("date", "dates") if _is_date(cells) else None
    values = cells.cast(pl.Float64)
    whole = bool((values == values.round()).all())
    yield ("angle", "its name and range") if _turns(cells.name, values) else None
    yield ("integer", "whole numbers") if whole else None
    few = distinct <= FEW and len(cells) >= REPEATS * distinct
    yield ("category", f"{distinct} different numbers") if few else None
    low, skewness = values.min(), values.skew()
    positive = isinstance(low, float) and low > 0 and (skewness or 0) > SKEWED
    yield ("positive", "above 0 and skewed") if positive else None
    yield ("real", "numbers")


def _is_date(cells: pl.Series) -> bool:
    return bool(cells.dtype.is_temporal())


def _turns(name: str, values: pl.Series) -> bool:
    """Whether a column is called an angle and fills a turn in degrees."""
    low, high = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]
    return bool(TURNS.search(name)) and 180 < high - low <= 360 and low >= -180 and high <= 360


def _with_details(column: Column, cells: pl.Series) -> Column:
    """The column with its levels, ends, steps and atoms."""
    return DETAILS[column.kind](column, cells)


def _with_levels(column: Column, cells: pl.Series) -> Column:
    if column.levels:
        if unknown := [value for value in cells.unique().to_list() if str(value) not in column.levels]:
            raise DataError(
                f"column {column.name!r}: the declared levels are {', '.join(column.levels)}, but it has {unknown[:5]}"
            )
        return column
    levels = _levels(cells)
    if column.kind == "binary" and len(levels) != 2:
        raise DataError(f"column {column.name!r}: binary columns have two values, it has {len(levels)}: {levels[:5]}")
    if len(levels) > max(2, NAMES * len(cells)):
        raise DataError(
            f"column {column.name!r} has {len(levels)} levels in {len(cells)} rows, too few for each: drop it"
        )
    return replace(column, levels=levels, ordered=bool(cells.dtype.is_numeric()))


def _levels(cells: pl.Series) -> tuple[Any, ...]:
    """Numbers in their order, others the most frequent first; ties by themselves."""
    counts = cells.value_counts()
    pairs = sorted(counts.rows(), key=lambda pair: (-pair[1], str(pair[0])))
    levels = [value for value, _ in pairs]
    return tuple(sorted(levels) if cells.dtype.is_numeric() else levels)


def _with_ends(column: Column, cells: pl.Series) -> Column:
    values = _values(column, cells)
    low, high = column.low, column.high
    beyond = values[(values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high))]
    if len(beyond):
        raise DataError(f"column {column.name!r}: values outside its bounds {column.range}, such as {beyond[0]:g}")
    if column.kind == "positive" and values.min() <= 0:
        raise DataError(f"column {column.name!r}: positive columns are above 0, the smallest value is {values.min():g}")
    if column.kind == "integer" and (fractions := values[values != values.round()]).size:
        raise DataError(f"column {column.name!r}: integers have no decimals, it has {fractions[0]:g}")
    if column.kind == "integer":
        return replace(column, step=1.0)
    step = _step(values)
    return replace(column, step=step, atoms=() if column.kind == "angle" else _atoms(values, step))


def _with_days(column: Column, cells: pl.Series) -> Column:
    if not _is_date(cells):
        raise DataError(f"column {column.name!r}: expected dates such as 2024-01-31, got {cells[0]!r}")
    return replace(column, low=0.0, step=1.0 if str(cells.dtype) == "Date" else None)


def _values(column: Column, cells: pl.Series) -> np.ndarray:
    if not cells.dtype.is_numeric():
        raise DataError(f"column {column.name!r}: expected numbers for the kind {column.kind}, got {cells[0]!r}")
    values = cells.to_numpy().astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"column {column.name!r}: expected finite numbers, got {values[~np.isfinite(values)][0]:g}")
    return values


def _step(values: np.ndarray) -> float | None:
    """The power of ten that all values are multiples of, where a value is shared by two rows or more on average."""
    if len(np.unique(values)) > len(values) / 2:
        return None
    scaled = np.abs(values).max() * np.finfo(np.float64).eps * 4
    return next((float(s) for s in STEPS if np.abs(values - (values / s).round() * s).max() <= scaled), None)


def _atoms(values: np.ndarray, step: float | None) -> tuple[float, ...]:
    """Values with far more rows than those between their neighbours."""
    distinct, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[: int(1 / ATOM)]
    frequent = order[counts[order] >= max(ATOM * len(values), 2)]
    usual = np.median(counts) if step is not None else 1.0
    return tuple(sorted(float(distinct[place]) for place in frequent if counts[place] >= STEEP * usual))


DETAILS: dict[str, Callable[[Column, pl.Series], Column]] = {
    **dict.fromkeys(("binary", "category"), _with_levels),
    **dict.fromkeys(("real", "positive", "bounded", "integer", "angle"), _with_ends),
    "date": _with_days,
}
