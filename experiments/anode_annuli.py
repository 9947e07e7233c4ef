"""Neural ODEs on the two tasks they cannot represent, with zeros appended and without.

Paths cannot cross: on the line a neural ODE cannot exchange −1 and 1, and on the plane it cannot lift a disk out of
the ring around it; it can only pull them apart ever harder, with ever more evaluations. A few zeros make both easy.
Plain, it fits most points of the plane all the same, through a channel that the ring leaves free. 90 seconds a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import cnf
from cnf.plotting import cell_centres
from experiments.figures.anode_annuli import CHECKS, EDGE, NAMES, PAPER, figure, ours
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


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    line = [on_the_line(config, extra) for extra in (0, config.extra[0])]
    plane = [on_the_plane(config, extra) for extra in (0, config.extra[1])]
    tasks = {"line": line, "plane": plane}
    named = [(f"{task}, {name}", fit) for task, fits in tasks.items() for name, fit in zip(NAMES, fits, strict=True)]
    numbers = {
        f"{name}: {key}": round(fit["curve"][-1][index], 4)
        for name, fit in named for index, key in ((1, "loss"), (2, "evaluations"))
    }  # fmt: skip
    return {**tasks, **numbers}


def on_the_line(config: Config, extra: int) -> dict[str, Any]:
    """Learn `g(−1) = 1, g(1) = −1` with the first feature as output: a read-out could just change the sign."""
    torch.manual_seed(config.seed)
    x = torch.tensor([[-1.0], [1.0]])
    ode = neural_ode(config, 1, extra)
    batches = [[(x, -x)] * (config.line_steps // CHECKS)] * CHECKS
    curve = trained(ode, lambda z: ode(z)[:, :1], F.mse_loss, batches, 10 * config.learning_rate)
    path = ode.path(x, torch.linspace(0, 1, 41)).detach()[:, :, 0]
    return {"curve": curve, "paths": [[round(value, 3) for value in state] for state in path.tolist()]}


def on_the_plane(config: Config, extra: int) -> dict[str, Any]:
    """Learn −1 on the disk and 1 on the ring with a linear read-out, and the answer on a grid."""
    torch.manual_seed(config.seed)
    inner, begin, outer = config.radii
    x = torch.cat([ring(config.points[0], 0.0, inner), ring(config.points[1], begin, outer)])
    y = torch.cat([-torch.ones(config.points[0], 1), torch.ones(config.points[1], 1)])
    ode = neural_ode(config, 2, extra)
    model = nn.Sequential(ode, nn.Linear(2 + extra, 1))
    orders = (torch.randperm(len(x)).split(config.batch_size) for _ in range(config.epochs))
    batches = [[(x[rows], y[rows]) for rows in order] for order in orders]
    curve = trained(model, model, F.smooth_l1_loss, batches, config.learning_rate)
    with torch.no_grad():
        answer = model(cell_centres((-EDGE, EDGE, -EDGE, EDGE), (config.cells, config.cells))).reshape(config.cells, -1)
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


SMOKE = {"line_steps": 40, "points": (20, 60), "epochs": 2, "cells": 8, "hidden": (8,)}

if __name__ == "__main__":
    run("anode_annuli", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
