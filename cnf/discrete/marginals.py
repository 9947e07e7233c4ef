"""Marginal Gaussianization: each element by itself to a standard normal, by a smooth function fitted to data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import LARGEST, Rule, Seed, Size, between, checked
from cnf.discrete.splines import Bins
from cnf.spread import FEWEST, column_spread, spread_of
from cnf.starts import time_is_up
from cnf.transforms import Mapped, Transform

WIDEST = 2.0  # bandwidth to choose from, in units of the rule for normal data
ANCHORS = 1024  # groups that stand for all rows in the kernel sums
TAIL = 10  # rows beyond the outermost knot on either side, at most a twentieth of all
MIN_SLOPE = 1e-3  # times that of the normal: a gap between two modes stays invertible in float32
TABLE = 2**18  # entries of the (columns, knots, anchors) tables that are made at once: 2 MB, which a cache holds
TOGETHER = 64  # columns at most that are fitted at once
ELEMENTS = 2**20  # of these columns, at most: they take a second or so, and somebody may want to interrupt
JUDGES = 2**14  # rows whose mean gain chooses an estimate: enough, where nobody asks for the gain of every row
FAR = 10.0  # scales from the centre of a column with wild rows; beyond, knots lie at equal ratios


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
        return self.encode_in(_bins_with(self.x, x), x)

    def encode_in(self, left: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """`encode` in the bins that hold `x`, by their numbers: finding them is a third of its time."""
        z, log_slope = self._bins(left).encode(x)
        below, above = F.relu(self.x[:, :1] - x), F.relu(x - self.x[:, -1:])
        return z - self.slope[:, :1] * below + self.slope[:, -1:] * above, log_slope

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`x` and `log dx/dz`, elementwise, of `z` `(D, N)`."""
        x, log_slope = self._bins(_bins_with(self.z, z)).decode(z)
        below, above = F.relu(self.z[:, :1] - z), F.relu(z - self.z[:, -1:])
        return x - below / self.slope[:, :1] + above / self.slope[:, -1:], log_slope

    def _bins(self, left: Tensor) -> Bins:
        x, z, slope = (torch.stack((part.gather(1, left), part.gather(1, left + 1))) for part in self)
        return Bins(x[0], z[0], x[1] - x[0], z[1] - z[0], slope[0], slope[1])


def _bins_with(knots: Tensor, at: Tensor) -> Tensor:
    return torch.searchsorted(knots[:, 1:-1].contiguous(), at.detach().contiguous())


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
        wild_only: Whether to fit only columns whose standard deviation is that of a few wild rows, see `spread_of`.
        seed: Of the cross-validation that chooses the bandwidths.

    References:
        Laparra et al. 2011, arXiv 1602.00229; Chen and Gopinath 2000, Gaussianization.
    """

    data_dependent = True
    knots: Tensor

    def __init__(
        self,
        dim: Size,
        *,
        knots: Knots = 32,
        narrowest: Bandwidth = 0.25,
        wild_only: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.narrowest, self.wild_only, self.seed = narrowest, wild_only, seed
        self.register_buffer("knots", torch.stack(identity_splines(dim, knots)))
        self.idle = True
        self.register_load_state_dict_post_hook(_look_whether_idle)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        if self.idle:
            return Mapped(x, x.new_zeros(len(x)))
        z, log_slope = Splines(*self.knots).encode(x.mT)
        return Mapped(z.mT, log_slope.sum(0))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        if self.idle:
            return Mapped(z, z.new_zeros(len(z)))
        x, log_slope = Splines(*self.knots).decode(z.mT)
        return Mapped(x.mT, log_slope.sum(0))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fit the splines to the rows of `x`, see `fit_splines`; fewer than `FEWEST` are standardised."""
        rows, number = x.double(), self.knots.shape[2]
        fitted = torch.stack(identity_splines(x.shape[1], number)).to(rows)
        columns = self._columns(rows)
        if len(columns):
            fitted[:, columns] = torch.stack(self._fit(rows[:, columns], number))
        self.knots.copy_(fitted)
        _look_whether_idle(self)

    def _columns(self, rows: Tensor) -> Tensor:
        """Those to fit."""
        if not self.wild_only:
            return torch.arange(rows.shape[1])
        return column_spread(rows).wild.nonzero()[:, 0].cpu()

    def _fit(self, rows: Tensor, number: int) -> Splines:
        if len(rows) < FEWEST:
            return _standardizing(rows, number)
        generator = torch.Generator().manual_seed(self.seed)
        return fit_splines(rows, knots=number, generator=generator, narrowest=self.narrowest, judges=JUDGES)[0]


def _look_whether_idle(layer: nn.Module, keys: object = None) -> None:
    """Whether all splines are the identity, which then costs nothing."""
    x, z, slope = cast(MarginalGaussianization, layer).knots
    layer.idle = not x.is_meta and bool((x == z).all() and (slope == 1).all())  # type: ignore[assignment]


@checked
def identity_splines(dim: Size, knots: Knots) -> Splines:
    """`z = x`.

    Raises:
        ValueError: No dimension, or too few knots.
    """
    x = torch.linspace(-3, 3, knots).repeat(dim, 1)
    return Splines(x, x.clone(), torch.ones_like(x))


def fit_splines(
    x: Tensor, *, knots: int, generator: torch.Generator, narrowest: float = 0.25, judges: int | None = None
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
        judges: Rows whose gain chooses; all by default.

    Returns:
        The splines, and what each judge gains in log-likelihood over the standard normal when the other fold judges
        it, summed over columns, `(N,)`: its mean estimates `KL(p ‖ N(0, I)) − KL(p_z ‖ N(0, I))`.

    Raises:
        ValueError: Fewer than 20 rows, a constant column, or no bandwidth.
    """
    n, estimates = len(x), _estimates(narrowest)
    if n < FEWEST:
        raise ValueError(f"marginals need {FEWEST} or more rows to be fitted to, got {n}")
    _check_varying(x)
    order = torch.randperm(n, generator=generator).to(x.device)
    chosen = order[:judges].sort().values
    folds = (order if judges is None or judges >= n else torch.arange(judges, device=x.device)).tensor_split(2)
    columns = x.mT.contiguous().split(max(1, min(TOGETHER, ELEMENTS // n)))
    parts: list[tuple[Splines, Tensor]] = []
    for part in columns:
        tried = [_identity] if parts and time_is_up() else estimates
        parts.append(_fit_columns(part, part[:, chosen], knots, folds, tried))
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


def _estimates(narrowest: float) -> list[Estimate]:
    """Those to choose from: kernels from the narrowest to the widest, and what needs none."""
    if not 0 < narrowest <= WIDEST:
        raise ValueError(f"narrowest must be in (0, {WIDEST:g}], got {narrowest}")
    halvings = math.floor(math.log2(WIDEST / narrowest))
    kernels = [partial(_kernel, bandwidth=WIDEST / 2**k) for k in range(halvings, -1, -1)]
    return [*kernels, _normal, _identity]


def _fit_columns(
    x: Tensor, judges: Tensor, knots: int, folds: tuple[Tensor, ...], estimates: Sequence[Estimate]
) -> tuple[Splines, Tensor]:
    """The best spline for each row of `x`, `(D, N)`, and the gains of the judges, some of its columns."""
    gains = x.new_empty(len(estimates), *judges.shape)
    for train, test in (folds, folds[::-1]):
        data, at = Columns.of(judges[:, train]), judges[:, test]
        places = _knots(data, knots)
        bins = _bins_with(places, at)
        for gain, estimate in zip(gains, estimates, strict=True):
            z, log_slope = Splines(places, *estimate(data, places)).encode_in(bins, at)
            gain[:, test] = log_slope + 0.5 * (at.square() - z.square())
    best = gains.mean(2).argmax(0)
    data = Columns.of(x)
    places = _knots(data, knots)
    splines = Splines(places, torch.empty_like(places), torch.empty_like(places))
    for k in best.unique().tolist():
        which = best == k
        splines.z[which], splines.slope[which] = estimates[k](data.take(which), places[which])
    return splines, gains[best, torch.arange(len(x), device=x.device)].sum(0)


def _knots(data: Columns, number: int) -> Tensor:
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
    cdf, density = _kernel_sums(knots, mean + (anchors - mean) * contraction, width * contraction, weights)
    z = torch.special.ndtri(cdf.clamp(0.5 / n, 1 - 0.5 / n))
    slope = density * (0.5 * z.square()).exp()
    lower = _tail_slope(-z[:, :1], knots[:, :1] - ordered[:, :tail], std)
    upper = _tail_slope(z[:, -1:], ordered[:, -tail:] - knots[:, -1:], std)
    slope = torch.cat((lower, slope[:, 1:-1], upper), 1)
    z = (z + MIN_SLOPE * (knots - mean) / std) / (1 + MIN_SLOPE)
    return z, (slope + MIN_SLOPE / std) / (1 + MIN_SLOPE)


def _kernel_sums(knots: Tensor, places: Tensor, width: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
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


def _identity(data: Columns, knots: Tensor) -> tuple[Tensor, Tensor]:
    return knots, torch.ones_like(knots)
