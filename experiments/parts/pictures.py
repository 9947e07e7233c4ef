"""Densities and points of pictures: as numbers of a JSON, and drawn from them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Generator, Tensor

from cnf.data import Toy
from cnf.plotting import DENSITY, cell_centres, style_axes


@torch.no_grad()
def density_on(edge: float, cells: int, log_prob: Callable[[Tensor], Tensor], dtype: Any = torch.float32) -> list[int]:
    """The density on a grid over [−edge, edge]², the lowest row first, in thousandths."""
    centres = cell_centres((-edge, edge, -edge, edge), (cells, cells)).to(dtype)
    return [round(1000 * value) for value in log_prob(centres).exp().tolist()]


def shades(source: Toy, log_prob: Callable[[Tensor], Tensor], edge: float, cells: int) -> str:
    """A density on the grid as text, a byte a cell: 200 is the largest density of the data."""
    largest = source.log_prob(source.sample(10_000, generator=Generator().manual_seed(0))).max().exp()
    log_density = log_prob(cell_centres((-edge, edge, -edge, edge), (cells, cells)))
    levels = (200 * log_density.exp() / largest).clamp(max=255).round().to(torch.uint8)
    return base64.b64encode(zlib.compress(levels.numpy().tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """The bytes of `shades`, as a square."""
    levels = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return levels.reshape(2 * [round(len(levels) ** 0.5)])


def columns(x: Tensor) -> list[list[float]]:
    """Points `(N, D)` as D lists, in hundredths."""
    return [[round(value, 2) for value in column] for column in x.T.tolist()]


def square(values: list[Any]) -> np.ndarray:
    """A flat list of the cells of a square."""
    return np.array(values, dtype=float).reshape(2 * [round(len(values) ** 0.5)])


def shade(axes: Axes, density: list[int], darkest: float, edge: float) -> None:
    """A density over [−edge, edge]²; all of a row share their colours by `darkest`."""
    axes.imshow(
        square(density), origin="lower", extent=(-edge, edge, -edge, edge), cmap=DENSITY, vmin=0, vmax=darkest,
        interpolation="bicubic",
    )  # fmt: skip
    style_axes(axes, image=True)
