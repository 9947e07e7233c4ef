"""Columns in the units of a flow and back: levels by their place, other numbers of the size of 1, angles in radians."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnf.tables.atoms import atoms_of
from cnf.tables.schema import Column

MANY_CELLS = 64  # of a grid of whole numbers, up to which each is a level of its own
ROWS_A_CELL = 20  # on average, which that needs too
FINEST = 2**22  # cells of a grid, which float32 still tells apart
ROUNDING = 1e-6  # of the largest value, for numbers that were float32 once
MARGIN = 1e-6  # of the range of bounded columns, so that their ends have a logit


class Unit(ABC):
    """How one column becomes numbers for a flow; computed in float64, so that large offsets cost no digits.

    Attributes:
        levels: Number of its levels; 0 for a column of numbers.
        whole: Whether its numbers are whole, without levels.
        circle: Whether its numbers are angles in radians.
        atoms: Values, as the table has them, that have a probability of their own.
    """

    levels: int = 0
    whole: bool = False
    circle: bool = False
    atoms: tuple[float, ...] = ()

    @property
    def counted(self) -> tuple[float, ...]:
        """The atoms whose log-probability is that of the value, not of a density."""
        return self.atoms

    @abstractmethod
    def encode(self, values: np.ndarray) -> np.ndarray:
        """The numbers of a flow, `(N,)`, NaN for empty cells and for values that the flow knows nothing of."""

    @abstractmethod
    def decode(self, x: np.ndarray) -> np.ndarray:
        """The values, `(N,)`."""

    @abstractmethod
    def log_slope(self, values: np.ndarray) -> np.ndarray:
        """`log |dx/dvalue|`; of probabilities the measure is counting, of rounded numbers the width of a cell."""


@dataclass(frozen=True)
class Grid(Unit):
    """Values `offset + step k`: k = 0, 1, … are levels, or whole numbers where `levels` is 0.

    Attributes:
        dense: Whether log-probabilities are per unit of the values, as those of rounded real numbers, not per value.
        counted: Values of which they are probabilities nevertheless.
    """

    offset: float = 0.0
    step: float = 1.0
    levels: int = 0
    dense: bool = False
    low: float = -math.inf
    high: float = math.inf
    atoms: tuple[float, ...] = ()
    counted: tuple[float, ...] = ()

    @property
    def whole(self) -> bool:  # type: ignore[override]
        return not self.levels

    def encode(self, values: np.ndarray) -> np.ndarray:
        places = np.round((values - self.offset) / self.step)
        if not self.levels:
            return places
        return np.where((places >= 0) & (places < self.levels), places, np.nan)

    def decode(self, x: np.ndarray) -> np.ndarray:
        return np.clip(self.offset + self.step * np.round(x), self.low, self.high)

    def log_slope(self, values: np.ndarray) -> np.ndarray:
        return np.full(values.shape, -math.log(self.step) if self.dense else 0.0)


@dataclass(frozen=True)
class Linear(Unit):
    """`x = (value − offset) / scale`."""

    offset: float
    scale: float
    atoms: tuple[float, ...] = ()

    def encode(self, values: np.ndarray) -> np.ndarray:
        return (values - self.offset) / self.scale

    def decode(self, x: np.ndarray) -> np.ndarray:
        return self.offset + self.scale * x

    def log_slope(self, values: np.ndarray) -> np.ndarray:
        return np.full(values.shape, -math.log(self.scale))


@dataclass(frozen=True)
class Logarithm(Unit):
    """`x = (log value − offset) / scale`."""

    offset: float
    scale: float
    atoms: tuple[float, ...] = ()

    def encode(self, values: np.ndarray) -> np.ndarray:
        return (np.log(values) - self.offset) / self.scale

    def decode(self, x: np.ndarray) -> np.ndarray:
        return np.exp(self.offset + self.scale * x)

    def log_slope(self, values: np.ndarray) -> np.ndarray:
        return -np.log(values) - math.log(self.scale)


@dataclass(frozen=True)
class Bounded(Unit):
    """`x = logit((value − low) / (high − low))`, with a margin of 10⁻⁶ at both ends."""

    low: float
    high: float
    atoms: tuple[float, ...] = ()

    def encode(self, values: np.ndarray) -> np.ndarray:
        share = self._share(values)
        return np.log(share) - np.log1p(-share)

    def decode(self, x: np.ndarray) -> np.ndarray:
        share = (1 / (1 + np.exp(-x)) * (1 + 2 * MARGIN)) - MARGIN
        return np.clip(self.low + (self.high - self.low) * share, self.low, self.high)

    def log_slope(self, values: np.ndarray) -> np.ndarray:
        share = self._share(values)
        return -np.log(share) - np.log1p(-share) - math.log((1 + 2 * MARGIN) * (self.high - self.low))

    def _share(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.low) / (self.high - self.low) + MARGIN) / (1 + 2 * MARGIN)


@dataclass(frozen=True)
class Turn(Unit):
    """`x = 2π value / period − π`, an angle."""

    period: float
    circle = True

    def encode(self, values: np.ndarray) -> np.ndarray:
        return 2 * math.pi * (values / self.period % 1) - math.pi

    def decode(self, x: np.ndarray) -> np.ndarray:
        return (x + math.pi) / (2 * math.pi) * self.period % self.period

    def log_slope(self, values: np.ndarray) -> np.ndarray:
        return np.full(values.shape, math.log(2 * math.pi / self.period))


UNITS: dict[str, Callable[..., Unit]] = {
    "grid": Grid, "linear": Linear, "logarithm": Logarithm, "bounded": Bounded, "turn": Turn
}  # fmt: skip


def unit_of(column: Column, values: np.ndarray, seen: np.ndarray | None = None) -> Unit:
    """How a column with these values, `(N,)` with NaN for empty cells, becomes numbers for a flow.

    Args:
        column: The column.
        values: Its cells.
        seen: Those of them that say which values are atoms; all by default.
    """
    there = values[~np.isnan(values)]
    seen = there if seen is None else seen[~np.isnan(seen)]
    if column.levels:
        return Grid(levels=len(column.levels))
    if column.period is not None:
        return Turn(column.period)
    step = _step(column, there)
    if step is not None and np.ptp(there) / step < FINEST:
        return _grid(column, there, step, seen)
    atoms = atoms_of(seen, None, column.atoms)
    if column.kind == "bounded":
        return Bounded(float(column.low or 0.0), float(column.high if column.high is not None else 1.0), atoms)
    if column.kind == "positive":
        return Logarithm(*_centre(np.log(there)), atoms)
    return Linear(*_centre(there), atoms)


def _step(column: Column, values: np.ndarray) -> float | None:
    """The distance that all differences are multiples of; None where values are not on a grid."""
    distinct = np.unique(values)
    differences = np.diff(distinct)
    if column.kind == "integer":
        return float(np.gcd.reduce(differences.astype(np.int64))) or 1.0
    if column.step is not None or len(distinct) > len(values) / 2 or len(distinct) < 3:
        return column.step
    places = np.round((distinct - distinct[0]) / differences.min())
    step = float(np.ptp(distinct) / places[-1])
    rounding = ROUNDING * np.abs(distinct).max()
    return step if np.abs(distinct[0] + step * places - distinct).max() <= min(rounding, 0.1 * step) else None


def _grid(column: Column, values: np.ndarray, step: float, seen: np.ndarray) -> Grid:
    whole = column.kind in ("integer", "date")
    low = values.min() if column.kind != "integer" or column.low is None else column.low
    high = values.max() if column.kind != "integer" or column.high is None else column.high
    cells = round((high - low) / step) + 1
    if cells <= MANY_CELLS and len(values) >= ROWS_A_CELL * cells:
        return Grid(float(low), step, int(cells), dense=not whole, counted=column.atoms)
    ends, atoms = _ends(column, values), atoms_of(seen, step, column.atoms)
    return Grid(float(low + step * (cells // 2)), step, 0, not whole, *ends, atoms, column.atoms)


def _ends(column: Column, values: np.ndarray) -> tuple[float, float]:
    """What values of a grid cannot leave: declared ends, and 0 where none is below."""
    low = column.low if column.kind in ("integer", "bounded") else None
    high = column.high if column.kind in ("integer", "bounded") else None
    lowest = 0.0 if values.min() >= 0 and column.kind != "date" else -math.inf
    return lowest if low is None else low, math.inf if high is None else high


def _centre(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation."""
    scale = float(values.std())
    return float(values.mean()), scale if scale > 0 else 1.0


def unit_from_json(facts: dict[str, Any]) -> Unit:
    """The unit that `unit_to_json` wrote."""
    kind, fields = facts["unit"], {key: value for key, value in facts.items() if key != "unit"}
    return UNITS[kind](**{key: _plain(value) for key, value in fields.items()})


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def unit_to_json(unit: Unit) -> dict[str, Any]:
    """A unit as numbers and words.

    Example:
        >>> unit_from_json(unit_to_json(Linear(1.0, 2.0)))
        Linear(offset=1.0, scale=2.0, atoms=())
    """
    name = next(name for name, kind in UNITS.items() if kind is type(unit))
    fields = {key: str(value) if value in (math.inf, -math.inf) else value for key, value in vars(unit).items()}
    return {"unit": name, **fields}
