"""Chains have the law of the density, whatever the flow."""

from __future__ import annotations

import math

import pytest
import torch

import cnf
from cnf.discrete import Affine
from cnf.inference import metropolis, nuts, potential

STDS = torch.tensor([0.05, 3.0], dtype=torch.float64)


def density(x: torch.Tensor) -> torch.Tensor:
    return -(x / STDS).square().sum(1) / 2


def flow(scale: object) -> cnf.Flow:
    return cnf.Flow(Affine(2, scale=scale), cnf.StandardNormal(2)).double()


def test_metropolis_corrects_the_flow():
    chains = metropolis(flow(1.4 * STDS), density, 4000)
    assert chains.samples.shape == (4, 4000, 2)
    assert 0.3 < chains.acceptance < 0.9
    torch.testing.assert_close(chains.samples.flatten(0, 1).std(0), STDS, rtol=0.06, atol=0)
    pytest.importorskip("arviz_stats")
    assert (chains.r_hat < 1.02).all()
    assert (chains.ess > 1000).all()


def test_metropolis_never_leaves_the_support():
    chains = metropolis(flow(1.0), lambda x: density(x).masked_fill(x[:, 1] < 0, -math.inf), 500)
    assert (chains.samples[:, 50:, 1] >= 0).all()


def test_the_potential_is_the_density_in_other_coordinates():
    body = cnf.build("realnvp", 2, preprocess="none").double()
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    side = torch.linspace(-9, 9, 300, dtype=torch.float64)
    z = torch.cartesian_prod(side, side)
    mass = (-potential(lambda x: -x.square().sum(1) / 2, body)(z)).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(2 * math.pi, rel=5e-3)


def test_estimated_log_determinants_are_refused():
    noisy = cnf.build("cnf", 2, divergence=cnf.Hutchinson())
    for use in (lambda: potential(density, noisy), lambda: metropolis(noisy, density, 10)):
        with pytest.raises(ValueError, match="exact"):
            use()


def test_nuts_moves_in_the_coordinates_of_a_flow():
    pytest.importorskip("pyro")
    pytest.importorskip("arviz_stats")
    chains = nuts(density, flow(STDS), 150, warmup=50, chains=2, progress=False)
    assert chains.samples.shape == (2, 150, 2)
    torch.testing.assert_close(chains.samples.flatten(0, 1).std(0), STDS, rtol=0.25, atol=0)
    assert chains.gradients > 300
    assert (chains.r_hat < 1.1).all()
    again = nuts(density, flow(STDS), 150, warmup=50, chains=2, progress=False)
    assert torch.equal(chains.samples, again.samples)
