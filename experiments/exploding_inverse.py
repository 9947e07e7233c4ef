"""Reconstruction error of trained flows on the checkerboard and far from it: which inverses explode in float32.

Density, and `|decode(encode(x)) − x|` on [−8, 8]² and on circles far beyond. Affine couplings with unbounded scales,
with bounded ones, a residual flow, and a continuous flow at two tolerances. Ten minutes on one core.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

import cnf
from cnf.data import toy
from cnf.errors import ConvergenceError
from cnf.metrics import mean_and_error
from cnf.plotting import cell_centres
from experiments.figures.exploding_inverse import PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    seconds: float = 100.0  # for each flow; the paper takes 50,000 steps
    rows: int = 100_000
    couplings: int = 16  # the paper has 200
    hidden: tuple[int, ...] = (64, 64)  # the paper has four times 128
    side: float = 8.0
    cells: int = 60
    radii: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 8, 12, 20, 30, 60, 100, 300, 1000)
    angles: int = 100
    test_rows: int = 5_000
    seed: int = 0


MODELS = ("affine, unbounded", "affine, bounded", "residual", "cnf")
NUMBERS = ("kl", "data, median", "data, largest", "square, median", "square, largest", "square, failed")


def build(model: str, config: Config) -> cnf.Flow:
    """A flow by its name here. The paper's unbounded scale is a sigmoid, whose inverse is unbounded; ours is `eˢ`."""
    if not model.startswith("affine"):
        return cnf.build(model, 2)
    bound = 79.0 if model.endswith("unbounded") else 3.0  # s = b tanh(r / b)
    return cnf.build("realnvp", 2, bound=bound, layers=config.couplings, hidden=config.hidden, activation="silu")


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    source, draw = toy("checkerboard"), Generator().manual_seed(config.seed)
    train, validation, test = (source.sample(n, generator=draw) for n in (config.rows, 2_000, config.test_rows))
    flows: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        torch.manual_seed(config.seed)
        flow = build(model, config)
        budget = cnf.FitConfig(seconds=config.seconds, patience=None, seed=config.seed)
        steps = cnf.fit(flow, train, validation=validation, config=budget, clock=time.process_time).steps
        if model != "cnf":
            flows[model] = judge(flow, test, config) | {"steps": steps}
            continue
        for tolerance in (1e-2, 1e-5):
            solved = cnf.reconfigure(flow, solver=cnf.RungeKutta("dopri5", rtol=tolerance, atol=tolerance))
            flows[f"cnf, tolerance {tolerance:g}"] = judge(solved, test, config) | {"steps": steps}
    return {"flows": flows, **{f"{name}: {key}": flow[key] for name, flow in flows.items() for key in NUMBERS}}


def judge(flow: cnf.Flow, test: Tensor, config: Config) -> dict[str, Any]:
    """Likelihood of test rows; errors on them, on the square and on circles."""
    square = cell_centres((-config.side, config.side, -config.side, config.side), 2 * (config.cells,))
    angle = 2 * math.pi * torch.arange(config.angles) / config.angles
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    circles = [reconstruct(flow, radius * circle)[0] for radius in config.radii]
    on_data, log_prob = reconstruct(flow, test)
    error, log_density = (part.reshape(config.cells, -1) for part in reconstruct(flow, square))
    return {
        "kl": -mean_and_error(log_prob).mean - math.log(32),
        "data, median": on_data.median().item(), "data, largest": on_data.max().item(),
        "square, median": error.median().item(), "square, largest": error.max().item(),
        "square, failed": failed(error),
        "radius, median": [float(f"{error.median():.2e}") for error in circles],
        "radius, failed": [failed(error) for error in circles],
        "log10 error": [[round(value, 1) for value in row] for row in error.clamp(min=1e-8).log10().tolist()],
        "density": [[round(value, 3) for value in row] for row in log_density.double().exp().tolist()],
    }  # fmt: skip


@torch.no_grad()
def reconstruct(flow: cnf.Flow, x: Tensor) -> tuple[Tensor, Tensor]:
    """`|decode(encode(x)) − x|` and `log p(x)`; infinite and NaN where a number overflows or a solver gives up."""
    error, log_prob = torch.full((len(x),), math.inf), torch.full((len(x),), math.nan)
    left = torch.arange(len(x))
    while len(left):
        try:
            z, log_det, _ = flow.transform.encode(x[left])
            finite = z.isfinite().all(1)
            left, z, log_det = left[finite], z[finite], log_det[finite]
            log_prob[left] = flow.base.log_prob(z) + log_det
            error[left] = (flow.transform.push(z) - x[left]).norm(dim=1).nan_to_num(math.inf, math.inf)
            break
        except (cnf.SolverError, ConvergenceError) as failure:
            others = torch.ones(len(left), dtype=torch.bool)
            others[torch.as_tensor(failure.samples)] = False
            left = left[others]
    return error, log_prob


def failed(error: Tensor) -> float:
    """Part of the rows without an inverse."""
    return 1 - error.isfinite().float().mean().item()


SMOKE = {"seconds": 1.0, "rows": 2_000, "cells": 10, "angles": 10, "radii": (4, 30), "test_rows": 200}

if __name__ == "__main__":
    run("exploding_inverse", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
