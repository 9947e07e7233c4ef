"""Events on the earth as points of the sphere, and their split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnf.data import data_root
from experiments.parts.sphere_targets import TARGETS, samples

Rows = tuple[Tensor, Tensor, Tensor]


def events(name: str) -> Tensor:
    """Those of a file of the benchmark, or a thousand of a known density."""
    return samples(TARGETS[name], 1_000) if name in TARGETS else points(data_root() / "earth" / f"{name}.csv")


def points(path: Path) -> Tensor:
    """Latitudes and longitudes in degrees as vectors of length one, `(N, 3)`."""
    table = np.genfromtxt(path, delimiter=",", comments="#")
    latitude, longitude = torch.from_numpy(table[~np.isnan(table).any(1)]).deg2rad().mT  # a header is not a number
    x = torch.stack([latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()], 1)
    return x.float()


def split(x: Tensor, seed: int) -> Rows:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    train, validation = int(0.8 * len(x)), int(0.9 * len(x))
    return x[order[:train]], x[order[train:validation]], x[order[validation:]]


def degrees(x: Tensor) -> list[float]:
    """Longitudes and latitudes in turn, to a tenth of a degree."""
    return [
        round(v, 1)
        for v in torch.stack([torch.atan2(x[:, 1], x[:, 0]), x[:, 2].asin()], 1).rad2deg().flatten().tolist()
    ]
