"""Columns that follow from another one, row by row: they are left to a lookup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnf.errors import DataError
from cnf.tables.units import Unit

ROWS_A_LEVEL = 5  # on average, of a column that others can follow from
SINGULAR = 1e-10  # smallest eigenvalue of a correlation matrix that is not rounding
BLAMED = 0.1  # part in the singular direction from which a column is named
SHOWN = 8  # columns that an error names


@dataclass(frozen=True)
class Dependence:
    """Column `column` is `table[level]` of column `source`, both by their places.

    Attributes:
        column: Place of the column that follows.
        source: Place of the column that it follows from.
        table: Level of the source to that of the column.
    """

    column: int
    source: int
    table: Mapping[int, int]

    @property
    def inverse(self) -> dict[int, int] | None:
        """Level of the column to that of the source, where it is unique."""
        turned = {value: key for key, value in self.table.items()}
        return turned if len(turned) == len(self.table) else None


def dependences_of(x: np.ndarray, units: Sequence[Unit]) -> tuple[Dependence, ...]:
    """The columns of levels that follow from another one in all rows, `x` `(N, D)` by levels with NaN for empty cells.

    A column that has cells where its source has none follows only if the source follows from it too.

    Example:
        >>> import numpy as np
        >>> from cnf.tables.units import Grid
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]] * 5)
        >>> [(found.column, found.source, dict(found.table)) for found in dependences_of(x, [Grid(levels=2)] * 2)]
        [(1, 0, {0: 1, 1: 0})]
    """
    found: list[Dependence] = []
    places = [place for place, unit in enumerate(units) if unit.levels]
    for column in places[::-1]:
        gone = {each.column for each in found}
        for source in places:
            if source == column or source in gone or any(each.source == column for each in found):
                continue
            table = _table(x[:, source], x[:, column], units[source].levels)
            if table is not None:
                found.append(Dependence(column, source, table))
                break
    return tuple(found[::-1])


def check_lines(values: np.ndarray, names: Sequence[str], units: Sequence[Unit]) -> None:
    """Check that no column of numbers with a density is a linear function of others, `(N, D)` with NaN for empty cells.

    Raises:
        DataError: One is, so that they have no density together; the message names them.
    """
    places = [place for place, unit in enumerate(units) if not (unit.levels or unit.circle)]
    rows = values[:, places][~np.isnan(values[:, places]).any(1)]
    if len(places) < 2 or len(rows) <= len(places):
        return
    standard = (rows - rows.mean(0)) / np.maximum(rows.std(0), np.finfo(float).tiny)
    sizes, directions = np.linalg.eigh(standard.T @ standard / len(rows))
    if sizes[0] < SINGULAR:
        blamed = [repr(names[places[place]]) for place in np.flatnonzero(np.abs(directions[:, 0]) > BLAMED)]
        raise DataError(
            f"columns {', '.join(blamed[:SHOWN])} follow from each other by a linear equation, so they have no density "
            "together: drop one of them"
        )


def _table(source: np.ndarray, column: np.ndarray, levels: int) -> dict[int, int] | None:
    both = ~np.isnan(source) & ~np.isnan(column)
    high = int(np.nanmax(column, initial=0)) + 1
    pairs = np.unique(source[both].astype(int) * high + column[both].astype(int))  # a number sorts faster than a pair
    table = dict(zip((pairs // high).tolist(), (pairs % high).tolist(), strict=True))
    if len(pairs) != len(table) or len(table) < 2 or both.sum() < ROWS_A_LEVEL * levels:
        return None
    unique = len(set(table.values())) == len(table)
    lost = np.isnan(source) & ~np.isnan(column)
    return None if lost.any() and not unique else table
