"""A continuous flow trained on a fixed grid with neither, one and both of RNODE's penalties.

In small, on the plane, with the exact trace where the paper has a Gaussian probe, and ten times the paper's λ, at which
there is hardly any difference on this set. Two minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cnf
from cnf.data import toy
from experiments.figures.rnode_ablation import NAMES, PAPER, QUANTITIES, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: str = "8gaussians"  # theirs are MNIST and, for figure 3, CIFAR10
    rows: int = 100_000
    test_rows: int = 500
    kinetic: float = 0.1  # ten times the paper's λ, relative to bits and to means over dimensions
    frobenius: float = 0.1
    grid: int = 4  # RK4 steps in training, theirs; checks are by dopri5 at 1e-5
    steps: int = 800
    batch_size: int = 256
    learning_rate: float = 5e-3  # theirs 1e-3, for far more steps
    every: int = 40  # steps from check to check
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    source, draw = toy(config.data), torch.Generator().manual_seed(config.seed)
    train, test = (source.sample(n, generator=draw) for n in (config.rows, config.test_rows))
    kinetic, frobenius = config.kinetic * np.log(2) / 2, config.frobenius * np.log(2)  # for nats and sums
    runs = {}
    for name in NAMES:
        weights = {"kinetic": kinetic * (name in ("K", "both")), "frobenius": frobenius * (name in ("J", "both"))}
        runs[name] = checked(config, train, test, weights)
    points = np.array([[row["frobenius"], row["evaluations"]] for checks in runs.values() for row in checks])
    last = {f"{key}, {name}": checks[-1][key] for name, checks in runs.items() for key in ("nll", *QUANTITIES)}
    correlation = float(np.nan_to_num(np.corrcoef(points.T)[0, 1]))  # of a smoke test all evaluations are the same
    return {"runs": runs, "correlation": correlation, "entropy": source.entropy, **last}


def checked(config: Config, train: Tensor, test: Tensor, weights: dict[str, float]) -> list[dict[str, float]]:
    """What the checks of one training saw."""
    torch.manual_seed(config.seed)
    flow = cnf.build("rnode", 2)
    objective = Checked(cnf.MaximumLikelihood(weights), test, config.every)
    settings = cnf.FitConfig(
        steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate, checks=1,
        solver=cnf.RungeKutta("rk4", steps=config.grid), divergence=cnf.Exact(), seed=config.seed,
    )  # fmt: skip
    cnf.fit(flow, train, objective, config=settings)
    return objective.checks


@dataclass
class Checked:
    """An objective that every few steps solves for the test rows by dopri5, and notes what that took."""

    objective: Callable[..., Any]
    test: Tensor
    every: int
    calls: int = 0
    checks: list[dict[str, float]] = field(default_factory=list)

    def __call__(self, flow: cnf.Flow, x: Tensor, context: Tensor | None = None) -> Any:
        loss = self.objective(flow, x, context)
        self.calls += 1
        if self.calls % self.every == 0:
            with torch.no_grad(), cnf.count_evaluations() as count:
                density = cnf.reconfigure(flow, solver=cnf.RungeKutta())(self.test)
            means = {name: cost.mean().item() for name, cost in density.costs.items()}
            numbers = {"grid": loss.metrics["nll"].item(), "nll": -density.log_prob.mean().item(), **means}
            rounded = {name: round(number, 4) for name, number in numbers.items()}
            self.checks.append({"step": self.calls, **rounded, "evaluations": count.evaluations})
        return loss


SMOKE = {"steps": 4, "every": 2, "rows": 500, "test_rows": 100}

if __name__ == "__main__":
    run("rnode_ablation", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
