"""A picture as a density: a continuous flow learns the drawing of a butterfly, from points as dense as it is dark.

The field is any `nn.Module`, here one that reads sines of the position, without which a network is slow to learn sharp
edges. It is trained by matching on optimally paired points. The drawing is a density too, so there is a number to look
at, KL(picture ‖ model). The spots and the veins of the lower wings would take longer. Four minutes of one core.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

import cnf
from cnf.metrics import kl_to, log_prob_of_rows
from cnf.plotting import path_animation
from experiments.figures.density_from_image import PAPER, figure, ours
from experiments.parts.butterfly import cell, centres, drawing, points
from experiments.run import run


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
    gap = kl_to(flow, test, exact)
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


SMOKE = {
    "rows": 5_000,
    "test_rows": 200,
    "steps": 10,
    "width": 32,
    "travellers": 2_000,
    "resolution": 60,
    "cells": 40,
    "frames": 5,
}

if __name__ == "__main__":
    run("density_from_image", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
