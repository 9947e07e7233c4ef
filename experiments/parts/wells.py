"""Double wells in one coordinate of several: density, evidence, and free energy of the first coordinate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnf.inference.evidence import LogDensity

EDGES = torch.linspace(-2.2, 2.2, 45)
GRID = torch.linspace(-3, 3, 60_001, dtype=torch.float64)


def well(x: Tensor) -> Tensor:
    """`log p̃` of one coordinate, with minima near ±1.4, the right one deeper by about 1.4."""
    return -(x.square() - 2).square() * 1.2 + 0.5 * x


def density(wells: int) -> LogDensity:
    return lambda x: well(x[:, :wells]).sum(1) - x[:, wells:].square().sum(1) / 2


def free_energy() -> Tensor:
    """`−log p` of each cell of the first coordinate, by quadrature."""
    mass = well(GRID).exp()
    cells = torch.bucketize(GRID, EDGES.double())
    sums = torch.zeros(len(EDGES) + 1, dtype=torch.float64).index_add(0, cells, mass)
    return -(sums / mass.sum())[1:-1].log()


def reweighted(x: Tensor, log_weights: Tensor) -> Tensor:
    weights = log_weights.double().softmax(0)
    sums = torch.zeros(len(EDGES) + 1, dtype=torch.float64).index_add(
        0, torch.bucketize(x[:, 0].contiguous(), EDGES), weights
    )
    return -sums[1:-1].log()


def log_evidence(wells: int, dim: int) -> float:
    """`log Z` by quadrature of one well."""
    log_mass = (well(GRID).logsumexp(0) + (GRID[1] - GRID[0]).log()).item()
    return wells * log_mass + (dim - wells) * math.log(2 * math.pi) / 2
