"""A mean with its standard error."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """A mean and its standard error.

    Attributes:
        mean: The mean.
        standard_error: Its standard error; NaN if it is not known.

    Example:
        >>> mean, standard_error = Estimate(0.5, 0.1)
        >>> mean
        0.5
    """

    mean: float
    standard_error: float


def mean_and_error(values: Tensor) -> Estimate:
    """Mean of independent values and its standard error `s/√N`, with the standard deviation s of the values.

    Args:
        values: N numbers, of any shape.

    Returns:
        The two numbers; the standard error of a single value is NaN.

    Raises:
        ValueError: No values.

    Example:
        >>> import torch
        >>> mean_and_error(torch.tensor([1.0, 3.0]))
        Estimate(mean=2.0, standard_error=1.0)
    """
    if not values.numel():
        raise ValueError("a mean needs at least one value, got none")
    values = values.flatten().double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), error)
