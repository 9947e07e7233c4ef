"""A Gaussian becomes a mixture of three on the line: density and paths at every time between.

FFJORD's network and its likelihood, on the target of the authors' code. Densities at a time between are those of the
flow cut there. A minute and a half a seed on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import cnf
from cnf.continuous.twins import cnfs_of
from cnf.metrics import kl_to
from experiments.figures.ffjord_line import EDGE, PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    means: tuple[float, ...] = (-2.8, -0.9, 2.0)  # of Gaussians of equal weight
    variance: float = 0.4
    hidden: tuple[int, ...] = (64, 64, 64)
    steps: int = 1_000
    learning_rate: float = 5e-3
    tolerance: float = 1e-3  # of dopri5 in training; all else is at 1e-5
    rows: int = 50_000
    test_rows: int = 10_000
    paths: int = 21
    times: int = 33  # of paths and densities
    cells: int = 160  # along the line
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    target = cnf.GaussianMixture(torch.tensor(config.means).unsqueeze(1), scale=config.variance**0.5)
    target.requires_grad_(False)
    draw = torch.Generator().manual_seed(config.seed)
    train, test = (target.sample(n, generator=draw) for n in (config.rows, config.test_rows))
    torch.manual_seed(config.seed)
    flow = cnf.build("ffjord", 1, hidden=config.hidden, preprocess="none")
    settings = cnf.FitConfig(
        steps=config.steps, learning_rate=config.learning_rate, seed=config.seed,
        solver=cnf.RungeKutta("dopri5", rtol=config.tolerance, atol=config.tolerance),
    )  # fmt: skip
    cnf.fit(flow, train, config=settings)
    with cnf.count_evaluations() as count:
        gap = kl_to(flow, test, target.log_prob(test), batch_size=len(test))
    return {
        "KL": gap.mean, "standard error": gap.standard_error, "evaluations": count.evaluations,
        **(drawn(config, flow) if config.seed == Config.seed else {}),
    }  # fmt: skip


@torch.no_grad()
def drawn(config: Config, flow: cnf.Flow) -> dict[str, Any]:
    """Paths from quantiles of the base, and the density at every time."""
    times = torch.linspace(0, 1, config.times)
    levels = (torch.arange(config.paths) + 0.5) / config.paths
    paths = flow.trajectory(torch.special.ndtri(levels).unsqueeze(1), times).squeeze(2)
    x = EDGE * ((2 * torch.arange(config.cells) + 1) / config.cells - 1)
    densities = [stage(flow, time, x.unsqueeze(1)).exp() for time in times.tolist()]
    return {
        "paths": [[round(value, 3) for value in state] for state in paths.tolist()],
        "densities": [[round(value, 4) for value in density.tolist()] for density in densities],
    }


def stage(flow: cnf.Flow, time: float, x: Tensor) -> Tensor:
    """The log-density at a time."""
    if not time:
        return flow.base.log_prob(x)
    z, (log_det,), _ = cnfs_of(flow)[0].solve(x, time, 0.0).state
    return flow.base.log_prob(z) + log_det


SMOKE = {"steps": 5, "hidden": (8,), "rows": 500, "test_rows": 100, "times": 5, "cells": 20}

if __name__ == "__main__":
    run("ffjord_line", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
