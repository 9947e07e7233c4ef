"""What transforms along the first axis of an event share: features of vectors `(N, D)`, channels of `(N, C, H, W)`."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def beside(feature: Tensor, x: Tensor) -> Tensor:
    """One number for each feature, `(D,)`, in a shape that broadcasts against `(N, D, …)`."""
    return feature.reshape(-1, *[1] * (x.dim() - 2))


def at_every_place(log_det: Tensor, x: Tensor) -> Tensor:
    """The log-determinant of a map of features that is applied at every pixel: `P` times its own, for each row."""
    return (math.prod(x.shape[2:]) * log_det).expand(len(x))


def as_rows(x: Tensor) -> Tensor:
    """The vectors along the first axis of each event, `(N · P, D)`."""
    return x if x.dim() == 2 else x.movedim(1, -1).flatten(0, -2)


def as_events(rows: Tensor, like: Tensor) -> Tensor:
    """Vectors `(N · P, D)` in the places that `as_rows` took them from."""
    return rows if like.dim() == 2 else rows.reshape(len(like), *like.shape[2:], rows.shape[1]).movedim(-1, 1)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each feature, over rows and pixels, `(D,)` each."""
    variance, mean = torch.var_mean(x.movedim(1, 0).flatten(1), 1, correction=0)
    return mean, variance
