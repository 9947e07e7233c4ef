"""Evidence by flows that were trained for it, in 100 seeds of draws, and a continuous flow on a hierarchical model."""

from __future__ import annotations

import math
import time
import warnings

import pytest
import torch
from torch import Tensor
from torch.distributions import HalfCauchy, Normal

import cnf
from cnf.inference import UnreliableWarning, importance

DIM, SEEDS = 10, 100


def banana(x: Tensor) -> Tensor:
    return -x[:, 0].square() / 2 - (x[:, 1] - 0.5 * x[:, 0].square()).square() / 2


def mixture(x: Tensor) -> Tensor:
    """Two normal modes in ten dimensions, of mass 1/3 and 2/3."""
    parts = [Normal(loc, 0.5**0.5).log_prob(x).sum(1) for loc in (0.7, -0.7)]
    return torch.logaddexp(parts[0] - math.log(3), parts[1] + math.log(2 / 3))


def funnel(x: Tensor) -> Tensor:
    v, others = x[:, 0], x[:, 1:]
    return -v.square() / 18 - others.square().sum(1) * (-v).exp() / 2 - v * (DIM - 1) / 2


def log_constant(stds: list[float]) -> float:
    return sum(math.log(std) for std in stds) + len(stds) / 2 * math.log(2 * math.pi)


TARGETS = {
    "banana": (banana, 2, log_constant([1, 1]), cnf.ReverseKL(banana, path_gradient=True), "realnvp"),
    "mixture": (mixture, DIM, 0.0, cnf.AlphaDivergence(mixture), "realnvp"),
    "funnel": (
        funnel,
        DIM,
        log_constant([3] + [1] * (DIM - 1)),
        cnf.ReverseKL(funnel, path_gradient=True),
        "iaf",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_the_evidence_is_within_two_errors_as_often_as_it_should(name):
    density, dim, truth, objective, model = TARGETS[name]
    torch.manual_seed(0)
    options = {"layers": 2, "bound": 8.0, "activation": "silu"} if model == "iaf" else {"layers": 6}
    flow = cnf.build(model, dim, hidden=32, preprocess="none", **options)
    config = cnf.FitConfig(steps=1_000, batch_size=256, learning_rate=5e-3, progress=False, accelerator="cpu")
    cnf.fit(flow, None, objective, config=config)
    within, unreliable = [], 0
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            evidence = importance(flow, density, 2_000)
        within.append(abs(evidence.log_z - truth) < 2 * evidence.standard_error)
        unreliable += any(issubclass(warning.category, UnreliableWarning) for warning in caught)
    print(name, evidence, f"within {sum(within)} (of the first 20 {sum(within[:20])}), warned {unreliable}")
    assert sum(within) >= 0.9 * SEEDS  # 95.4 expected, with a standard deviation of 2.1
    assert unreliable < 0.3 * SEEDS


SCHOOLS = torch.tensor([[28.0, 8, -3, 7, -1, 1, 18, 12], [15.0, 10, 16, 11, 9, 11, 10, 18]])


def eight_schools(x: Tensor) -> Tensor:
    """`μ ~ N(0, 5), τ ~ C⁺(0, 5), θᵢ ~ N(μ, τ), yᵢ ~ N(θᵢ, σᵢ)` on `(μ, log τ, θ)`: a funnel."""
    mu, log_tau, theta = x[:, 0], x[:, 1], x[:, 2:]
    prior = Normal(0.0, 5.0).log_prob(mu) + HalfCauchy(5.0).log_prob(log_tau.exp()) + log_tau
    schools = Normal(mu[:, None], log_tau.exp()[:, None]).log_prob(theta).sum(1)
    return prior + schools + Normal(theta, SCHOOLS[1]).log_prob(SCHOOLS[0]).sum(1)


@pytest.mark.slow
def test_a_continuous_flow_proposes_for_eight_schools():
    """In two minutes of one core."""
    torch.manual_seed(0)
    flow = cnf.build("cnf", DIM)
    config = cnf.FitConfig(seconds=110, batch_size=256, learning_rate=1e-2, progress=False, accelerator="cpu")
    objective = cnf.ReverseKL(eight_schools, path_gradient=True)
    cnf.fit(flow, None, objective, config=config, clock=time.process_time)
    evidence = importance(flow, eight_schools, 10_000)
    print(evidence)
    assert evidence.ess >= 0.6
