"""Rows of tables, shuffled, split and in units of the training rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cnf.data import split

Parts = tuple[Tensor, Tensor, Tensor]


def standardised(x: np.ndarray) -> Parts:
    """Training, validation and test rows."""
    rows = split(len(x))
    mean, std = x[rows.train].mean(0), x[rows.train].std(0)
    train, validation, test = (
        torch.tensor((x[part] - mean) / std, dtype=torch.float32) for part in (rows.train, rows.validation, rows.test)
    )
    return train, validation, test
