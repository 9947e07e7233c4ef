"""Densities on the sphere that are known exactly, samples of them, and cells of a map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cnf.distributions import VonMisesFisher
from cnf.manifolds import Sphere

FLAT = -float(np.log(4 * np.pi))
PEAKS = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
RING = torch.tensor([0.5, -0.4, 0.77])
WIDTH, BANDS, SECTORS = 0.1, 6, 8


def peaks(x: Tensor) -> Tensor:
    """The log-density of four von Mises-Fisher peaks of concentration 20 at the corners of a tetrahedron."""
    each = torch.stack([VonMisesFisher(mean, 20.0).log_prob(x).detach() for mean in PEAKS])
    return each.logsumexp(0) - np.log(4)


def ring(x: Tensor) -> Tensor:
    """The log-density that falls like a normal one with the height above a small circle, of deviation `WIDTH`."""
    axis, centre = RING / RING.norm(), 0.4
    normal = torch.distributions.Normal(centre, WIDTH)
    mass = normal.cdf(torch.tensor(1.0)) - normal.cdf(torch.tensor(-1.0))
    return normal.log_prob(x @ axis) - mass.log() - np.log(2 * np.pi)


def checkerboard(x: Tensor) -> Tensor:
    """The log-density of the black squares, of equal areas, of a board; e⁻¹⁰⁰ on the white ones."""
    band = ((x[:, 2] + 1) / 2 * BANDS).floor().clamp(0, BANDS - 1)
    sector = (torch.atan2(x[:, 1], x[:, 0]) / (2 * np.pi) * SECTORS).floor()
    return torch.where((band + sector) % 2 == 0, FLAT + float(np.log(2)), -100.0)


TARGETS = {"peaks": peaks, "ring": ring, "checkerboard": checkerboard}


def samples(log_prob: Callable[[Tensor], Tensor], n: int) -> Tensor:
    """Draw from a density on the sphere by rejection from the uniform one."""
    bound, kept = log_prob(Sphere(3).sample(100_000)).max() + 0.1, torch.empty(0, 3)
    while len(kept) < n:
        x = Sphere(3).sample(100_000)
        kept = torch.cat([kept, x[torch.rand(len(x)).log() < log_prob(x) - bound]])
    return kept[:n]


def globe_cells(cells: int) -> Tensor:
    """Middles of cells of equal angles, from the south-west, row by row, `(2 · cells², 3)`."""
    latitude, longitude = (torch.pi * ((torch.arange(n) + 0.5) / cells - n / (2 * cells)) for n in (cells, 2 * cells))
    lat, lon = torch.cartesian_prod(latitude, longitude).mT
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], 1)
