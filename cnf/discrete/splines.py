"""Monotone rational-quadratic splines of the line and the circle, with an inverse in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Ambient, Fraction, Positive, checked
from cnf.discrete.maps import ElementwiseMap
from cnf.distributions.torus import ANGLES, require_angles


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


class Axes(NamedTuple):
    """What a spline does not learn: where its square begins and how long a side is, and the smallest sizes."""

    start: float
    length: float
    min_size: float
    min_slope: float

    def bins(self, logits: Tensor, slopes: Tensor, at: Tensor, *, axis: int) -> Bins:
        """The bins that hold each element on the axis of x (0) or y (1).

        Args:
            logits: Of widths and heights, `(2, K, …)`. Parameters come first, as operations along a short last
                dimension are slow.
            slopes: Raw slopes at all knots, `(K + 1, …)`; 0 is slope 1.
            at: The elements, `(…)`.
            axis: The one they are on.
        """
        k, parts = logits.shape[1], logits.contiguous().softmax(1)
        smallest, spread = self.length * self.min_size, self.length * (1 - self.min_size * k)
        with torch.no_grad():
            count = torch.arange(1, k, dtype=at.dtype, device=at.device).reshape(-1, *[1] * at.dim())
            passed = (parts[axis, :-1].cumsum(0) * spread + (smallest * count + self.start) <= at).to(at.dtype)
            number = passed.sum(0, keepdim=True)
            index, passed = number.long(), F.pad(passed, (*[0, 0] * at.dim(), 0, 1))
        begins = smallest * number + self.start + spread * (parts * passed).sum(1)
        sizes = smallest + spread * parts.gather(1, index.expand(2, 1, *at.shape)).squeeze(1)
        one = math.log(math.expm1(1 - self.min_slope))  # softplus(one) + min_slope = 1
        ends = self.min_slope + F.softplus(slopes.gather(0, torch.cat((index, index + 1))) + one)
        return Bins(*begins.unbind(0), *sizes.unbind(0), *ends.unbind(0))


def _check_spline(bins: int, min_size: float) -> None:
    if not min_size * bins < 1:
        raise ValueError(f"{bins} bins of min_size {min_size} are wider than the whole: take fewer, or smaller ones")


@checked
@dataclass(frozen=True)
class RationalQuadratic(ElementwiseMap):
    """A rational-quadratic spline on `[−B, B]`, the identity outside; see `Bins` for the formula.

    The raw numbers are K widths and K heights, made positive and of sum 2B by a softmax, then K − 1 slopes at the inner
    knots, made positive by a softplus. The slopes at both ends are 1.

    Args:
        bins: K.
        bound: B. Data should be standardised, since points beyond B are not transformed.
        min_size: Smallest width and height of a bin, as a part of 2B.
        min_slope: Smallest slope at a knot.

    Raises:
        ValueError: Fewer than 2 bins, no bound, or smallest sizes that do not fit.

    References:
        Durkan et al. 2019, Neural spline flows, arXiv 1906.04032. Gregory and Delbourgo 1982.

    Example:
        >>> import torch
        >>> spline = RationalQuadratic(bins=2, bound=3.0)
        >>> raw = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])  # the first bin is wider than the second, heights are equal
        >>> z, log_slope = spline.encode(torch.tensor([-1.0, 0.0, 5.0]), raw.expand(3, -1))
        >>> z.round(decimals=3)
        tensor([-1.6070, -1.0390,  5.0000])
    """

    bins: Ambient = 8
    bound: Positive = 5.0
    min_size: Fraction = 1e-3
    min_slope: Fraction = 1e-3

    def __post_init__(self) -> None:
        _check_spline(self.bins, self.min_size)

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
        """The bins that hold each element; at both ends the slope is 1."""
        logits, slopes = raw.movedim(-1, 0).split((2 * self.bins, self.bins - 1))
        slopes = F.pad(slopes, (*[0, 0] * at.dim(), 1, 1))
        axes = Axes(-self.bound, 2 * self.bound, self.min_size, self.min_slope)
        return axes.bins(logits.unflatten(0, (2, self.bins)), slopes, at, axis=axis)


@checked
@dataclass(frozen=True)
class CircularSpline(ElementwiseMap):
    """A rational-quadratic spline of the circle, then a rotation: `z = (s(x) + φ) mod 2π`, with angles in [0, 2π).

    s increases from `s(0) = 0` to `s(2π) = 2π` with the same slope at both ends, so that the map and its slope are
    continuous on the circle. The raw numbers are K widths, K heights and K slopes as for `RationalQuadratic`, then φ.
    The network that gives them must be continuous on the circle too: build it with `angles=True`.

    Args:
        bins: K.
        min_size: Smallest width and height of a bin, as a part of 2π.
        min_slope: Smallest slope at a knot.

    Raises:
        ValueError: Fewer than 2 bins, or smallest sizes that do not fit; in use, angles outside [0, 2π).

    References:
        Rezende et al. 2020, Normalizing flows on tori and spheres, arXiv 2002.02428.

    Example:
        >>> import torch
        >>> spline = CircularSpline(bins=4)
        >>> raw = torch.zeros(2, spline.size)
        >>> raw[:, -1] = 1.0  # rotates by one radian
        >>> spline.encode(torch.tensor([[0.0], [6.0]]), raw.unsqueeze(1))[0].round(decimals=3)
        tensor([[1.0000],
                [0.7170]])
    """

    bins: Ambient = 8
    min_size: Fraction = 1e-3
    min_slope: Fraction = 1e-3

    domain: ClassVar[constraints.Constraint] = ANGLES
    codomain: ClassVar[constraints.Constraint] = ANGLES

    def __post_init__(self) -> None:
        _check_spline(self.bins, self.min_size)

    @property
    def size(self) -> int:
        return 3 * self.bins + 1

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        require_angles(x.flatten(1))
        wrapped = x.remainder(2 * math.pi)
        z, log_slope = self._bins(raw, wrapped, axis=0).encode(wrapped)
        return (z + raw[..., -1]).remainder(2 * math.pi), log_slope

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        require_angles(z.flatten(1))
        turned = (z - raw[..., -1]).remainder(2 * math.pi)
        x, log_slope = self._bins(raw, turned, axis=1).decode(turned)
        return x.remainder(2 * math.pi), log_slope

    def _bins(self, raw: Tensor, at: Tensor, *, axis: int) -> Bins:
        """The bins that hold each element; the first knot is the last, and has its slope."""
        logits, slopes = raw[..., :-1].movedim(-1, 0).split((2 * self.bins, self.bins))
        axes = Axes(0.0, 2 * math.pi, self.min_size, self.min_slope)
        slopes = torch.cat((slopes, slopes[:1]))
        return axes.bins(logits.unflatten(0, (2, self.bins)), slopes, at, axis=axis)
