"""One column of a table, and how a message lists several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cnf.spread import WILD

SHOWN = 5  # columns that a message lists of a kind
FEW_VALUES = 256  # of which the likelihood finds each one: a marginal spline has as many knots
ATOM = 0.01  # share of the rows with one value, from which on the likelihood finds it


@dataclass(frozen=True)
class SeenColumn:
    """One column at the flow's precision.

    Args:
        name: Its name in messages.
        values: `(n,)`, in the order of the rows, in float64.
        raw: The same before rounding to the flow's precision.
        eps: Machine epsilon of that precision.
        unit: Size above which rounding errors are relative: 0 for numbers, 1 for logarithms.
    """

    name: str
    values: np.ndarray
    raw: np.ndarray
    eps: float
    unit: float = 0.0

    @cached_property
    def counted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct values in rising order, the place of each row's value, and how many rows have each value."""
        values, places, counts = np.unique(self.values, return_inverse=True, return_counts=True)
        return values, places.reshape(-1), counts

    @property
    def distinct(self) -> int:
        return len(self.counted[0])

    @property
    def whole(self) -> bool:
        return bool((self.counted[0] == np.round(self.counted[0])).all())

    @property
    def step(self) -> float:
        """The resolution: the usual distance between neighbouring values."""
        return float(np.median(np.diff(self.counted[0])))

    @property
    def top(self) -> tuple[float, float]:
        """The most frequent value and its share."""
        values, _, counts = self.counted
        return float(values[counts.argmax()]) + 0.0, float(counts.max() / len(self.values))  # −0 is written as 0

    @property
    def discrete(self) -> bool:
        n = len(self.values)
        return self.distinct <= min(FEW_VALUES, n / 2) or self.atom

    @property
    def atom(self) -> bool:
        return self.top[1] * len(self.values) >= max(10, ATOM * len(self.values))

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Centre and scale of the bulk."""
        low, quarter, middle, third, high = np.quantile(self.values, [0.05, 0.25, 0.5, 0.75, 0.95])
        std = float(self.values.std())
        bulk = (third - quarter) / 1.349 or (high - low) / 3.29
        return (float(middle), float(bulk)) if 0 < bulk < std / WILD else (float(self.values.mean()), std)


def listed(items: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
