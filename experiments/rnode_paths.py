"""Paths of a continuous flow on the line, trained by likelihood alone and with RNODE's two penalties.

On the mixture of FFJORD's figure 1. The likelihood does not tell paths apart, since on the line the map between two
densities is unique; the penalties choose among them. From the default start the paths are those of optimal transport
without penalties too: a field that starts small stays small. The start and the weights here are the first of a few
tried that show the difference. Three minutes on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import cnf
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.figures.rnode_paths import EDGE, PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    means: tuple[float, ...] = (-2.8, -0.9, 2.0)  # of Gaussians of equal weight
    variance: float = 0.4
    kinetic: float = 0.01  # weights of the penalties, nats a sample; theirs for images ln 2 / 2 and ln 2 times as much
    frobenius: float = 0.01
    hidden: tuple[int, ...] = (64, 64)
    gain: float = 8.0  # of the last layer's first weights: from small ones paths stay straight without penalties
    restless: float = 5.0  # how many times stronger than by default the field begins to depend on time
    rows: int = 50_000
    test_rows: int = 10_000
    steps: int = 800
    learning_rate: float = 1e-2
    tolerance: float = 1e-2  # of dopri5 in training, that of our default recipe; all numbers are at 1e-5
    paths: int = 25
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    target = cnf.GaussianMixture(torch.tensor(config.means).unsqueeze(1), scale=config.variance**0.5)
    target.requires_grad_(False)
    draw = torch.Generator().manual_seed(config.seed)
    train, validation, test = (target.sample(n, generator=draw) for n in (config.rows, 2_000, config.test_rows))
    x = torch.linspace(-EDGE, EDGE, 201).unsqueeze(1)
    weights: dict[str, dict[str, float]] = {
        "plain": {}, "penalties": {"kinetic": config.kinetic, "frobenius": config.frobenius},
    }  # fmt: skip
    fits = {name: measured(config, fitted(config, train, validation, part), test, x) for name, part in weights.items()}
    keys = ("nll", "kinetic", "frobenius", "evaluations", "detour")
    numbers = {f"{key}, {name}": round(fit[key], 4) for name, fit in fits.items() for key in keys}
    return {
        "fits": fits, "density": rounded(target.log_prob(x).exp()), **numbers,
        "nll, truth": -target.log_prob(test).mean().item(),
        "kinetic, optimal transport": (test - monotone(config, test)).square().mean().item(),
    }  # fmt: skip


def fitted(config: Config, train: Tensor, validation: Tensor, weights: dict[str, float]) -> cnf.Flow:
    torch.manual_seed(config.seed)
    costs = {"kinetic": cnf.KineticEnergy(), "frobenius": cnf.JacobianFrobenius()}
    field = cnf.MLPField(1, hidden=config.hidden)
    first, *_, last = (tensor for tensor in field.parameters() if tensor.dim() == 2)
    with torch.no_grad():
        first[:, 1].mul_(config.restless)
        last.mul_(config.gain)
    flow = cnf.Flow(cnf.CNF(field, regularizers=costs), cnf.StandardNormal(1))
    solver = cnf.RungeKutta("dopri5", rtol=config.tolerance, atol=config.tolerance)
    settings = cnf.FitConfig(
        steps=config.steps, learning_rate=config.learning_rate, patience=None, seed=config.seed, solver=solver
    )
    cnf.fit(flow, train, cnf.MaximumLikelihood(weights), validation=validation, config=settings)
    return flow


@torch.no_grad()
def measured(config: Config, flow: cnf.Flow, test: Tensor, x: Tensor) -> dict[str, Any]:
    """Likelihood, path costs and evaluations on test rows; the density at x; paths from quantiles of the base."""
    with cnf.count_evaluations() as count:
        density = flow(test)
    levels = (torch.arange(config.paths) + 0.5) / config.paths
    paths = flow.trajectory(torch.special.ndtri(levels).unsqueeze(1), torch.linspace(0, 1, 51)).squeeze(2)
    nll = mean_and_error(-density.log_prob)
    return {
        "nll": nll.mean, "nll_standard_error": nll.standard_error, "evaluations": count.evaluations,
        **{name: cost.mean().item() for name, cost in density.costs.items()},
        "detour": (paths.diff(dim=0).abs().sum() / (paths[-1] - paths[0]).abs().sum()).item(),
        "density": rounded(log_prob_of_rows(flow, x).exp()), "paths": [rounded(state) for state in paths],
    }  # fmt: skip


def monotone(config: Config, x: Tensor) -> Tensor:
    """Where optimal transport takes x in base space, `Φ⁻¹(F(x))` with F the mixture's distribution function."""
    x = x.double()
    parts = [torch.special.ndtr((x - mean) / config.variance**0.5) for mean in config.means]
    return torch.special.ndtri(torch.stack(parts).mean(0))


def rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


SMOKE = {"steps": 5, "hidden": (8,), "rows": 500, "test_rows": 100}

if __name__ == "__main__":
    run("rnode_paths", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
