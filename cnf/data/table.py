"""Finite numbers in named columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnf.errors import DataError

CHUNK = 2**21  # cells looked at together: 16 MB of float64, whatever the size of a memory map
SHOWN = 5  # rows and columns that an error message lists before it says "..."


@dataclass(frozen=True, eq=False)
class Table:
    """Finite numbers in named columns.

    Args:
        values: The numbers, `(N, D)`, float32 or float64; possibly a read-only memory map.
        columns: The D names.
        name: Name of the table: that of its file without the suffix.
        header: Line of the file that holds the names, counted from 1; None if the file has no names.

    Example:
        >>> import numpy as np
        >>> Table(np.zeros((4, 2)), ("flow", "power"), "pump").values.shape
        (4, 2)
    """

    values: np.ndarray
    columns: tuple[str, ...]
    name: str
    header: int | None = None


def select(table: Table, context: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray | None]:
    """Separate the columns to model from the columns to condition on.

    The results are views of the table if their columns are evenly spaced, so that nothing is read from a memory map;
    otherwise they are copies.

    Args:
        table: A table of D columns.
        context: Names of C columns, in the order wanted.

    Returns:
        `x`, `(N, D − C)`, in the table's order, and `context`, `(N, C)`, or None when no name is given.

    Raises:
        DataError: A name is unknown or given twice, or no column is left.

    Example:
        >>> import numpy as np
        >>> table = Table(np.arange(6.0).reshape(2, 3), ("a", "b", "c"), "example")
        >>> x, context = select(table, ["b"])
        >>> x.tolist(), context.tolist()
        ([[0.0, 2.0], [3.0, 5.0]], [[1.0], [4.0]])
    """
    known = f"the columns of {table.name} are {', '.join(table.columns)}"
    unknown = [name for name in context if name not in table.columns]
    if unknown:
        raise DataError(f"expected context columns that exist, got {', '.join(map(repr, unknown))}; {known}")
    if len(set(context)) < len(context):
        raise DataError(f"expected each context column once, got {', '.join(context)}; {known}")
    chosen = [table.columns.index(name) for name in context]
    kept = [index for index in range(len(table.columns)) if index not in chosen]
    if not kept:
        raise DataError(f"expected a column to model, got all as context; leave one out of the context ({known})")
    return take(table.values, kept), take(table.values, chosen) if chosen else None


def take(values: np.ndarray, columns: list[int]) -> np.ndarray:
    """Columns of an array: a view if they are evenly spaced, for a list of indices reads a memory map as a whole."""
    step = columns[1] - columns[0] if len(columns) > 1 else 1
    if step > 0 and columns == list(range(columns[0], columns[-1] + 1, step)):
        return values[:, columns[0] : columns[-1] + 1 : step]
    return values[:, columns]


def check_columns(table: Table) -> None:
    """Check that no column is constant: a constant has no density.

    Args:
        table: The table; a memory map is read in pieces.

    Raises:
        DataError: A column has the same value in all rows; the message names the column and the value.
    """
    low, high = table.values[0], table.values[0]
    for _, chunk in chunks(table.values):
        low, high = np.minimum(low, chunk.min(0)), np.maximum(high, chunk.max(0))
    constant = [f"{table.columns[i]!r} (always {low[i]:g})" for i in np.flatnonzero(low == high)]
    if constant:
        raise DataError(
            f"{table.name}: expected columns that vary, got the same value in all {len(table.values)} "
            f"rows for {shortened(constant)}; drop such columns, a constant has no density"
        )


def check_finite(
    path: Path, table: Table, locate: Callable[[Sequence[int]], str], *, what: str = "NaN or infinite", advice: str = ""
) -> None:
    """Raise a `DataError` if a cell is NaN or infinite; `locate` puts numbers of rows into words."""
    counts = np.zeros(len(table.columns), dtype=int)
    rows: list[list[int]] = [[] for _ in table.columns]
    for start, chunk in chunks(table.values):
        bad = ~np.isfinite(chunk)
        counts += bad.sum(0)
        for column in np.flatnonzero(bad.any(0)):
            rows[column] += (start + np.flatnonzero(bad[:, column]))[: SHOWN + 1].tolist()
    bad_columns = np.flatnonzero(counts)
    found = [f"{counts[i]} in column {table.columns[i]!r} at {locate(rows[i])}" for i in bad_columns[: SHOWN + 1]]
    if found:
        raise DataError(
            f"{path}: expected finite numbers, got {counts.sum()} {what} cells: "
            f"{shortened(found)}; remove these rows or fill the cells{advice} "
            "(a number beyond 1.8e308 reads as infinite)"
        )


def check_distinct(names: Sequence[str], where: object) -> None:
    """Raise a `DataError` if a name comes twice."""
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: expected distinct column names, got {', '.join(twice)} twice; rename them")


def positions(path: Path, columns: Sequence[str], only: Sequence[str] | None) -> list[int]:
    """Places of the wanted columns."""
    if only is None:
        return list(range(len(columns)))
    missing = [name for name in only if name not in columns]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}: expected {', '.join(only)}, "
            f"the table has {', '.join(columns)}"
        )
    return [columns.index(name) for name in only]


def default_columns(count: int) -> tuple[str, ...]:
    """Names of columns without names: `x0, x1, …`."""
    return tuple(f"x{index}" for index in range(count))


def chunks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces of consecutive rows, each with the number of its first: a large table is never in memory as a whole."""
    step = max(1, CHUNK // values.shape[1])
    for start in range(0, len(values), step):
        yield start, values[start : start + step]


def shortened(items: Sequence[object]) -> str:
    """The first items of a list, for a message."""
    return ", ".join(str(item) for item in items[:SHOWN]) + (", ..." if len(items) > SHOWN else "")
