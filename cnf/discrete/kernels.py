"""Estimates of one-dimensional distribution functions, each as values and slopes of `Φ⁻¹ ∘ F̂` at knots."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.spread import spread_of

WIDEST = 2.0  # bandwidth to choose from, in units of the rule for normal data
ANCHORS = 1024  # groups that stand for all rows in the kernel sums
TAIL = 10  # rows beyond the outermost knot on either side, at most a twentieth of all
MIN_SLOPE = 1e-3  # times that of the normal: a gap between two modes stays invertible in float32
TABLE = 2**18  # entries of the (columns, knots, anchors) tables that are made at once: 2 MB, which a cache holds
FAR = 10.0  # scales from the centre of a column with wild rows; beyond, knots lie at equal ratios


class Columns(NamedTuple):
    """Columns `(D, N)` whose rows increase, with what all estimates need of them, each `(D, 1)`; see `Spread`."""

    rows: Tensor
    mean: Tensor
    std: Tensor
    centre: Tensor
    scale: Tensor
    wild: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Columns:
        ordered = rows.sort(1).values
        std, mean = torch.std_mean(ordered, 1)
        return cls(ordered, *(part[:, None] for part in (mean, std, *spread_of(ordered, mean, std))))

    def take(self, which: Tensor) -> Columns:
        return Columns(*(part[which] for part in self))


Estimate = Callable[[Columns, Tensor], tuple[Tensor, Tensor]]  # data, knots (D, K) -> z and slopes (D, K)


def estimates_from(narrowest: float) -> list[Estimate]:
    """Those to choose from: kernels from the narrowest to the widest, and what needs none."""
    if not 0 < narrowest <= WIDEST:
        raise ValueError(f"narrowest must be in (0, {WIDEST:g}], got {narrowest}")
    halvings = math.floor(math.log2(WIDEST / narrowest))
    kernels = [partial(_kernel, bandwidth=WIDEST / 2**k) for k in range(halvings, -1, -1)]
    return [*kernels, _normal, identity]


def place_knots(data: Columns, number: int) -> Tensor:
    """Half of them at quantiles, for where the data are; half at equal distances, for the gaps between modes.

    Of columns with wild rows, distances are those of a place that is logarithmic beyond `FAR` scales from the centre:
    otherwise the wild rows would have all the knots of the second half, and those of the first could not lie close.
    """
    rows, n, tail = data.rows, data.rows.shape[1], _tail(data.rows)
    low = _place(data, torch.minimum(rows[:, tail, None], data.centre - data.scale))
    high = _place(data, torch.maximum(rows[:, ~tail, None], data.centre + data.scale))
    ranks = torch.linspace(tail, n - 1 - tail, number // 2, device=rows.device).round().long()
    even = torch.linspace(0, 1, number, dtype=rows.dtype, device=rows.device)
    apart = torch.linspace(0, 1, number - number // 2, dtype=rows.dtype, device=rows.device)
    quantiles = (_place(data, rows[:, ranks]) - low) / (high - low)
    shares = torch.cat((quantiles, apart.expand(len(rows), -1)), 1).sort(1).values
    return _at(data, low + (high - low) * (0.9 * shares + 0.1 * even))  # never two at one place


def _place(data: Columns, x: Tensor) -> Tensor:
    u = (x - data.centre) / data.scale
    far = FAR * (1 + (u.abs() / FAR).log())
    return torch.where(data.wild & (u.abs() > FAR), far.copysign(u), u)


def _at(data: Columns, place: Tensor) -> Tensor:
    far = FAR * (place.abs() / FAR - 1).exp()
    return data.centre + data.scale * torch.where(data.wild & (place.abs() > FAR), far.copysign(place), place)


def _tail(ordered: Tensor) -> int:
    return min(TAIL, ordered.shape[1] // 20)


def _kernel(data: Columns, knots: Tensor, *, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Gaussian kernels around the rows: `F̂(x) = Σⱼ wⱼ Φ((x − aⱼ) / h)`.

    Rows `a` are contracted to the mean by `1 / √(1 + h²/σ²)`, so that the estimate has their variance σ².
    """
    ordered, mean, std = data.rows, data.mean, data.std
    n, tail = ordered.shape[1], _tail(ordered)
    quartiles = (ordered[:, [(3 * n) // 4]] - ordered[:, [n // 4]]) / 1.349
    width = bandwidth * 1.06 * n**-0.2 * torch.minimum(data.scale, quartiles.clamp(min=0.1 * data.scale))
    contraction = (1 + (width / std).square()).rsqrt()
    anchors, weights = _anchors(ordered)
    cdf, density = kernel_sums(knots, mean + (anchors - mean) * contraction, width * contraction, weights)
    z = torch.special.ndtri(cdf.clamp(0.5 / n, 1 - 0.5 / n))
    slope = density * (0.5 * z.square()).exp()
    lower = _tail_slope(-z[:, :1], knots[:, :1] - ordered[:, :tail], std)
    upper = _tail_slope(z[:, -1:], ordered[:, -tail:] - knots[:, -1:], std)
    slope = torch.cat((lower, slope[:, 1:-1], upper), 1)
    z = (z + MIN_SLOPE * (knots - mean) / std) / (1 + MIN_SLOPE)
    return z, (slope + MIN_SLOPE / std) / (1 + MIN_SLOPE)


def kernel_sums(knots: Tensor, places: Tensor, width: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """`Σⱼ wⱼ Φ(u)` and `Σⱼ wⱼ exp(−u²/2) / h` with `u = (x − aⱼ) / h`, for knots `(D, K)` and places `(D, A)`.

    In float32, whose 10⁻⁷ are far below the noise of a sum over rows, as all the time of a fit is spent here.
    """
    together = max(1, TABLE // (knots.shape[1] * places.shape[1]))
    middle, unit = places[:, places.shape[1] // 2, None], width * math.sqrt(2)
    x, a, share = ((knots - middle) / unit).float(), ((places - middle) / unit).float(), weights.float()
    sums = []
    for at, around in zip(x.split(together), a.split(together), strict=True):
        u = at[:, :, None] - around[:, None]
        bells = u.square().neg_().clamp_(min=-80.0).exp_() @ share  # smaller ones are slow to compute
        sums.append(torch.stack((u.erf_() @ share, bells)).double())
    steps, bells = torch.cat(sums, 1).unbind(0)
    return 0.5 + 0.5 * steps, bells / width


def _anchors(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Means and shares of groups of neighbours: all rows if they are few, else smaller groups towards the ends."""
    n = ordered.shape[1]
    if n <= ANCHORS:
        return ordered, ordered.new_full((n,), 1 / n)
    t = torch.linspace(0, 1, ANCHORS + 1, dtype=torch.float64)
    edges = (n * t.square() * (3 - 2 * t)).round().long().unique().to(ordered.device)
    sums = F.pad(ordered.cumsum(1), (1, 0))[:, edges]
    return sums.diff(dim=1) / edges.diff(), edges.diff().to(ordered) / n


def _tail_slope(z: Tensor, excess: Tensor, std: Tensor) -> Tensor:
    """The slope s of highest likelihood for rows at distances d beyond the outermost knot, at most 1/σ.

    `Σᵢ log s − ½ (z + s dᵢ)²` is greatest where `s² Σd² + s z Σd = m`.
    """
    d = torch.maximum(excess, 1e-6 * std)
    m, first, second = d.shape[1], z * d.sum(1, keepdim=True), d.square().sum(1, keepdim=True)
    slope = 2 * m / (first + (first.square() + 4 * m * second).sqrt())
    return torch.minimum(slope, 1 / std)


def _normal(data: Columns, knots: Tensor) -> tuple[Tensor, Tensor]:
    return (knots - data.mean) / data.std, (1 / data.std).expand_as(knots)


def identity(data: Columns, knots: Tensor) -> tuple[Tensor, Tensor]:
    """The standard normal: the column is left as it is."""
    return knots, torch.ones_like(knots)
