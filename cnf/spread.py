"""Where the bulk of a column lies and how wide it is, whatever a few wild rows say."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WILD = 3.0  # standard deviation over that of the bulk, from which on it is not the bulk's: a lognormal column has 2
FEWEST = 20  # rows that a spline can be fitted to, or quantiles trusted
LOOKED_AT = 8192  # rows for quantiles that nothing but a scale depends on


class Spread(NamedTuple):
    """Centre and scale of D columns.

    Attributes:
        centre: The mean, or the median of columns with wild rows.
        scale: The standard deviation, or that of a normal with the quartiles of such columns.
        wild: Which columns those are.
    """

    centre: Tensor
    scale: Tensor
    wild: Tensor


def spread_of(ordered: Tensor, mean: Tensor, std: Tensor) -> Spread:
    """Of columns `(D, N)` whose rows increase, with their mean and standard deviation `(D,)`.

    The bulk is the middle half of the rows, or, where half of the rows agree, the middle nine tenths. Its scale
    replaces the standard deviation where that is more than `WILD` times as large: 0.2 % of rows a thousand times too
    large make it forty times what the others have.
    """
    n = ordered.shape[1]
    half = (ordered[:, n - 1 - n // 4] - ordered[:, n // 4]) / (2 * 0.6745)
    most = (ordered[:, n - 1 - n // 20] - ordered[:, n // 20]) / (2 * 1.6449)
    bulk = torch.where(half > 0, half, most)
    wild = (bulk > 0) & (std > WILD * bulk) & (n >= FEWEST)
    return Spread(torch.where(wild, ordered[:, n // 2], mean), torch.where(wild, bulk, std), wild)


def column_spread(x: Tensor) -> Spread:
    """Of the columns of rows `(N, D)`, in float64; the quantiles from some of many rows."""
    std, mean = torch.std_mean(x, 0)
    some = torch.linspace(0, len(x) - 1, min(len(x), LOOKED_AT), device=x.device).round().long()
    return spread_of(x[some].mT.sort(1).values, mean, std)
