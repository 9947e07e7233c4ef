"""Likelihoods of discrete data in bits."""

from __future__ import annotations

import math

from torch import Tensor

from cnf.arguments import Ambient, Size, checked


@checked
def bits_per_dim(log_prob: Tensor, dims: Size, *, levels: Ambient | None = 256) -> Tensor:
    """Bits per dimension of discrete data, `−(log p / D − log L) / log 2`, from densities of the dequantised data.

    Args:
        log_prob: Log-densities in nats of the data in [0, 1); if the flow has a logit, with its log-determinant.
        dims: D, the number of dimensions.
        levels: L, the number of values that a dimension can take, at least 2; None if `log_prob` is the log-probability
            of whole numbers, as of a flow that begins with `Dequantize`.

    Returns:
        In the shape of `log_prob`.

    Raises:
        ValueError: No dimension, or fewer than 2 levels.

    References:
        Theis et al. 2016, arXiv 1511.01844.

    Example:
        The uniform density needs 8 bits for each of 256 levels:

        >>> import torch
        >>> bits_per_dim(torch.zeros(2), dims=784)
        tensor([8., 8.])
    """
    return -(log_prob / dims - math.log(levels or 1)) / math.log(2)
