"""Likelihoods of discrete data in bits."""

from __future__ import annotations

import math

from torch import Tensor

from cnf.arguments import Ambient, Size, checked


@checked
def bits_per_dim(log_prob: Tensor, dims: Size, *, levels: Ambient = 256) -> Tensor:
    """`−(log p / D − log levels) / log 2` for dequantised data in [0, 1): bits a dimension of the discrete data.

    Args:
        log_prob: Log-densities in nats of the data in [0, 1), the log-determinant of any logit included.
        dims: Number D of dimensions.
        levels: Values a dimension can take, at least 2.

    Raises:
        TypeError: Arguments of another type.
        ValueError: No dimension, or fewer than 2 levels.

    References:
        Theis et al. 2016, arXiv 1511.01844.
    """
    return -(log_prob / dims - math.log(levels)) / math.log(2)
