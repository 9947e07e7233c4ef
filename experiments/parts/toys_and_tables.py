"""Rows of toys and of tables, the latter without columns that follow from others, dequantised and standardised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnf.data import TOYS, DataError, data_root, split, toy
from cnf.tables import read

DROPPED: dict[str, dict[int, str]] = {  # columns that follow from others
    "parkinsons": {8: "3 x6, rounded", 14: "3 x11, rounded"},
    "airfoil": {4: "a function of x1, x2, x3"},
    "energy": {1: "a function of x0", 3: "(x1 - x2) / 2"},
    "bike": {4: "x0", 5: "x1", 9: "a function of x7, x8", 17: "log(x15 + x16) with their offsets"},
    "elevators": {11: "x10, but 2 rows", 14: "constant, but 2", 16: "constant, but 3", 17: "x12, but 4"},
}


def parts(data: str, seed: int, toy_rows: tuple[int, int, int], root: str | None) -> tuple[Tensor, ...]:
    """Training, validation and test rows, and the entropy's part of the NLL of the latter; 0 where nobody knows it."""
    if data in TOYS:
        source, draw = toy(data), torch.Generator().manual_seed(seed)
        train, validation, test = (source.sample(n, generator=draw) for n in toy_rows)
        return train, validation, test, -source.log_prob(test.double())
    x = dequantised(data, data_root(root))
    rows = split(len(x), seed=seed)
    z = torch.tensor((x - x[rows.train].mean(0)) / x[rows.train].std(0), dtype=torch.float32)
    return z[rows.train], z[rows.validation], z[rows.test], torch.zeros(())


def dequantised(name: str, root: Path) -> np.ndarray:
    """A table without the columns that follow from others, with noise as wide as the smallest step of each column."""
    found = [path for folder in (root, root / "tables") for path in folder.glob(f"{name}.*")]
    if not found:
        raise DataError(f"no file {name}.* in {root}")
    x = np.delete(read(found[0]).frame.to_numpy().astype(np.float64), list(DROPPED.get(name, {})), axis=1)
    steps = np.array([np.diff(np.unique(column)).min() for column in x.T])
    noisy: np.ndarray = x + steps * (np.random.default_rng(0).random(x.shape) - 0.5)
    return noisy
