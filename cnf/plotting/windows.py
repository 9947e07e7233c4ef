"""Limits of a picture from the bulk of its points, smoothed densities, and their levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """The part of the plane that is shown; `isometric` if a unit is as long along x as along y."""

    left: float
    right: float
    bottom: float
    top: float
    isometric: bool

    @property
    def sides(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Limits of x and of y."""
        return self[:2], self[2:4]

    @property
    def shape(self) -> float:
        """Height over width on paper."""
        return (self.top - self.bottom) / (self.right - self.left) if self.isometric else 1.0

    def centres(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the cells along x and along y, `resolution` of them along the longer side."""
        counts = (round(resolution * min(1, 1 / self.shape)), round(resolution * min(1, self.shape)))
        x, y = (
            low + (np.arange(count) + 0.5) * (high - low) / count
            for (low, high), count in zip(self.sides, counts, strict=True)
        )
        return x, y


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """Limits that show all values except those far outside the middle 99 per cent."""
    low, high = np.quantile(values, [0.005, 0.995])
    reach = 0.25 * (high - low)
    start, end = max(low - reach, values.min()), min(high + reach, values.max())
    margin = 0.07 * (end - start) or 0.5 * max(abs(start), 1)
    return float(start - margin), float(end + margin)


def window_of(sides: np.ndarray) -> Window:
    """A window with at least these sides: isometric and not too flat, unless their lengths differ too much."""
    lengths = np.diff(sides, axis=1)
    isometric = bool(lengths.max() <= 4 * lengths.min())
    if isometric:
        sides = sides.mean(1, keepdims=True) + np.maximum(lengths, 0.65 * lengths.max()) / 2 * np.array([-1, 1])
    (left, right), (bottom, top) = sides.tolist()
    return Window(left, right, bottom, top, isometric)


def path_window(states: np.ndarray) -> Window:
    """A window that shows nearly all points at the end of their path, and 98 per cent of them before."""
    end = np.array([limits_of(states[-1, :, 0]), limits_of(states[-1, :, 1])])
    low, high = np.quantile(states, [0.01, 0.99], axis=1)
    return window_of(np.stack([np.minimum(end[:, 0], low.min(0)), np.maximum(end[:, 1], high.max(0))], 1))


def thin(rows: np.ndarray, n: int) -> np.ndarray:
    """At most `n` rows, evenly spread over all."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)]


def smoothed(points: np.ndarray, window: Window, bins: int, width: float) -> np.ndarray:
    """The points' histogram blurred by a Gaussian of `width` bins, a density up to a factor; the lowest row first."""
    x, y = window.centres(bins)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], (len(y), len(x)), range=window.sides[::-1])
    return _blur(len(y), width) @ counts @ _blur(len(x), width).T / len(points)


def _blur(bins: int, width: float) -> np.ndarray:
    distance = np.subtract.outer(np.arange(bins), np.arange(bins))
    weights: np.ndarray = np.exp(-0.5 * (distance / width) ** 2)
    return weights / weights.sum(0)


def levels(density: np.ndarray, masses: Sequence[float]) -> list[float]:
    """Levels above which the density holds the given parts of its mass."""
    values = np.sort(density, axis=None)[::-1]
    mass = values.cumsum()
    places = np.searchsorted(mass, np.array(masses) * mass[-1]).clip(max=len(values) - 1)
    return [float(value) for value in values[places]]
