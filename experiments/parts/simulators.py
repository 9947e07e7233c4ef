"""Two simulators of the benchmark of simulation-based inference, with draws of their exact posteriors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SAMPLES = 4  # of SLCP, in two dimensions each
TEMPERED = 25  # temperatures of its posterior, with so many steps of Metropolis at each


class Simulator(NamedTuple):
    """A uniform prior on a box `[−edge, edge]^dim`, and what is known of the data given parameters."""

    dim: int
    edge: float
    simulate: Callable[[Tensor], Tensor]
    posterior: Callable[[Tensor, int], Tensor]  # of data `(C,)`, so many draws

    def prior(self, n: int) -> Tensor:
        return self.edge * (2 * torch.rand(n, self.dim) - 1)


def crescent(n: int) -> Tensor:
    angle, radius = math.pi * (torch.rand(n) - 0.5), 0.1 + 0.01 * torch.randn(n)
    return torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], 1)


def two_moons(theta: Tensor) -> Tensor:
    first, second = theta.unbind(1)
    return crescent(len(theta)) + torch.stack([-(first + second).abs(), second - first], 1) / math.sqrt(2)


def posterior_of_two_moons(x: Tensor, n: int) -> Tensor:
    """The map from noise to θ has two branches, each with a constant Jacobian."""
    shift = math.sqrt(2) * (x - crescent(4 * n))
    total = -shift[:, 0] * (torch.randint(2, (4 * n,)) * 2 - 1)
    theta = torch.stack([total - shift[:, 1], total + shift[:, 1]], 1) / 2
    return theta[(theta.abs() <= 1).all(1) & (shift[:, 0] <= 0)][:n]


def slcp_normal(theta: Tensor) -> torch.distributions.MultivariateNormal:
    """Mean θ₁, θ₂, standard deviations θ₃², θ₄², correlation tanh θ₅, as `(N, 1)` distributions of the plane."""
    first, second = theta[:, 2].square() + 1e-6, theta[:, 3].square() + 1e-6
    correlation = theta[:, 4].tanh()
    rest = second * (1 - correlation.square()).clamp(min=1e-6).sqrt()
    lower = torch.stack([first, torch.zeros_like(first), second * correlation, rest], 1).view(-1, 1, 2, 2)
    return torch.distributions.MultivariateNormal(theta[:, None, :2], scale_tril=lower, validate_args=False)


def slcp(theta: Tensor) -> Tensor:
    normal = slcp_normal(theta)
    return torch.cat([normal.sample() for _ in range(SAMPLES)], 1).flatten(1)


def posterior_of_slcp(x: Tensor, n: int) -> Tensor:
    """Tempered from the prior, by resampling and Metropolis steps; then the signs of θ₃ and θ₄ at random.

    The data do not depend on these signs, so that particles need to find one mode of the four.
    """
    points = x.view(SAMPLES, 2)
    particles = 3 * (2 * torch.rand(2 * n, 5) - 1)
    particles[:, 2:4] = particles[:, 2:4].abs()

    def log_likelihood(theta: Tensor) -> Tensor:
        inside = (theta.abs() <= 3).all(1) & (theta[:, 2:4] >= 0).all(1)
        return slcp_normal(theta).log_prob(points).sum(1).masked_fill(~inside, -math.inf)

    values, before = log_likelihood(particles), 0.0
    for step in range(1, TEMPERED + 1):
        beta = (step / TEMPERED) ** 4
        chosen = torch.multinomial(((beta - before) * values).softmax(0), len(particles), replacement=True)
        particles, values, before = particles[chosen], values[chosen], beta
        root = torch.linalg.cholesky(particles.T.cov() + 1e-8 * torch.eye(5))
        for move in range(TEMPERED):
            scale = 0.8 if move % 2 else 0.2
            proposed = particles + scale * torch.randn_like(particles) @ root.T
            found = log_likelihood(proposed)
            accepted = torch.rand(len(values)).log() < beta * (found - values)
            particles = torch.where(accepted[:, None], proposed, particles)
            values = torch.where(accepted, found, values)
    signs = torch.ones_like(particles)
    signs[:, 2:4] = 2.0 * torch.randint(2, (len(particles), 2)) - 1
    return (signs * particles)[torch.randperm(len(particles))[:n]]


SIMULATORS = {
    "two moons": Simulator(2, 1.0, two_moons, posterior_of_two_moons),
    "SLCP": Simulator(5, 3.0, slcp, posterior_of_slcp),
}
