"""Neural ODEs on the two tasks they cannot represent, with zeros appended and without.

Dupont et al. 2019 (arXiv 1904.01681), after figures 2, 3 and 6. Claim: paths cannot cross, so on the line a neural ODE
cannot exchange −1 and 1, and on the plane it cannot lift a disk out of the ring around it; it can only pull them apart
ever harder, with ever more evaluations. A few appended zeros make both easy. Losses here: line 1.00 against 0,
plane 0.033 against 0.007, with 39 and 25 evaluations at the end. Plain, it fits most of the plane's points all the
same, through a channel from the disk to the outside that the ring's points happen to leave free. 1.5 minutes, one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

import cnf
from cnf.plotting import BLUE, GREY, VERMILION
from experiments.run import run


@dataclass(frozen=True)
class Config:
    extra: tuple[int, int] = (1, 5)  # zeros appended, on the line and on the plane
    hidden: tuple[int, ...] = (32, 32)
    activation: str = "silu"  # theirs ReLU; fields here are smooth
    tolerance: float = 1e-3
    learning_rate: float = 1e-3
    line_steps: int = 500
    points: tuple[int, int] = (500, 1_500)  # of the disk and of the ring
    radii: tuple[float, float, float] = (0.5, 1.0, 1.5)  # of the disk, of the ring inside and outside
    batch_size: int = 64
    epochs: int = 30
    cells: int = 48  # of the pictures, along a side
    seed: int = 0


NAMES, COLOURS = ("NODE", "ANODE"), (VERMILION, BLUE)
SIDES = LinearSegmentedColormap.from_list("sides", [VERMILION, "white", BLUE])
CHECKS = 20  # on the line
EDGE = 1.7  # of the pictures


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    line = [on_the_line(config, extra) for extra in (0, config.extra[0])]
    plane = [on_the_plane(config, extra) for extra in (0, config.extra[1])]
    numbers = {
        f"{task}, {name}: {key}": round(fit["curve"][-1][index], 4)
        for task, fits in (("line", line), ("plane", plane))
        for name, fit in zip(NAMES, fits, strict=True)
        for index, key in ((1, "loss"), (2, "evaluations"))
    }
    return {"line": line, "plane": plane, **numbers}


def on_the_line(config: Config, extra: int) -> dict[str, Any]:
    """Learn `g(−1) = 1, g(1) = −1` with the first feature as output: a read-out could just change the sign."""
    torch.manual_seed(config.seed)
    x = torch.tensor([[-1.0], [1.0]])
    ode = neural_ode(config, 1, extra)
    batches = [[(x, -x)] * (config.line_steps // CHECKS)] * CHECKS
    curve = trained(ode, lambda z: ode(z)[:, :1], F.mse_loss, batches, 10 * config.learning_rate)
    with torch.no_grad():
        path = ode.path(x, torch.linspace(0, 1, 41))[:, :, 0]
    return {"curve": curve, "paths": [[round(value, 3) for value in state] for state in path.tolist()]}


def on_the_plane(config: Config, extra: int) -> dict[str, Any]:
    """Learn −1 on the disk and 1 on the ring with a linear read-out, and the answer on a grid."""
    torch.manual_seed(config.seed)
    inner, begin, outer = config.radii
    x = torch.cat([ring(config.points[0], 0.0, inner), ring(config.points[1], begin, outer)])
    y = torch.cat([-torch.ones(config.points[0], 1), torch.ones(config.points[1], 1)])
    ode = neural_ode(config, 2, extra)
    model = nn.Sequential(ode, nn.Linear(2 + extra, 1))
    orders = [torch.randperm(len(x)).split(config.batch_size) for _ in range(config.epochs)]
    batches = [[(x[rows], y[rows]) for rows in order] for order in orders]
    curve = trained(model, model, F.smooth_l1_loss, batches, config.learning_rate)
    centres = EDGE * ((2 * torch.arange(config.cells) + 1) / config.cells - 1)
    with torch.no_grad():
        answer = model(torch.cartesian_prod(centres, centres).flip(1)).reshape(config.cells, -1)
        wrong = (model(x).sign() != y).float().mean().item()
    return {"curve": curve, "wrong": wrong, "answer": (100 * answer).round().int().tolist()}


def neural_ode(config: Config, dim: int, extra: int) -> cnf.NeuralODE:
    solver = cnf.RungeKutta("dopri5", rtol=config.tolerance, atol=config.tolerance)
    return cnf.NeuralODE(cnf.MLPField(dim + extra, hidden=config.hidden, activation=config.activation), extra, solver)


def ring(n: int, inner: float, outer: float) -> Tensor:
    """Points of uniform density between two circles."""
    radius = (inner**2 + (outer**2 - inner**2) * torch.rand(n)).sqrt()
    angle = 2 * math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def trained(
    model: nn.Module,
    predict: Callable[[Tensor], Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    epochs: list[list[tuple[Tensor, Tensor]]],
    learning_rate: float,
) -> list[list[float]]:
    """Train by Adam; rows of epoch, mean loss and mean evaluations a forward solve."""
    optimizer, curve = torch.optim.Adam(model.parameters(), lr=learning_rate), []
    for epoch, batches in enumerate(tqdm(epochs, desc="training", unit="epoch"), 1):
        total = 0.0
        with cnf.count_evaluations() as count:
            for x, y in batches:
                loss = loss_of(predict(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
        curve.append([epoch, round(total / len(batches), 5), round(count.evaluations / count.solves, 1)])
    return curve


def figure(results: dict[str, Any]) -> Figure:
    seed = results["seeds"][0]
    picture = Figure(figsize=(9.2, 4.5), layout="constrained")
    grid = picture.subplots(2, 4)
    for axes, fit, name in zip(grid[0], seed["line"], NAMES, strict=False):
        times = [i / (len(fit["paths"]) - 1) for i in range(len(fit["paths"]))]
        for path, colour in zip(zip(*fit["paths"], strict=True), (GREY, "black"), strict=True):
            axes.plot(times, path, color=colour, lw=1.5)
            axes.plot([0, 1], [path[0], -path[0]], "o", color=colour, ms=4, mfc="white", clip_on=False)
        axes.set(title=f"{name}: $-1 \\leftrightarrow 1$", xlabel="$t$", yticks=[-1, 0, 1], ylim=(-1.4, 1.4))
    for axes, fit, name in zip(grid[1], seed["plane"], NAMES, strict=False):
        show(axes, fit["answer"], results["config"]["radii"])
        axes.set_title(f"{name}: disk and ring")
    for row, task, unit in zip(grid, ("line", "plane"), ("step", "epoch"), strict=True):
        scale = results["config"]["line_steps"] // CHECKS if task == "line" else 1
        for axes, index, label in ((row[2], 1, "loss"), (row[3], 2, "evaluations")):
            for fit, name, colour in zip(seed[task], NAMES, COLOURS, strict=True):
                x, y = ([point[i] for point in fit["curve"]] for i in (0, index))
                axes.plot([scale * value for value in x], y, color=colour, lw=1.4, label=name)
            axes.set(title=label, xlabel=unit, yscale="log" if index == 1 else "linear")
        row[2].legend(frameon=False, fontsize=8)
        row[2].set_ylim(bottom=1e-3)
        row[3].set_ylim(bottom=0)
    for axes in grid[1, :2]:
        axes.spines[:].set_visible(False)
    for axes in grid.flat:
        axes.title.set_fontsize(9)
        axes.xaxis.label.set_fontsize(8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return picture


def show(axes: Axes, answer: list[list[int]], radii: list[float]) -> None:
    """The answer in colour, −1 to 1, and the edges of disk and ring."""
    axes.imshow(
        answer, origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), cmap=SIDES, vmin=-100, vmax=100,
        interpolation="bicubic",
    )  # fmt: skip
    turn = [2 * math.pi * i / 200 for i in range(201)]
    for radius in radii:
        axes.plot([radius * math.cos(a) for a in turn], [radius * math.sin(a) for a in turn], color="black", lw=0.7)
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    run(
        "anode_annuli", Config(), compute, figure,
        {"line_steps": 40, "points": (20, 60), "epochs": 2, "cells": 8, "hidden": (8,)},
    )  # fmt: skip
