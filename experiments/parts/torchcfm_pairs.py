"""The pairs of distributions of the authors' runner for table 2 of [SF]²M, at its scales."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import make_moons, make_s_curve
from torch import Tensor


def normal(n: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal((n, 2))).float()


def gaussians(n: int, rng: np.random.Generator, radius: float = 5.0, std: float = 1.0) -> Tensor:
    angle = rng.integers(8, size=n) * np.pi / 4
    return torch.from_numpy(radius * np.stack([np.cos(angle), np.sin(angle)], 1)).float() + std * normal(n, rng)


def moons(n: int, rng: np.random.Generator) -> Tensor:
    x, _ = make_moons(n, noise=0.05, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(2 * x - [1, 0]).float()


def scurve(n: int, rng: np.random.Generator) -> Tensor:
    x, _ = make_s_curve(n, noise=0.05, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(1.5 * x[:, [0, 2]]).float()


def large_moons(n: int, rng: np.random.Generator) -> Tensor:
    """Both coordinates shifted and scaled alike, to a common standard deviation of 7."""
    x, _ = make_moons(n, noise=0.1, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(7 * (x - x.mean()) / x.std()).float()


def large_gaussians(n: int, rng: np.random.Generator) -> Tensor:
    return gaussians(n, rng, 12.0, 1.5)


Draw = Callable[[int, np.random.Generator], Tensor]
PAIRS: dict[str, tuple[Draw, Draw]] = {
    "N → 8gaussians": (normal, gaussians),
    "moons → 8gaussians": (large_moons, large_gaussians),
    "N → moons": (normal, moons),
    "N → scurve": (normal, scurve),
}
