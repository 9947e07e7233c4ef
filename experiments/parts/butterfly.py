"""The drawing of a butterfly as a density on a sheet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon
from scipy.interpolate import splev, splprep
from torch import Generator, Tensor

from cnf.plotting import cell_centres

Points = tuple[tuple[float, float], ...]
SHEET = (-2.2, 2.2, -1.8, 2.0)  # left, right, bottom, top: the points' standard deviation is about 1


def cell(darkness: Tensor) -> float:
    """Area of a pixel."""
    left, right, bottom, top = SHEET
    return (right - left) * (top - bottom) / darkness.numel()


def centres(darkness: Tensor) -> Tensor:
    """Middles of the pixels, the lowest row first, `(N, 2)`."""
    return cell_centres(SHEET, (darkness.shape[1], darkness.shape[0]))


def points(darkness: Tensor, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Points as dense as the drawing is dark, `(n, 2)`, and their log-densities."""
    weights = darkness.flatten().double()
    chosen = weights.multinomial(n, replacement=True, generator=generator)
    side = torch.tensor([SHEET[1] - SHEET[0], SHEET[3] - SHEET[2]]) / torch.tensor(
        [darkness.shape[1], darkness.shape[0]]
    )
    x = centres(darkness)[chosen] + side * (torch.rand(n, 2, generator=generator) - 0.5)
    return x, (weights[chosen] / weights.sum() / cell(darkness)).log()


def drawing(pixels: int) -> Tensor:
    """Darkness in [0, 1] of the pixels, the lowest row first."""
    left, right, bottom, top = SHEET
    sheet = Figure(figsize=(6, 6 * (top - bottom) / (right - left)), dpi=pixels / 6)
    canvas = FigureCanvasAgg(sheet)
    axes = sheet.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(left / 1.62, right / 1.62), ylim=(bottom / 1.62, top / 1.62))
    for side in (1, -1):
        half_butterfly(axes, side)
    for y, width, height in ((-0.14, 0.085, 0.64), (0.18, 0.125, 0.32), (0.37, 0.11, 0.11)):
        axes.add_patch(Ellipse((0, y), width, height, color=BLACK, lw=0))
    canvas.draw()
    grey = np.asarray(canvas.buffer_rgba())[::-1, :, 0]
    return 1 - torch.from_numpy(grey / 255).float()


class Wing(NamedTuple):
    outline: Points
    root: tuple[float, float]
    veins: Points  # their ends
    spots: tuple[tuple[float, float, float], ...]  # x, y, radius


WINGS = (
    Wing(
        ((0.04, 0.07), (0.34, 0.13), (0.66, 0.12), (0.92, 0.02), (1.0, -0.20), (0.93, -0.42), (0.78, -0.57),
         (0.63, -0.65), (0.535, -0.71), (0.50, -0.86), (0.485, -0.97), (0.415, -0.98), (0.40, -0.88), (0.36, -0.72),
         (0.22, -0.50), (0.09, -0.22)),
        (0.08, 0.0),
        ((0.96, -0.06), (0.97, -0.30), (0.86, -0.52), (0.53, -0.72)),
        ((0.895, -0.075, 0.04), (0.905, -0.245, 0.042), (0.835, -0.40, 0.042), (0.70, -0.53, 0.038)),
    ),
    Wing(
        ((0.04, 0.08), (0.20, 0.37), (0.48, 0.68), (0.84, 0.92), (1.15, 0.98), (1.23, 0.86), (1.13, 0.64), (1.09, 0.42),
         (1.0, 0.22), (0.74, 0.06), (0.36, 0.0)),
        (0.08, 0.12),
        ((0.86, 0.90), (1.11, 0.80), (1.06, 0.50), (0.90, 0.18)),
        ((1.13, 0.86, 0.047), (1.10, 0.70, 0.042), (1.045, 0.555, 0.038), (1.015, 0.42, 0.035), (0.95, 0.29, 0.031)),
    ),
)  # fmt: skip
BLACK, LINE = "0", 8.0


def half_butterfly(axes: Axes, side: int) -> None:
    mirror = np.array([side, 1.0])
    for wing in WINGS:
        outline, root = smooth(wing.outline), np.array(wing.root)
        edge = axes.add_patch(Polygon(outline * mirror, color=BLACK, lw=0))
        for size in np.linspace(1, 0.05, 40):  # from the pale rim of the cells to their dark root
            inner = 0.80 * size * (outline - root) + root
            axes.add_patch(Polygon(inner * mirror, color=str(0.72 - 0.36 * (1 - size) ** 1.5), lw=0, clip_path=edge))
        for end in np.array(wing.veins):
            way = end - root
            bow = root + 0.4 * way + 0.06 * np.sign(way[1] + 0.3) * np.array([-way[1], way[0]])
            axes.plot(*(bezier(root, bow, end) * mirror).T, color=BLACK, lw=LINE / 2, clip_path=edge, zorder=1)
        axes.add_patch(Polygon(outline * mirror, fill=False, edgecolor=BLACK, lw=LINE))
        for x, y, radius in wing.spots:
            axes.add_patch(Ellipse((side * x, y), 2 * radius, 2 * radius, color="1", lw=0))
    feeler = bezier(np.array([0.02, 0.38]), np.array([0.08, 0.72]), np.array([0.44, 0.9])) * mirror
    axes.plot(*feeler.T, color=BLACK, lw=0.6 * LINE)
    axes.add_patch(Ellipse(feeler[-1], 0.085, 0.085, color=BLACK, lw=0))


def smooth(knots: Points) -> np.ndarray:
    """A closed smooth curve through the points, `(240, 2)`."""
    spline, _ = splprep(np.array([*knots, knots[0]]).T, s=0, per=True)
    return np.stack(splev(np.linspace(0, 1, 240), spline), 1)


def bezier(start: np.ndarray, middle: np.ndarray, end: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, 40)[:, None]
    curve: np.ndarray = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    return curve
