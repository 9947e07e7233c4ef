"""Increasing functions of the line, one for each element: splines through given values and slopes."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.arguments import LARGEST, Size, between, checked
from cnf.discrete.splines import Bins

Knots = Annotated[int, between(4, LARGEST)]


class Splines(NamedTuple):
    """D increasing functions of the line: rational-quadratic between K knots, straight lines beyond the outer ones.

    Attributes:
        x: Knots, increasing along each row, `(D, K)`.
        z: Values there, increasing too.
        slope: Slopes there, positive.

    References:
        Gregory and Delbourgo 1982. Durkan et al. 2019, arXiv 1906.04032.

    Example:
        >>> import torch, cnf
        >>> x = torch.tensor([[0.0, 1.0, 2.0]])
        >>> z, log_slope = cnf.discrete.Splines(x, 2 * x, torch.full((1, 3), 2.0)).encode(torch.tensor([[0.5, 3.0]]))
        >>> z.round(decimals=4)
        tensor([[1., 6.]])
    """

    x: Tensor
    z: Tensor
    slope: Tensor

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`z` and `log dz/dx`, elementwise, of `x` `(D, N)`."""
        return self.encode_in(bins_with(self.x, x), x)

    def encode_in(self, left: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """`encode` in the bins that hold `x`, by their numbers: finding them is a third of its time."""
        z, log_slope = self._bins(left).encode(x)
        below, above = F.relu(self.x[:, :1] - x), F.relu(x - self.x[:, -1:])
        return z - self.slope[:, :1] * below + self.slope[:, -1:] * above, log_slope

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`x` and `log dx/dz`, elementwise, of `z` `(D, N)`."""
        x, log_slope = self._bins(bins_with(self.z, z)).decode(z)
        below, above = F.relu(self.z[:, :1] - z), F.relu(z - self.z[:, -1:])
        return x - below / self.slope[:, :1] + above / self.slope[:, -1:], log_slope

    def _bins(self, left: Tensor) -> Bins:
        x, z, slope = (torch.stack((part.gather(1, left), part.gather(1, left + 1))) for part in self)
        return Bins(x[0], z[0], x[1] - x[0], z[1] - z[0], slope[0], slope[1])


def bins_with(knots: Tensor, at: Tensor) -> Tensor:
    """The number of the bin between `knots` `(D, K)` that holds each element, `(D, N)`; the outer bins are open."""
    return torch.searchsorted(knots[:, 1:-1].contiguous(), at.detach().contiguous())


@checked
def identity_splines(dim: Size, knots: Knots) -> Splines:
    """The splines of `z = x`, with knots from −3 to 3.

    Args:
        dim: D.
        knots: K.

    Raises:
        ValueError: No dimension, or too few knots.

    Example:
        >>> import torch, cnf
        >>> cnf.discrete.identity_splines(1, 4).encode(torch.tensor([[0.5, 7.0]]))[0].round(decimals=4)
        tensor([[0.5000, 7.0000]])
    """
    x = torch.linspace(-3, 3, knots).repeat(dim, 1)
    return Splines(x, x.clone(), torch.ones_like(x))
