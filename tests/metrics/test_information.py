"""Divergences between whatever has samples and a density."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal

import cnf
from cnf.data import energy, toy
from cnf.metrics import entropy, kl_divergence


def normal(scale: float) -> Independent:
    return Independent(Normal(torch.zeros(2), scale), 1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_known_density_is_not_far_from_itself():
    for known in (toy("moons"), energy("U2"), cnf.StandardNormal(2), normal(2.0)):
        estimate = kl_divergence(known, known, samples=50)
        assert estimate.mean == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["moons", "checkerboard"])
def test_from_a_toy_to_a_normal_it_is_the_cross_entropy_without_the_entropy(name):
    x = toy(name).sample(200_000).double()
    cross = (x.square().sum(1) / (2 * 9) + math.log(2 * math.pi * 9)).mean().item()
    for target in (normal(3.0), cnf.DiagonalNormal(2, scale=3.0), cnf.Flow(cnf.Compose([]), normal(3.0))):
        estimate = kl_divergence(toy(name), target, samples=20_000)
        assert abs(estimate.mean - (cross - toy(name).entropy)) < 4 * estimate.standard_error + 0.01
        assert estimate.standard_error < 0.02


def test_samples_are_given_to_a_flow_in_its_precision():
    flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2)).double()
    assert kl_divergence(toy("moons"), flow, samples=10).mean > 0
    assert kl_divergence(flow, cnf.StandardNormal(2), samples=10).mean == pytest.approx(0, abs=1e-6)


OF_A_NORMAL = math.log(2 * math.pi) + 1


@pytest.mark.parametrize(
    ("known", "exact"),
    [
        (toy("rings"), toy("rings").entropy),
        (cnf.StandardNormal(2), OF_A_NORMAL),
        (normal(2), OF_A_NORMAL + math.log(4)),
    ],
)
def test_the_entropy_is_the_known_one(known, exact):
    estimate = entropy(known, samples=20_000)
    assert abs(estimate.mean - exact) < 4 * estimate.standard_error


def test_the_entropy_of_an_energy_is_that_of_quadrature():
    axis = torch.arange(-6, 6, 0.05, dtype=torch.float64)
    log_prob = energy("U1").log_prob(torch.cartesian_prod(axis, axis))
    exact = -(log_prob.exp() * log_prob).nan_to_num().sum().item() * 0.05**2
    estimate = entropy(energy("U1"), samples=20_000)
    assert abs(estimate.mean - exact) < 4 * estimate.standard_error


def test_what_has_no_density_cannot_be_compared():
    with pytest.raises(ValueError, match="'line' has no density"):
        kl_divergence(toy("line"), cnf.StandardNormal(2))
    with pytest.raises(TypeError, match="p must be"):
        kl_divergence(torch.zeros(3, 2), cnf.StandardNormal(2))
