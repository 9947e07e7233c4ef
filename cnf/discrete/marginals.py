"""Marginal Gaussianization: each element by itself to a standard normal, by a smooth function fitted to data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.arguments import LARGEST, Rule, Seed, Size, between, checked
from cnf.discrete.splines import Bins
from cnf.transforms import Mapped, Transform

WIDEST = 2.0  # bandwidth to choose from, in units of the rule for normal data
ANCHORS = 1024  # groups that stand for all rows in the kernel sums
FEWEST = 20  # rows that a spline can be fitted to
TAIL = 10  # rows beyond the outermost knot on either side, at most a twentieth of all
MIN_SLOPE = 1e-3  # times that of the normal: a gap between two modes stays invertible in float32
TABLE = 2**20  # entries of the (columns, knots, anchors) tables that are made at once: 8 MB


class Splines(NamedTuple):
    """D increasing functions of the line: rational-quadratic between K knots, straight lines beyond the outer ones.

    Attributes:
        x: Knots, increasing along each row, `(D, K)`.
        z: Values there, increasing too.
        slope: Slopes there, positive.

    References:
        Gregory and Delbourgo 1982. Durkan et al. 2019, arXiv 1906.04032.
    """

    x: Tensor
    z: Tensor
    slope: Tensor

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`z` and `log dz/dx`, elementwise, of `x` `(D, N)`."""
        z, log_slope = self._bins(x, self.x).encode(x)
        below, above = F.relu(self.x[:, :1] - x), F.relu(x - self.x[:, -1:])
        return z - self.slope[:, :1] * below + self.slope[:, -1:] * above, log_slope

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`x` and `log dx/dz`, elementwise, of `z` `(D, N)`."""
        x, log_slope = self._bins(z, self.z).decode(z)
        below, above = F.relu(self.z[:, :1] - z), F.relu(z - self.z[:, -1:])
        return x - below / self.slope[:, :1] + above / self.slope[:, -1:], log_slope

    def _bins(self, at: Tensor, knots: Tensor) -> Bins:
        left = torch.searchsorted(knots[:, 1:-1].contiguous(), at.detach().contiguous())
        x, z, slope = (torch.stack((part.gather(1, left), part.gather(1, left + 1))) for part in self)
        return Bins(x[0], z[0], x[1] - x[0], z[1] - z[0], slope[0], slope[1])


Knots = Annotated[int, between(4, LARGEST)]
Bandwidth = Annotated[float, Rule(f"above 0 and not above {WIDEST}", lambda value: 0 < value <= WIDEST)]


@checked
class MarginalGaussianization(Transform):
    """`zᵢ = Φ⁻¹(F̂ᵢ(xᵢ))` with an estimate `F̂ᵢ` of each element's distribution function; fitted, not trained.

    `Φ⁻¹ ∘ F̂` itself is a spline, so that Φ never meets its limits, the inverse is in closed form, and elements that are
    normal already are fitted by a straight line. See `fit_splines` for the estimate; until then it is the identity.

    Args:
        dim: D.
        knots: K, of each spline.
        narrowest: Smallest bandwidth to choose from, see `fit_splines`; one far below ¼ wants more knots.
        seed: Of the cross-validation that chooses the bandwidths.

    References:
        Laparra et al. 2011, arXiv 1602.00229; Chen and Gopinath 2000, Gaussianization.
    """

    data_dependent = True
    knots: Tensor

    def __init__(self, dim: Size, *, knots: Knots = 32, narrowest: Bandwidth = 0.25, seed: Seed = 0) -> None:
        super().__init__()
        self.narrowest, self.seed = narrowest, seed
        self.register_buffer("knots", torch.stack(identity_splines(dim, knots)))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        z, log_slope = Splines(*self.knots).encode(x.mT)
        return Mapped(z.mT, log_slope.sum(0))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        x, log_slope = Splines(*self.knots).decode(z.mT)
        return Mapped(x.mT, log_slope.sum(0))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fit the splines to the rows of `x`, see `fit_splines`; fewer than `FEWEST` are standardised."""
        if len(x) < FEWEST:
            self.knots.copy_(torch.stack(_standardizing(x.double(), self.knots.shape[2])))
            return
        generator = torch.Generator().manual_seed(self.seed)
        number = self.knots.shape[2]
        splines, _ = fit_splines(x.double(), knots=number, generator=generator, narrowest=self.narrowest)
        self.knots.copy_(torch.stack(splines))


@checked
def identity_splines(dim: Size, knots: Knots) -> Splines:
    """`z = x`.

    Raises:
        ValueError: No dimension, or too few knots.
    """
    x = torch.linspace(-3, 3, knots).repeat(dim, 1)
    return Splines(x, x.clone(), torch.ones_like(x))


def fit_splines(
    x: Tensor, *, knots: int, generator: torch.Generator, narrowest: float = 0.25
) -> tuple[Splines, Tensor]:
    """Fit a spline to each column of `x`, so that it becomes standard normal.

    A spline interpolates the values and slopes of `Φ⁻¹ ∘ F̂`. Estimates F̂ to choose from are Gaussian kernels of some
    bandwidths, contracted so that the estimate has the variance of the data; the normal distribution, which is their
    limit of infinite bandwidth; and the standard normal, which leaves the column alone. Each column takes the one of
    highest likelihood in a two-fold cross-validation. Beyond the outermost knots, with `TAIL` rows on each side, the
    tail is that of the normal which fits those rows, but never lighter than with the variance of all rows.

    Args:
        x: Data `(N, D)`, in float64.
        knots: K.
        generator: Of the two folds.
        narrowest: Smallest bandwidth, the largest is 2 and each twice the one before, in units of the rule for normal
            data, `1.06 σ N^(−1/5)`. Narrow ones find the steps and clusters of columns that repeat their values.

    Returns:
        The splines, and what each row gains in log-likelihood over the standard normal when the other fold judges
        it, summed over columns, `(N,)`: its mean estimates `KL(p ‖ N(0, I)) − KL(p_z ‖ N(0, I))`.

    Raises:
        ValueError: Fewer than 20 rows, a constant column, or no bandwidth.
    """
    n, estimates = len(x), _estimates(narrowest)
    if n < FEWEST:
        raise ValueError(f"marginals need {FEWEST} or more rows to be fitted to, got {n}")
    _check_varying(x)
    folds = torch.randperm(n, generator=generator).to(x.device).tensor_split(2)
    together = max(1, TABLE // (knots * ANCHORS))
    parts = [_fit_columns(columns, knots, folds, estimates) for columns in x.mT.contiguous().split(together)]
    splines = Splines(*(torch.cat([part[0][i] for part in parts]) for i in range(3)))
    return splines, torch.stack([part[1] for part in parts]).sum(0)


def _check_varying(x: Tensor) -> None:
    std, mean = torch.std_mean(x, 0)
    constant = (std <= 1e-12 * mean.abs()).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"elements {constant[:8]} of the data are constant, so they have no density: drop them")


def _standardizing(x: Tensor, knots: int) -> Splines:
    """`z = (x − mean) / std` for each column of `x`."""
    _check_varying(x)
    std, mean = torch.std_mean(x, 0)
    z = identity_splines(x.shape[1], knots).z.to(x)
    return Splines(mean[:, None] + std[:, None] * z, z, (1 / std[:, None]).expand_as(z))


Estimate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # sorted data (D, n), knots (D, K) -> z and slopes (D, K)


def _estimates(narrowest: float) -> list[Estimate]:
    """Those to choose from: kernels from the narrowest to the widest, and what needs none."""
    if not 0 < narrowest <= WIDEST:
        raise ValueError(f"narrowest must be in (0, {WIDEST:g}], got {narrowest}")
    halvings = math.floor(math.log2(WIDEST / narrowest))
    kernels = [partial(_kernel, bandwidth=WIDEST / 2**k) for k in range(halvings, -1, -1)]
    return [*kernels, _normal, _identity]


def _fit_columns(
    x: Tensor, knots: int, folds: tuple[Tensor, ...], estimates: Sequence[Estimate]
) -> tuple[Splines, Tensor]:
    """The best spline for each row of `x`, `(D, N)`, and the gains `(N,)`."""
    gains = x.new_empty(len(estimates), *x.shape)
    for train, test in (folds, folds[::-1]):
        for gain, splines in zip(gains, _candidates(x[:, train], knots, estimates), strict=True):
            z, log_slope = splines.encode(x[:, test])
            gain[:, test] = log_slope + 0.5 * (x[:, test].square() - z.square())
    best = gains.mean(2).argmax(0)
    every = torch.arange(len(x), device=x.device)
    candidates = _candidates(x, knots, estimates)
    chosen = Splines(*(torch.stack([splines[i] for splines in candidates])[best, every] for i in range(3)))
    return chosen, gains[best, every].sum(0)


def _candidates(x: Tensor, knots: int, estimates: Sequence[Estimate]) -> list[Splines]:
    ordered = x.sort(1).values
    places = _knots(ordered, knots)
    return [Splines(places, *estimate(ordered, places)) for estimate in estimates]


def _knots(ordered: Tensor, number: int) -> Tensor:
    """Half of them at quantiles, for where the data are; half at equal distances, for the gaps between modes."""
    n, tail = ordered.shape[1], _tail(ordered)
    std, mean = torch.std_mean(ordered, 1, keepdim=True)
    low, high = torch.minimum(ordered[:, tail, None], mean - std), torch.maximum(ordered[:, ~tail, None], mean + std)
    ranks = torch.linspace(tail, n - 1 - tail, number // 2, device=ordered.device).round().long()
    even = torch.linspace(0, 1, number, dtype=ordered.dtype, device=ordered.device)
    apart = torch.linspace(0, 1, number - number // 2, dtype=ordered.dtype, device=ordered.device)
    shares = torch.cat(((ordered[:, ranks] - low) / (high - low), apart.expand(len(ordered), -1)), 1).sort(1).values
    return low + (high - low) * (0.9 * shares + 0.1 * even)  # never two at one place


def _tail(ordered: Tensor) -> int:
    return min(TAIL, ordered.shape[1] // 20)


def _kernel(ordered: Tensor, knots: Tensor, *, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Gaussian kernels around the rows: `F̂(x) = Σⱼ wⱼ Φ((x − aⱼ) / h)`.

    Rows `a` are contracted to the mean by `1 / √(1 + h²/σ²)`, so that the estimate has their variance σ².
    """
    n = ordered.shape[1]
    std, mean = torch.std_mean(ordered, 1, keepdim=True)
    quartiles = (ordered[:, [(3 * n) // 4]] - ordered[:, [n // 4]]) / 1.349
    width = bandwidth * 1.06 * n**-0.2 * torch.minimum(std, quartiles.clamp(min=0.1 * std))
    contraction = (1 + (width / std).square()).rsqrt()
    anchors, weights = _anchors(ordered)
    places = (mean + (anchors - mean) * contraction)[:, None]
    u = (knots[:, :, None] - places) / (width * contraction)[:, :, None]
    cdf = (torch.special.ndtr(u) @ weights).clamp(0.5 / n, 1 - 0.5 / n)
    density = (-0.5 * u.square()).exp() @ weights / (width * contraction)
    z = torch.special.ndtri(cdf)
    slope = density * (0.5 * z.square()).exp()
    tail = _tail(ordered)
    lower = _tail_slope(-z[:, :1], knots[:, :1] - ordered[:, :tail], std)
    upper = _tail_slope(z[:, -1:], ordered[:, -tail:] - knots[:, -1:], std)
    slope = torch.cat((lower, slope[:, 1:-1], upper), 1)
    z = (z + MIN_SLOPE * (knots - mean) / std) / (1 + MIN_SLOPE)
    return z, (slope + MIN_SLOPE / std) / (1 + MIN_SLOPE)


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


def _normal(ordered: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(ordered, 1, keepdim=True)
    return (knots - mean) / std, (1 / std).expand_as(knots)


def _identity(ordered: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    return knots, torch.ones_like(knots)
