"""Times of solves and of paths as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def as_time(t: float | Tensor, x: Tensor) -> Tensor:
    """A time, or a time for each row, as a tensor of the dtype and device of x."""
    return t.to(x) if isinstance(t, Tensor) else x.new_full((), t)


def as_times(times: Tensor | Sequence[float], x: Tensor) -> Tensor:
    """Times along a path as a tensor of the dtype and device of x.

    Raises:
        ValueError: `times` is empty, outside [0, 1] or not increasing.
    """
    times = torch.as_tensor(times, dtype=x.dtype, device=x.device)
    if times.dim() != 1 or not times.numel() or not ((times >= 0) & (times <= 1)).all() or (times.diff() < 0).any():
        raise ValueError(f"times must be an increasing sequence within [0, 1], got {times.tolist()}")
    return times
