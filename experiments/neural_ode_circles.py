"""Two circles and two moons on their way from noise: a continuous flow of planar units, and planar layers.

By maximum likelihood; below each CNF stand the layers, cut at the same fractions of the way. Two minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from tqdm import tqdm

import cnf
from cnf.continuous.twins import cnfs_of
from cnf.data import toy
from cnf.metrics import kl_to
from experiments.figures.neural_ode_circles import PAPER, figure, ours
from experiments.parts.pictures import columns, density_on
from experiments.run import run


@dataclass(frozen=True)
class Config:
    sets: tuple[str, ...] = ("circles", "moons")
    fractions: tuple[float, ...] = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)
    size: int = 64  # units of the CNF, layers of the flow
    steps: int = 700
    batch_size: int = 512
    learning_rate: float = 5e-3  # theirs 1e-3 with an end time of 10, ours is 1
    solver_steps: int = 8  # of RK4 in training, judged by dopri5 at 1e-5; theirs trains by that
    rows: int = 50_000
    test_rows: int = 4_000
    shown: int = 500
    cells: int = 40  # of the pictures, along a side
    edge: float = 2.4  # of the pictures, in standard deviations of the data
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    numbers: dict[str, float] = {}
    sets: dict[str, Any] = {}
    for name in tqdm(config.sets, desc="sets"):
        source, draw = toy(name), Generator().manual_seed(config.seed)
        scale = source.sample(100_000, generator=Generator().manual_seed(0)).std().item()
        rows, test = (
            source.sample(config.rows, generator=draw) / scale,
            source.sample(config.test_rows, generator=draw) / scale,
        )

        def target(x: Tensor) -> Tensor:
            return source.log_prob(x * scale) + 2 * np.log(scale)  # noqa: B023

        continuous, layered = fitted(config, "planar_cnf", rows), fitted(config, "planar", rows)
        for kind, flow in (("CNF", continuous), ("planar layers", layered)):
            gap = kl_to(flow, test, target(test))
            numbers |= {f"KL to {kind}, {name}": round(gap.mean, 4)}
            numbers |= {f"standard error, {kind}, {name}": round(gap.standard_error, 4)}
        pictures = [density_on(config.edge, config.cells, stage(continuous, each)) for each in config.fractions]
        with torch.no_grad():
            paths = continuous.trajectory(torch.randn(config.shown, 2), config.fractions)
        sets[name] = {
            "density": [*pictures, density_on(config.edge, config.cells, target)],
            "samples": [columns(each) for each in (*paths, test[: config.shown])],
            "layers": [density_on(config.edge, config.cells, stage(layered, each)) for each in config.fractions],
        }
    return {"sets": sets, **numbers}


def fitted(config: Config, kind: str, rows: Tensor) -> cnf.Flow:
    """A trained flow of either kind."""
    torch.manual_seed(config.seed)
    options = {"units": config.size} if kind == "planar_cnf" else {"layers": config.size, "closed": "encode"}
    flow = cnf.build(kind, 2, preprocess="none", **options)
    settings = cnf.FitConfig(
        steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate, weight_decay=0.0,
        patience=None, seed=config.seed, solver=cnf.RungeKutta("rk4", steps=config.solver_steps),
    )  # fmt: skip
    return cnf.fit(flow, rows, config=settings).flow


def stage(flow: cnf.Flow, fraction: float) -> Callable[[Tensor], Tensor]:
    """The log-density after a fraction of the way from the base: of the time, or of the layers."""
    if cnfs := cnfs_of(flow):

        def log_prob(x: Tensor) -> Tensor:
            z, (log_det,), _ = cnfs[0].solve(x, fraction, 0.0).state
            return flow.base.log_prob(z) + log_det

        return log_prob
    layers = [part for part in flow.modules() if isinstance(part, cnf.Inverse)]  # the last ones are next to the base
    return cnf.Flow(cnf.Compose(layers[len(layers) - round(fraction * len(layers)) :]), flow.base).log_prob


SMOKE = {"size": 4, "steps": 5, "rows": 500, "test_rows": 100, "cells": 8, "shown": 50}

if __name__ == "__main__":
    run("neural_ode_circles", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
