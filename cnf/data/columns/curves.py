"""Columns that are a smooth function of another one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnf.data.columns.column import SeenColumn
from cnf.data.columns.dependence import ORDERED, TIED, at_most, standardized

CURVED = 1e-3  # off the line between neighbours, in standard deviations, of a column on a curve over another one
CURVE_RATIO = 2.5  # of that at twice the distance: 4 on a curve, 1 for noise
MOST_CURVES = 64  # columns that are compared with each other


def curves(context: Sequence[SeenColumn], x: Sequence[SeenColumn]) -> dict[str, str]:
    """Columns that are a smooth function of another one, such as its square, by name; straight lines are left out.

    In the order of one column, another one is compared with the straight line between its neighbours at distances 1 and
    2. On a smooth curve the difference is a fourth as large at half the distance; for noise it is as large.
    """
    some = at_most(len(x[0].values), ORDERED)
    columns = [column for column in (*context, *x) if not column.discrete]
    if len(x[0].values) < ORDERED // 2 or not 2 <= len(columns) <= MOST_CURVES:
        return {}
    z = np.stack([standardized(column.values[some]) for column in columns], 1)
    straight = np.abs(z.T @ z) / len(z) > 1 - TIED
    found: dict[str, str] = {}
    for i, column in enumerate(columns):
        near, far = (_off_the_neighbours(z[z[:, i].argsort()], i, distance) for distance in (1, 2))
        curved = (near < CURVED) & ((far > CURVE_RATIO * near) | (near < CURVED**2))
        for other in (columns[j] for j in (curved & ~straight[i]).nonzero()[0]):
            if column.name not in found and any(other is member for member in x):
                found.setdefault(other.name, f"{other.name} follows from {column.name}")
    return found


def _off_the_neighbours(z: np.ndarray, source: int, distance: int) -> np.ndarray:
    """The median distance of each column of rows `(n, D)`, ordered by one of them, from the line between neighbours."""
    before, here, after = z[: -2 * distance], z[distance:-distance], z[2 * distance :]
    gap = np.maximum(after[:, source] - before[:, source], np.finfo(np.float64).tiny)
    share = ((here[:, source] - before[:, source]) / gap)[:, None]
    off: np.ndarray = np.median(np.abs(here - (1 - share) * before - share * after), 0)
    return off
