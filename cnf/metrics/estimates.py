"""A mean with its standard error."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    standard_error: float


def mean_and_error(values: Tensor) -> Estimate:
    """Mean of `(N,)` and the standard error `s/√N` of it, NaN where there is one value only.

    Raises:
        ValueError: No values.
    """
    if not values.numel():
        raise ValueError("a mean needs at least one value, got none")
    values = values.flatten().double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), error)
