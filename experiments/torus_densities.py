"""Three densities on the 2-torus, by reverse KL from the density alone and by likelihood from samples of it.

One mode, three modes, and a ridge that winds round the torus, with the constants of a public reproduction. Circular
splines fit them over the seam as well as elsewhere. The densities are normalised by Bessel functions, so that KL is
exact up to sampling. Half a minute a seed on one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import cnf
from experiments.figures.torus_densities import CIRCLE, PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    layers: int = 2
    hidden: int = 32
    steps: int = 500
    batch: int = 512
    learning_rate: float = 1e-2
    judged: int = 20_000  # samples that KL and effective sample size are estimated from
    cells: int = 80  # of a side, in the picture
    seed: int = 0


LOG_BESSEL = torch.special.i0(torch.ones(())).log().item()
CENTRES = torch.tensor([[0.21, 2.85], [1.89, 6.18], [3.77, 1.56]])


def one_mode(x: Tensor) -> Tensor:
    return (x - torch.tensor([4.18, 5.96])).cos().sum(1) - 2 * (math.log(CIRCLE) + LOG_BESSEL)


def three_modes(x: Tensor) -> Tensor:
    bumps = (x.unsqueeze(1) - CENTRES).cos().sum(2).logsumexp(1)
    return bumps - math.log(3) - 2 * (math.log(CIRCLE) + LOG_BESSEL)


def ridge(x: Tensor) -> Tensor:
    return (x.sum(1) - 1.94).cos() - 2 * math.log(CIRCLE) - LOG_BESSEL


TARGETS: dict[str, Callable[[Tensor], Tensor]] = {"one mode": one_mode, "three modes": three_modes, "ridge": ridge}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    numbers: dict[str, float] = {}
    pictures: dict[str, dict[str, list[float]]] = {}
    for name, target in tqdm(TARGETS.items(), desc="targets"):
        x = drawn(target, config.judged)
        pictures[name] = {"target": shaded(target, config)}
        for way, objective in (("reverse KL", cnf.ReverseKL(target)), ("likelihood", cnf.MaximumLikelihood())):
            torch.manual_seed(config.seed)
            flow = cnf.build("torus_nsf", 2, layers=config.layers, hidden=config.hidden, blocks=1)
            settings = cnf.FitConfig(
                steps=config.steps, batch_size=config.batch, learning_rate=config.learning_rate, seed=config.seed
            )
            cnf.fit(flow, x, objective, config=settings)
            with torch.no_grad():
                judged = cnf.ReverseKL(target)(flow, x).metrics
                held_out = drawn(target, config.judged)
                numbers[f"KL(p, q), {way}, {name}"] = (target(held_out) - flow.log_prob(held_out)).mean().item()
                numbers[f"KL(q, p), {way}, {name}"] = judged["reverse_kl"].item()
                numbers[f"effective samples, {way}, {name}"] = judged["effective_samples"].item()
                pictures[name][way] = shaded(flow.log_prob, config)
    return {**numbers, "pictures": pictures}


def drawn(target: Callable[[Tensor], Tensor], n: int) -> Tensor:
    """Exact samples, by rejection from the uniform density; none of the densities exceeds `e²/I₀(1)² (2π)²`."""
    highest = 2 - 2 * (math.log(CIRCLE) + LOG_BESSEL)
    kept: list[Tensor] = []
    while sum(map(len, kept)) < n:
        x = CIRCLE * torch.rand(4 * n, 2)
        kept.append(x[torch.rand(len(x)).log() < target(x) - highest])
    return torch.cat(kept)[:n]


def shaded(log_density: Callable[[Tensor], Tensor], config: Config) -> list[float]:
    """The density in the middle of each cell, the first angle from left to right, the second from below."""
    middle = (torch.arange(config.cells) + 0.5) * CIRCLE / config.cells
    second, first = torch.meshgrid(middle, middle, indexing="ij")
    return [round(value, 4) for value in log_density(torch.stack([first, second], 2).reshape(-1, 2)).exp().tolist()]


SMOKE = {"steps": 5, "judged": 200, "cells": 10, "hidden": 8}

if __name__ == "__main__":
    run("torus_densities", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
