"""Centre and scale of the bulk of a column, robust against a few outliers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WILD = 3.0  # ratio of the standard deviation to that of the bulk above which there are outliers; of a lognormal it is 2
FEWEST = 20  # rows from which quantiles can be trusted and a spline be fitted
LOOKED_AT = 8192  # rows that suffice for the quantiles of a scale


class Spread(NamedTuple):
    """Centre and scale of D columns.

    Attributes:
        centre: The mean; the median of columns with outliers.
        scale: The standard deviation; for columns with outliers, that of a normal density with the same quartiles.
        wild: Which columns have outliers.

    Example:
        >>> import torch
        >>> Spread(torch.zeros(2), torch.ones(2), torch.tensor([False, True])).wild.sum()
        tensor(1)
    """

    centre: Tensor
    scale: Tensor
    wild: Tensor


def spread_of(ordered: Tensor, mean: Tensor, std: Tensor) -> Spread:
    """Centre and scale of sorted columns `(D, N)`, given their mean and standard deviation `(D,)`.

    The bulk is the middle half of the rows or, if half of the rows are equal, the middle nine tenths. Its scale
    replaces the standard deviation if that is more than `WILD` times as large. For example, if 0.2 % of the rows are a
    thousand times too large, the standard deviation is forty times that of the others.

    Example:
        >>> import torch
        >>> column = torch.cat([torch.linspace(-1, 1, 99), torch.tensor([1000.0])])[None]
        >>> spread_of(column, column.mean(1), column.std(1)).wild
        tensor([True])
    """
    n = ordered.shape[1]
    half = (ordered[:, n - 1 - n // 4] - ordered[:, n // 4]) / (2 * 0.6745)
    most = (ordered[:, n - 1 - n // 20] - ordered[:, n // 20]) / (2 * 1.6449)
    bulk = torch.where(half > 0, half, most)
    wild = (bulk > 0) & (std > WILD * bulk) & (n >= FEWEST)
    return Spread(torch.where(wild, ordered[:, n // 2], mean), torch.where(wild, bulk, std), wild)


def column_spread(x: Tensor) -> Spread:
    """Centre and scale of the columns of rows `(N, D)`; quantiles of many rows come from some of them.

    Example:
        >>> import torch
        >>> column_spread(torch.tensor([[1.0], [2.0], [3.0]]).double()).centre
        tensor([2.], dtype=torch.float64)
    """
    std, mean = torch.std_mean(x, 0)
    some = torch.linspace(0, len(x) - 1, min(len(x), LOOKED_AT), device=x.device).round().long()
    return spread_of(x[some].mT.sort(1).values, mean, std)
