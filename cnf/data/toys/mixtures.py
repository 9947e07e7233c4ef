"""Eight Gaussians and eight squares. ε is standard normal."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Generator, Tensor

from cnf.data.toys.blurred import log_gaussian, log_mixture, polar
from cnf.data.toys.draws import choice, normal, uniform


def _gaussian_centres(k: Tensor) -> Tensor:
    return polar(4 / 1.414, k.double() * (math.pi / 4))


def gaussians(n: int, generator: Generator | None) -> Tensor:
    """Eight Gaussians on a circle: `(4 (cos kπ/4, sin kπ/4) + .5ε) / 1.414`; the source rounds √2 so."""
    return _gaussian_centres(choice(8, n, generator)) + 0.5 / 1.414 * normal(n, generator)


def gaussians_log_prob(x: Tensor) -> Tensor:
    """Log-density of `gaussians`."""
    weights = torch.full((8,), 1 / 8, dtype=torch.float64)
    return log_mixture(x, _gaussian_centres(torch.arange(8)), weights, partial(log_gaussian, std=0.5 / 1.414))


def _black_corners() -> Tensor:
    return torch.tensor([(2.0 * i, 2.0 * j) for i in range(-2, 2) for j in range(-2, 2) if (i + j) % 2 == 0])


def checkerboard(n: int, generator: Generator | None) -> Tensor:
    """Uniform on the eight black squares, of side 2, of a board on `[-4, 4]²`."""
    offset = uniform(0, 2, (n, 2), generator)
    return _black_corners().to(offset)[choice(8, n, generator)] + offset


def checkerboard_log_prob(x: Tensor) -> Tensor:
    """Log-density of `checkerboard`."""
    offset = x[:, None] - _black_corners().to(x)
    inside = ((offset >= 0) & (offset <= 2)).all(dim=2).any(dim=1)  # closed: rounding puts samples on edges
    return x.new_full((len(x),), -math.log(32)).masked_fill(~inside, -math.inf)
