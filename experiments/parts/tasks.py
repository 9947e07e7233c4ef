"""Rows to train and to judge by, with the exact density where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnf.data import TOYS, DataError, data_root, toy
from experiments.parts.rows import standardised

RESOLUTION = 0.01  # of all columns of power_plant


@dataclass(frozen=True)
class Task:
    """Rows, and the exact log-density where there is one."""

    train: Tensor
    validation: Tensor
    test: Tensor
    log_prob: Callable[[Tensor], Tensor] | None = None

    def floor(self, rows: Tensor) -> Tensor:
        """The best NLL there is, `(N,)`; 0 where nobody knows."""
        return rows.new_zeros(len(rows)) if self.log_prob is None else -self.log_prob(rows.double())


def task_of(name: str, sizes: tuple[int, int, int], seed: int) -> Task:
    """A toy, or a table; `_noise` after its name adds uniform noise as wide as its resolution."""
    if name in TOYS:
        source, draw = toy(name), torch.Generator().manual_seed(seed)
        parts = (source.sample(n, generator=draw) for n in sizes)
        return Task(*parts, source.log_prob)
    path = data_root() / f"{name.removesuffix('_noise')}.npy"
    if not path.is_file():
        raise DataError(f"{name}: no file {path}")
    x = np.load(path).astype(np.float64)
    if name.endswith("_noise"):
        x = x + RESOLUTION * (np.random.default_rng(seed).random(x.shape) - 0.5)
    return Task(*standardised(x))
