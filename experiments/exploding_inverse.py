"""Reconstruction error of trained flows on the checkerboard and far from it: which inverses explode in float32.

Behrmann et al. 2021 (arXiv 2006.09347), their two-dimensional checkerboard: density, and `|decode(encode(x)) − x|` on
[−8, 8]². Claims: on the data all errors are below 1e-4, but for a continuous flow solved loosely. Off them, affine
couplings with unbounded scales overflow (half of the square, all points beyond 12); with bounded scales the error grows
to 0.1 on the square, in a residual flow to 1e-4; in a continuous flow it follows the solver's tolerance (0.3 at 0.01,
1e-3 at 1e-5). Ten minutes on one core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

import cnf
from cnf.data import toy
from cnf.errors import ConvergenceError
from cnf.metrics import mean_and_error
from cnf.plotting import DENSITY
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
        steps = cnf.fit(flow, train, validation=validation, config=budget).steps
        if model != "cnf":
            flows[model] = judge(flow, test, config) | {"steps": steps}
            continue
        for tolerance in (1e-2, 1e-5):
            solved = cnf.reconfigure(flow, solver=cnf.RungeKutta("dopri5", rtol=tolerance, atol=tolerance))
            flows[f"cnf, tolerance {tolerance:g}"] = judge(solved, test, config) | {"steps": steps}
    return {"flows": flows, **{f"{name}: {key}": flow[key] for name, flow in flows.items() for key in NUMBERS}}


NUMBERS = ("kl", "data, median", "data, largest", "square, median", "square, largest", "square, failed")


def judge(flow: cnf.Flow, test: Tensor, config: Config) -> dict[str, Any]:
    """Likelihood of test rows; errors on them, on the square and on circles."""
    x = config.side * (2 * torch.arange(config.cells) + 1 - config.cells) / config.cells
    square = torch.stack(torch.meshgrid(x, x, indexing="xy"), -1)
    angle = 2 * math.pi * torch.arange(config.angles) / config.angles
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    circles = [reconstruct(flow, radius * circle)[0] for radius in config.radii]
    on_data, log_prob = reconstruct(flow, test)
    error, log_density = (part.reshape(square.shape[:2]) for part in reconstruct(flow, square.reshape(-1, 2)))
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


COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple")


def figure(results: dict[str, Any]) -> Figure:
    config, flows = results["config"], results["seeds"][0]["flows"]
    picture = Figure(figsize=(2.3 * len(flows), 7.4), layout="constrained")
    maps, below = picture.subfigures(2, 1, squeeze=False, height_ratios=(1.75, 1))[:, 0]
    grid = maps.subplots(2, len(flows), squeeze=False, sharex=True, sharey=True)
    side = config["side"]
    place: dict[str, Any] = {"extent": (-side, side, -side, side), "origin": "lower"}
    errors = matplotlib.colormaps["viridis"].with_extremes(bad="tab:red")
    for (density, error), (name, flow) in zip(grid.T, flows.items(), strict=True):
        density.imshow(np.nan_to_num(array(flow["density"])), cmap=DENSITY, vmin=0, vmax=0.05, **place)
        density.set_title(f"{name}\nKL {flow['kl']:.2f}, {flow['steps']:,} steps", fontsize=10)
        shown = error.imshow(array(flow["log10 error"]), cmap=errors, vmin=-7, vmax=0, **place)
        lost = flow["square, failed"]
        error.set_title(f"{lost:.0%} lost" if lost else f"at most {flow['square, largest']:.0e}", fontsize=10)
        error.set(xticks=(-side, 0, side), yticks=(-side, 0, side))
    grid[0, 0].set_ylabel("density")
    grid[1, 0].set_ylabel("error of reconstruction")
    maps.colorbar(shown, ax=list(grid[1]), label="log₁₀ error; red: lost", pad=0.01)
    curves, lost = below.subplots(1, 2)
    for (name, flow), colour in zip(flows.items(), COLOURS, strict=True):
        curves.loglog(config["radii"], array(flow["radius, median"]), "o-", ms=3, color=colour, label=name)
        lost.semilogx(config["radii"], flow["radius, failed"], "o-", ms=3, color=colour, label=name)
    curves.set(xlabel="distance from the middle", ylabel="error of reconstruction, median")
    lost.set(xlabel="distance from the middle", ylabel="part of the points lost")
    for axes in (curves, lost):
        axes.axvspan(config["radii"][0], 4 * math.sqrt(2), color="0.93", zorder=0)  # where the data are
        axes.spines[["top", "right"]].set_visible(False)
    curves.text(1.2, 1, "data", color="0.4", fontsize=9)
    lost.legend(frameon=False, fontsize=9, loc="center right")
    return picture


def array(values: list[Any]) -> np.ndarray:
    """Numbers, NaN for what is null in the file."""
    return np.array(values, dtype=float)


if __name__ == "__main__":
    run(
        "exploding_inverse", Config(), compute, figure,
        {"seconds": 1.0, "rows": 2_000, "cells": 10, "angles": 10, "radii": (4, 30), "test_rows": 200},
    )  # fmt: skip
