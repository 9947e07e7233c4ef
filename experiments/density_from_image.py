"""A picture as a density: a continuous flow learns the drawing of a butterfly, from points as dense as it is dark.

No paper's figure, but what all of them are about: noise becomes data along one smooth motion, and every point of the
plane has an exact density. The field is any `nn.Module`, here one that reads sines of the position, without which a
network is slow to learn sharp edges. It is trained by matching on optimally paired points. The drawing is a density
too, so there is a number to look at, KL(picture ‖ model): 0.14 nats after two minutes of training, where the uniform
density on the sheet has 0.92. The spots and the veins of the lower wings would take longer. Four minutes of one core.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon
from scipy.interpolate import splev, splprep
from torch import Generator, Tensor, nn

import cnf
from cnf.metrics import log_prob_of_rows, mean_and_error
from cnf.plotting import DENSITY, INK, path_animation
from experiments.run import run

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Config:
    pixels: int = 640  # of the drawing, along its longer side
    rows: int = 500_000
    test_rows: int = 3_000
    steps: int = 2_500
    batch_size: int = 2_048
    group: int = 128  # rows that are paired optimally among themselves
    late: float = 2.0  # more times near the data, where small things are made
    width: int = 192
    frequencies: int = 64
    finest: float = 40.0  # frequency, in radians a standard deviation
    learning_rate: float = 3e-2
    travellers: int = 150_000  # points in the GIF
    resolution: int = 260  # of the GIF, in cells along its longer side
    cells: int = 200  # of the density, along its longer side
    frames: int = 46
    seed: int = 0


class WaveField(nn.Module):
    """An MLP of t, x and the sines and cosines of random multiples of x, from coarse to fine."""

    def __init__(self, width: int, frequencies: int, finest: float) -> None:
        super().__init__()
        lengths = torch.logspace(0, np.log10(finest), frequencies)
        angles = 2 * np.pi * torch.rand(frequencies)
        self.register_buffer("waves", lengths * torch.stack([angles.cos(), angles.sin()]))
        self.layers = nn.Sequential(
            nn.Linear(3 + 2 * frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        phase = x @ self.waves
        return self.layers(torch.cat([t.reshape(-1, 1).expand(len(x), 1), x, phase.sin(), phase.cos()], 1))


def compute(config: Config) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    draw = Generator().manual_seed(config.seed)
    darkness = drawing(config.pixels)
    train, _ = points(darkness, config.rows, draw)
    test, exact = points(darkness, config.test_rows, draw)
    field = WaveField(config.width, config.frequencies, config.finest)
    flow = cnf.Flow(cnf.CNF(field), cnf.StandardNormal(2))
    matching = cnf.FlowMatching(coupling=cnf.OptimalTransport(group=config.group), late=config.late)
    phase = cnf.Phase(matching, learning_rate=config.learning_rate, optimizer="muon")
    budget = cnf.FitConfig(steps=config.steps, batch_size=config.batch_size, ema=0.998, seed=config.seed)
    fitted = cnf.fit(flow, train, [phase], config=budget)
    gap = mean_and_error(exact - log_prob_of_rows(flow, test).double())
    quick = cnf.reconfigure(flow, solver=cnf.RungeKutta("rk4", steps=16))
    small = drawing(config.cells)
    learned = log_prob_of_rows(quick, centres(small)).exp().reshape(small.shape) * small.sum() * cell(small)
    return {
        "KL": gap.mean, "standard error": gap.standard_error, "training seconds": fitted.seconds,
        "drawn": (1000 * small).round().int().tolist(), "learned": (1000 * learned).round().int().tolist(),
        "samples": (500 * quick.sample(4 * config.test_rows)).round().int().tolist(), "gif": gif(flow, config),
    }  # fmt: skip


def gif(flow: cnf.Flow, config: Config) -> bytes:
    """Noise becoming the drawing."""
    quick = cnf.reconfigure(flow, solver=cnf.RungeKutta("midpoint", steps=2))  # between two of the path's 17 times
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "path.gif"
        path_animation(quick, path, n=config.travellers, resolution=config.resolution, frames=config.frames, hold=3)
        return path.read_bytes()


# The drawing as a density.

SHEET = (-2.2, 2.2, -1.8, 2.0)  # left, right, bottom, top: the points' standard deviation is about 1


def cell(darkness: Tensor) -> float:
    """Area of a pixel."""
    left, right, bottom, top = SHEET
    return (right - left) * (top - bottom) / darkness.numel()


def centres(darkness: Tensor) -> Tensor:
    """Middles of the pixels, the lowest row first, `(N, 2)`."""
    left, right, bottom, top = SHEET
    height, width = darkness.shape
    x = left + (torch.arange(width) + 0.5) * (right - left) / width
    y = bottom + (torch.arange(height) + 0.5) * (top - bottom) / height
    return torch.cartesian_prod(y, x).flip(1)


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


# The figure.


def figure(results: dict[str, Any]) -> Figure:
    numbers = results["seeds"][0]
    picture = Figure(figsize=(9.6, 3.1), layout="constrained")
    panels = picture.subplots(1, 3)
    for axes, name in zip(panels[::2], ("drawn", "learned"), strict=True):
        values = np.array(numbers[name]) / 1000
        axes.imshow(values, origin="lower", extent=SHEET, cmap=DENSITY, vmin=0, vmax=1, interpolation="bilinear")
    samples = np.array(numbers["samples"]) / 500
    panels[1].scatter(samples[:, 0], samples[:, 1], s=0.9, color=INK, linewidths=0)
    for axes, title in zip(panels, ("the drawing", "samples", "the learned density"), strict=True):
        axes.set_title(title, fontsize=10)
        axes.set(xlim=SHEET[:2], ylim=SHEET[2:], aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return picture


if __name__ == "__main__":
    run(
        "density_from_image", Config(), compute, figure,
        {"rows": 5_000, "test_rows": 200, "steps": 10, "width": 32, "travellers": 2_000, "resolution": 60, "cells": 40,
         "frames": 5},
    )  # fmt: skip
