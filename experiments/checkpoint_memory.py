"""Memory and seconds of a training step against the steps of the solver: all stages kept, or only the states.

`gradient="backprop"` keeps every activation of every stage; `gradient="checkpoint"` keeps the state at each step and
computes the inside of a step again in the backward pass (Zhuang et al. 2020, arXiv 2006.02493, give the same exact
gradient to adaptive steps). Both gradients are compared at every number of steps. Two hidden layers of 256, D = 43,
dopri5 on a fixed grid. A minute and a half on two cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

import cnf
from experiments.figures.checkpoint_memory import KINDS, PAPER, figure, ours
from experiments.parts.memory import peak_megabytes
from experiments.run import run


@dataclass(frozen=True)
class Config:
    dim: int = 43
    hidden: tuple[int, ...] = (256, 256)
    batch: int = 512
    steps: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    method: str = "dopri5"
    rounds: int = 11
    threads: int = 2
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    field, x = cnf.MLPField(config.dim, hidden=config.hidden), torch.randn(config.batch, config.dim)
    curves: dict[str, Any] = {kind: {"megabytes": [], "ms": []} for kind in KINDS}
    for steps in tqdm(config.steps):
        trained = {kind: step(config, field, x, kind, steps) for kind in KINDS}
        gradients = {kind: gradient(field, train) for kind, train in trained.items()}
        torch.testing.assert_close(gradients["checkpoint"], gradients["backprop"])
        rounds = [{kind: seconds(train) for kind, train in trained.items()} for _ in range(config.rounds)]
        for kind in KINDS:
            curves[kind]["megabytes"].append(peak_megabytes(trained[kind]))
            curves[kind]["ms"].append(float(f"{1e3 * statistics.median(each[kind] for each in rounds):.4g}"))
    growth = {kind: slope(config.steps, curves[kind]["megabytes"]) for kind in KINDS}
    state = config.batch * (config.dim + 1) * 4 / 2**20  # x and log_det
    return {"curves": curves, "state_megabytes": state, **{f"{kind}, MB a step": growth[kind] for kind in KINDS}}


def step(config: Config, field: cnf.MLPField, x: torch.Tensor, kind: str, steps: int) -> Callable[[], None]:
    """A training step: loss and backward."""
    transform = cnf.CNF(field, solver=cnf.RungeKutta(config.method, steps=steps, gradient=kind))
    flow = cnf.Flow(transform, cnf.StandardNormal((config.dim,)))

    def train() -> None:
        field.zero_grad()
        (-flow.log_prob(x).mean()).backward()

    return train


def gradient(field: cnf.MLPField, train: Callable[[], None]) -> torch.Tensor:
    train()
    return torch.cat([parameter.grad.flatten() for parameter in field.parameters() if parameter.grad is not None])


def seconds(train: Callable[[], None]) -> float:
    begun = time.perf_counter()
    train()
    return time.perf_counter() - begun


def slope(steps: tuple[int, ...], megabytes: list[float]) -> float:
    return float(f"{(megabytes[-1] - megabytes[0]) / (steps[-1] - steps[0]):.3g}")


SMOKE = {"dim": 3, "hidden": (8, 8), "batch": 16, "steps": (2, 4), "rounds": 1, "threads": 1}

if __name__ == "__main__":
    run("checkpoint_memory", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
