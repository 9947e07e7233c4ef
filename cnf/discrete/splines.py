"""Monotone rational-quadratic splines, an elementwise map with an inverse in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.discrete.maps import ElementwiseMap


class Bins(NamedTuple):
    """One bin for each element: where it begins, how far it goes, and the slopes at its ends, all `(…)`.

    With `s = h / w`, `A = sθ + d₀(1 − θ)` and `B = s(1 − θ) + d₁θ` at `θ = (x − x₀) / w`, the published formulas are
    `y = y₀ + h θA / (θA + (1 − θ)B)` and `dy/dx = s² ((1 − θ)A + θB) / (θA + (1 − θ)B)²`, in which nothing cancels.
    """

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`y` and `log dy/dx`."""
        theta = _limited((x - self.x) / self.width)
        rise, log_slope = self._at(theta, 1 - theta, self.height / self.width)
        return torch.addcmul(self.y, self.height, rise), log_slope

    def decode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """`x` and `log dx/dy`, from the quadratic equation for θ.

        With `t = (y − y₀) / h` and `e = d₀(1 − t) − d₁t` its discriminant is `r² = e² + 4s²t(1 − t)`, a sum of what is
        not negative, and `θ : 1 − θ` is as `2st : e + r`; where `e < 0` it is as `r − e : 2s(1 − t)`. Again
        nothing cancels, so rounding cannot make a root complex.
        """
        t = _limited((y - self.y) / self.height)
        slope, rest = self.height / self.width, 1 - t
        end = self.left * rest - self.right * t
        swap = end < 0
        part = torch.where(swap, -end, end) + torch.addcmul(end.square(), slope.square(), 4 * t * rest).sqrt()
        other = 2 * slope * torch.where(swap, rest, t)
        share = torch.stack((other, part)) / (part + other)
        theta, rest = torch.where(swap, share.flip(0), share).unbind(0)
        return torch.addcmul(self.x, self.width, theta), -self._at(theta, rest, slope)[1]

    def _at(self, theta: Tensor, rest: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The height reached, as a part of the bin's, and the log-slope, at θ and 1 − θ."""
        a = torch.addcmul(slope * theta, self.left, rest)
        b = torch.addcmul(slope * rest, self.right, theta)
        below = torch.addcmul(theta * a, rest, b)
        above = torch.addcmul(rest * a, theta, b)
        return theta * a / below, ((slope / below).square() * above).log()


def _limited(t: Tensor) -> Tensor:
    """`t` within [0, 1], constant outside; its gradient is 1 at the ends, where that of `clamp` differs by version."""
    return torch.where((t >= 0) & (t <= 1), t, t.clamp(0, 1).detach())


@dataclass(frozen=True)
class RationalQuadratic(ElementwiseMap):
    """A rational-quadratic spline on `[−B, B]`, the identity with slope 1 outside.

    The raw numbers are K widths and K heights, made positive and of sum 2B by a softmax, then K − 1 slopes at the inner
    knots, made positive by a softplus.

    Args:
        bins: K.
        bound: B. Data should be standardised: what lies outside is not transformed.
        min_size: Smallest width and height of a bin, as a part of 2B.
        min_slope: Smallest slope at a knot.

    Raises:
        ValueError: Fewer than 2 bins, no bound, or smallest sizes that do not fit.

    References:
        Durkan et al. 2019, Neural spline flows, arXiv 1906.04032. Gregory and Delbourgo 1982.
    """

    bins: int = 8
    bound: float = 5.0
    min_size: float = 1e-3
    min_slope: float = 1e-3

    def __post_init__(self) -> None:
        if self.bins < 2 or not self.bound > 0:
            raise ValueError(f"a spline needs 2 or more bins and a positive bound, got {self.bins} and {self.bound}")
        if not (0 < self.min_size * self.bins < 1 and 0 < self.min_slope < 1):
            raise ValueError(
                f"min_size must be in (0, 1 / bins) and min_slope in (0, 1), got {self.min_size} and {self.min_slope}"
            )

    @property
    def size(self) -> int:
        return 3 * self.bins - 1

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        inside = (x > -self.bound) & (x < self.bound)
        clipped = x.clamp(-self.bound, self.bound)  # before the spline: the branch not taken must have finite gradients
        z, log_slope = self._bins(raw, clipped, axis=0).encode(clipped)
        return torch.where(inside, z, x), log_slope.masked_fill(~inside, 0)

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        inside = (z > -self.bound) & (z < self.bound)
        clipped = z.clamp(-self.bound, self.bound)
        x, log_slope = self._bins(raw, clipped, axis=1).decode(clipped)
        return torch.where(inside, x, z), log_slope.masked_fill(~inside, 0)

    def _bins(self, raw: Tensor, at: Tensor, *, axis: int) -> Bins:
        """The bins that hold each element on the axis of x (0) or y (1)."""
        k, ends = self.bins, [0, 0] * at.dim()
        smallest, spread = 2 * self.bound * self.min_size, 2 * self.bound * (1 - self.min_size * k)
        # Parameters first: operations along a short last dimension are slow.
        logits, slopes = raw.movedim(-1, 0).split((2 * k, k - 1))
        parts = logits.unflatten(0, (2, k)).contiguous().softmax(1)
        with torch.no_grad():
            count = torch.arange(1, k, dtype=at.dtype, device=at.device).reshape(-1, *[1] * at.dim())
            passed = (parts[axis, :-1].cumsum(0) * spread + (smallest * count - self.bound) <= at).to(at.dtype)
            number = passed.sum(0, keepdim=True)
            index, passed = number.long(), F.pad(passed, (*ends, 0, 1))
        begins = smallest * number - self.bound + spread * (parts * passed).sum(1)
        sizes = smallest + spread * parts.gather(1, index.expand(2, 1, *at.shape)).squeeze(1)
        slopes = F.pad(slopes, (*ends, 1, 1)).gather(0, torch.cat((index, index + 1)))
        start = math.log(math.expm1(1 - self.min_slope))  # softplus(start) + min_slope = 1
        return Bins(*begins.unbind(0), *sizes.unbind(0), *(self.min_slope + F.softplus(slopes + start)).unbind(0))
