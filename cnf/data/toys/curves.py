"""Blurred curves, and two curves without blur. ε is standard normal."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Generator, Tensor

from cnf.data.toys.blurred import edges, log_blurred_box, log_gaussian, log_mixture, polar, quadrature
from cnf.data.toys.draws import choice, normal, sign, uniform


def rings(n: int, generator: Generator | None, *, radii: tuple[float, ...], std: float) -> Tensor:
    """Circles of equal weight: `r (cos φ, sin φ) + std ε` with `φ ~ U(0, 2π)`."""
    angle = uniform(0, 2 * math.pi, (n,), generator)
    radius = angle.new_tensor(radii)[choice(len(radii), n, generator)]
    return polar(radius, angle) + std * normal(n, generator)


def rings_log_prob(x: Tensor, *, radii: tuple[float, ...], std: float) -> Tensor:
    """Integrate over the angle: `p(x) = mean_r exp(-(|x|² + r²) / 2std²) I₀(|x| r / std²) / 2π std²`.

    The Bessel function comes scaled, `I₀(a) exp(-a)`, which turns `|x|² + r²` into `(|x| - r)²`.
    """
    distance, r = torch.linalg.vector_norm(x, dim=1, keepdim=True), x.new_tensor(radii)
    log_bessel = torch.special.i0e(distance * r / std**2).log()
    log_ring = log_bessel - 0.5 * ((distance - r) / std) ** 2 - math.log(2 * math.pi * std**2)
    return torch.logsumexp(log_ring, dim=1) - math.log(len(radii))


def _moon(u: Tensor) -> Tensor:
    """The upper moon; the lower is its mirror image in the origin."""
    return 2 * polar(1.0, u) - u.new_tensor([1.0, 0.5])


def moons(n: int, generator: Generator | None) -> Tensor:
    """Two half circles: `±(2 (cos u, sin u) - (1, .5)) + (0, .3) + .2ε` with `u ~ U(0, π)`."""
    u = uniform(0, math.pi, (n,), generator)
    return sign(n, generator) * _moon(u) + u.new_tensor([0.0, 0.3]) + 0.2 * normal(n, generator)


def moons_log_prob(x: Tensor) -> Tensor:
    """Log-density of `moons`."""
    u, weights = quadrature(edges(0, math.pi, 8))
    points = torch.cat([_moon(u), -_moon(u)]) + u.new_tensor([0.0, 0.3])
    return log_mixture(x, points, weights.repeat(2) / (2 * math.pi), partial(log_gaussian, std=0.2))


def swissroll(n: int, generator: Generator | None) -> Tensor:
    """A spiral: `(u (cos u, sin u) + ε) / 5` with `u ~ U(1.5π, 4.5π)`."""
    u = uniform(1.5 * math.pi, 4.5 * math.pi, (n,), generator)
    return (polar(u, u) + normal(n, generator)) / 5


def swissroll_log_prob(x: Tensor) -> Tensor:
    """Log-density of `swissroll`."""
    u, weights = quadrature(edges(1.5 * math.pi, 4.5 * math.pi, 12))
    return log_mixture(x, polar(u, u) / 5, weights / (3 * math.pi), partial(log_gaussian, std=0.2))


def _spiral(u: Tensor) -> Tensor:
    """The middle of the first arm, with the mean 1/4 of its offsets; the second arm is its mirror image."""
    return (u[:, None] * torch.stack([-u.cos(), u.sin()], dim=1) + 0.25) / 3


def spirals(n: int, generator: Generator | None) -> Tensor:
    """Two arms: `±(u (-cos u, sin u) + v) / 3 + .1ε` with `u = 3π √U(0, 1)` and `v ~ U(0, .5)²`."""
    u = 3 * math.pi * uniform(0, 1, (n,), generator).sqrt()
    offset = uniform(-0.25, 0.25, (n, 2), generator) / 3
    return sign(n, generator) * (_spiral(u) + offset) + 0.1 * normal(n, generator)


def spirals_log_prob(x: Tensor) -> Tensor:
    """Log-density of `spirals`."""
    u, weights = quadrature(3 * math.pi * edges(0, 1, 12) ** 0.6)  # about equal lengths of the arm
    density = 2 * u / (3 * math.pi) ** 2
    kernel = partial(log_blurred_box, half=0.25 / 3, std=0.1)
    return log_mixture(x, torch.cat([_spiral(u), -_spiral(u)]), (weights * density).repeat(2) / 2, kernel)


def line(n: int, generator: Generator | None) -> Tensor:
    """A diagonal: `(u, u)` with `u ~ U(-2.5, 2.5)`."""
    return uniform(-2.5, 2.5, (n, 1), generator).repeat(1, 2)


def cos(n: int, generator: Generator | None) -> Tensor:
    """A wave: `(u, 2.5 sin u)` with `u ~ U(-2.5, 2.5)`, whose name is the source's."""
    u = uniform(-2.5, 2.5, (n, 1), generator)
    return torch.cat([u, 2.5 * u.sin()], dim=1)
