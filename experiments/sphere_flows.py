"""Three densities on the sphere fitted by chains of normalised translations and affine maps, and by continuous flows.

Targets with exact densities: four von Mises-Fisher peaks, a ring, a checkerboard. Flows: 1, 4 and 16 normalised
translations, 1, 4 and 16 normalised affine maps, one continuous flow, all on the uniform density and by likelihood. No
chain can see the checkerboard. A minute and a half a seed on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import cnf
from cnf.distributions import SphereUniform
from cnf.manifolds import NormalizedAffine, NormalizedTranslation, Sphere
from cnf.metrics import kl_to, log_prob_of_rows
from experiments.figures.sphere_flows import FAMILIES, PAPER, figure, ours
from experiments.parts.sphere_targets import TARGETS, globe_cells, samples
from experiments.run import run


@dataclass(frozen=True)
class Config:
    targets: tuple[str, ...] = ("peaks", "ring", "checkerboard")
    layers: tuple[int, ...] = (1, 4, 16)
    rows: int = 20_000
    steps: int = 400  # of a chain
    rate: float = 2e-2
    matching_steps: int = 1_000  # of the continuous flow, along geodesics
    likelihood_steps: int = 60
    hidden: int = 64
    frequency: float = 8.0
    test: int = 20_000
    cells: int = 48  # of the pictures, from pole to pole
    seed: int = 0


MAPS: dict[str, Callable[[], cnf.Transform]] = {
    "translation": lambda: NormalizedTranslation(3),
    "affine": lambda: NormalizedAffine(3),
}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in config.targets}
    flows = [*((family, k) for family in FAMILIES for k in config.layers), ("continuous", 1)]
    for name, family, k in tqdm([(name, *flow) for name in config.targets for flow in flows], desc="fits", unit="fit"):
        fits[name][f"{family} {k}"] = fitted(config, TARGETS[name], family, k)
    maps = {name: thousandths(TARGETS[name], config.cells) for name in config.targets}
    numbers = {f"{name}, {flow}: kl": fit["kl"] for name, all_ in fits.items() for flow, fit in all_.items()}
    return {"fits": fits, "targets": maps, **numbers}


def fitted(config: Config, target: Callable[[Tensor], Tensor], family: str, layers: int) -> dict[str, Any]:
    """How close a flow comes to the target, `KL(p ‖ q)` in nats, and what it looks like."""
    torch.manual_seed(config.seed)
    x, test = samples(target, config.rows), samples(target, config.test)
    flow = made(config, family, layers)
    phases = recipe(config, family)
    steps = sum(int(phase.share) for phase in phases)
    settings = cnf.FitConfig(steps=steps, batch_size=512, patience=None, seed=config.seed, progress=False)
    result = cnf.fit(flow, x, phases, config=settings)
    kl = kl_to(flow, test, target(test))
    return {
        "kl": round(kl.mean, 4), "kl_standard_error": round(kl.standard_error, 4), "seconds": round(result.seconds, 1),
        "parameters": sum(p.numel() for p in flow.parameters()),
        "density": thousandths(lambda x: log_prob_of_rows(flow, x), config.cells),
    }  # fmt: skip


def made(config: Config, family: str, layers: int) -> cnf.Flow:
    if family == "continuous":
        return cnf.build("sphere_cnf", 3, hidden=config.hidden, frequency=config.frequency)
    return cnf.Flow(cnf.Compose([MAPS[family]() for _ in range(layers)]), SphereUniform(3))


def recipe(config: Config, family: str) -> list[cnf.Phase]:
    """Phases whose shares are their steps."""
    if family != "continuous":
        return [cnf.Phase(share=config.steps, learning_rate=config.rate)]
    loose = cnf.RungeKutta("dopri5", rtol=1e-2, atol=1e-2)
    geodesics = cnf.FlowMatching(cnf.GeodesicPath(Sphere(3)))
    return [
        cnf.Phase(geodesics, share=config.matching_steps, learning_rate=1e-2, optimizer="muon"),
        cnf.Phase(share=config.likelihood_steps, solver=loose, learning_rate=5e-3, optimizer="muon"),
    ]


@torch.no_grad()
def thousandths(log_prob: Callable[[Tensor], Tensor], cells: int) -> list[int]:
    """The density on cells of equal angles, from the south-west, row by row."""
    return [round(1000 * value) for value in log_prob(globe_cells(cells)).exp().tolist()]


SMOKE = {
    "layers": (1, 2),
    "rows": 1_000,
    "steps": 20,
    "matching_steps": 20,
    "likelihood_steps": 3,
    "hidden": 16,
    "test": 500,
    "cells": 16,
}

if __name__ == "__main__":
    run("sphere_flows", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
