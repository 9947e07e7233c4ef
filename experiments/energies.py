"""Planar flows, NICE and continuous planar flows fitted to four densities on the plane, of 2, 8 and 32 layers or units.

By reverse KL with annealing; the constants of the targets are known, so that `KL(q ‖ p)` has its zero. Planar layers
and NICE take 3,000 steps, continuous flows 800, with the best rates that were found for each. 35 minutes on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

import cnf
from cnf.data.energies import EDGE, Energy, energy
from cnf.metrics import mean_and_error
from cnf.objectives.variational import Annealed, LinearAnnealing
from experiments.figures.energies import PAPER, figure, ours
from experiments.parts.pictures import density_on
from experiments.run import run


@dataclass(frozen=True)
class Config:
    targets: tuple[str, ...] = ("U1", "U2", "U3", "U4")
    continuous_targets: tuple[str, ...] = ("U1", "U2", "U3")  # those of Chen et al.
    sizes: tuple[int, ...] = (2, 8, 32)
    steps: int = 3_000  # theirs 500,000, at a rate of 1e-5 (RMSprop with momentum 0.9)
    continuous_steps: int = 800  # theirs 10,000
    batch_size: int = 512
    planar_rate: float = 3e-2  # Adam's; a third is worse everywhere, twice as much is on U4
    nice_rate: float = 1e-2  # three times as much and a third do about as well
    continuous_rate: float = 1e-2
    hidden: int = 32  # of the one hidden layer of NICE's networks; no permutations, the halves alternate
    tolerance: float = 1e-3  # of dopri5 in training; densities are computed at 1e-5
    samples: int = 50_000  # that the KL is estimated from
    cells: int = 48  # of the pictures, along a side
    seed: int = 0


FAMILIES = ("planar", "nice", "planar_cnf")


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in config.targets}
    cases = [(name, family, size) for name in config.targets for family in FAMILIES for size in config.sizes]
    for name, family, size in tqdm(cases, desc="fits", unit="fit"):
        if family != "planar_cnf" or name in config.continuous_targets:
            fits[name][f"{family} {size}"] = fitted(config, family, size, energy(name))
    targets = {name: density_on(EDGE, config.cells, energy(name).log_prob) for name in config.targets}
    numbers = {f"{name} {flow}: kl": fit["kl"] for name, flows in fits.items() for flow, fit in flows.items()}
    return {"fits": fits, "targets": targets, **numbers}


def fitted(config: Config, family: str, size: int, target: Energy) -> dict[str, Any]:
    """How close a flow comes to the target, and what it looks like."""
    torch.manual_seed(config.seed)
    options, steps, rate = settings_of(config, family, size)
    flow = cnf.build(family, 2, preprocess="none", **options)
    settings = cnf.FitConfig(
        steps=steps, patience=None, batch_size=config.batch_size, learning_rate=rate, weight_decay=0.0,
        seed=config.seed, progress=False,
        solver=cnf.RungeKutta("dopri5", rtol=config.tolerance, atol=config.tolerance),
    )  # fmt: skip
    objective = cnf.ReverseKL(target.log_prob)
    annealed = Annealed(objective, LinearAnnealing(steps=steps // 2))
    result = cnf.fit(flow, torch.randn(10_000, 2), annealed, config=settings)  # the rows only say how many to draw
    flow.double()  # a continuous flow of two units moves some points so fast that 1e-5 is beyond single precision
    with torch.no_grad():
        loss = objective(flow, torch.zeros(config.samples, 2))
    kl = mean_and_error(loss.rows)
    return {
        "kl": round(kl.mean, 4), "kl_standard_error": round(kl.standard_error, 4),
        "effective_samples": round(loss.metrics["effective_samples"].item(), 4), "seconds": round(result.seconds, 1),
        "parameters": sum(p.numel() for p in flow.parameters()),
        "density": density_on(EDGE, config.cells, flow.log_prob, torch.float64),
    }  # fmt: skip


def settings_of(config: Config, family: str, size: int) -> tuple[dict[str, Any], int, float]:
    """Options, steps and rate of a family."""
    return {
        "planar": ({"layers": size, "closed": "decode"}, config.steps, config.planar_rate),
        "nice": ({"layers": size, "hidden": config.hidden}, config.steps, config.nice_rate),
        "planar_cnf": ({"units": size}, config.continuous_steps, config.continuous_rate),
    }[family]


SMOKE = {
    "targets": ("U1", "U3"), "continuous_targets": ("U1",), "sizes": (2, 4), "steps": 10, "continuous_steps": 10,
    "samples": 200, "cells": 12,
}  # fmt: skip

if __name__ == "__main__":
    run("energies", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
