"""Marginal Gaussianization: each element by itself to a standard normal, by a smooth function fitted to data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from cnf.arguments import Rule, Seed, Size, checked
from cnf.discrete.interpolants import Knots, Splines, bins_with, identity_splines
from cnf.discrete.kernels import WIDEST, Columns, Estimate, estimates_from, identity, place_knots
from cnf.inputs import require_vectors
from cnf.spread import FEWEST, column_spread
from cnf.starts import time_is_up
from cnf.tracing import visible
from cnf.transforms import Mapped, Transform

TOGETHER = 64  # columns at most that are fitted at once
ELEMENTS = 2**20  # of these columns, at most: they take a second or so, and somebody may want to interrupt
JUDGES = 2**14  # rows whose mean gain chooses an estimate: enough, where nobody asks for the gain of every row
Bandwidth = Annotated[float, Rule(f"above 0 and not above {WIDEST}", lambda value: 0 < value <= WIDEST)]


@checked
class MarginalGaussianization(Transform):
    """`zᵢ = Φ⁻¹(F̂ᵢ(xᵢ))` with an estimate `F̂ᵢ` of each element's distribution function; fitted, not trained.

    `Φ⁻¹ ∘ F̂` itself is a spline. So Φ is never evaluated in its tails, the inverse is in closed form, and elements
    that are normal are fitted by a straight line. See `fit_splines` for the estimate. Before `initialize` it is the
    identity.

    Args:
        dim: D.
        knots: K, of each spline.
        narrowest: Smallest bandwidth to choose from, see `fit_splines`; one far below ¼ needs more knots.
        wild_only: Whether to fit only columns whose standard deviation comes from a few wild rows, see `cnf.spread`.
        seed: Seed of the cross-validation that chooses the bandwidths.

    References:
        Laparra et al. 2011, arXiv 1602.00229; Chen and Gopinath 2000, Gaussianization.

    Example:
        >>> import torch, cnf
        >>> x = torch.linspace(-2, 2, 500)[:, None].exp()
        >>> layer = cnf.discrete.MarginalGaussianization(1)
        >>> layer.initialize(x)
        >>> z = layer.encode(x).value
        >>> bool(z.mean().abs() < 0.1), bool((z.std() - 1).abs() < 0.1)
        (True, True)
    """

    data_dependent = True
    knots: Tensor
    idle: Tensor

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
        self.register_buffer("idle", torch.tensor(True), persistent=False)  # a tensor, so that twins share it
        self.register_load_state_dict_post_hook(_look_whether_idle)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, self.knots.shape[1])
        if self._is_idle():
            return Mapped(x, x.new_zeros(len(x)))
        z, log_slope = Splines(*self.knots).encode(x.mT)
        return Mapped(z.mT, log_slope.sum(0))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, self.knots.shape[1])
        if self._is_idle():
            return Mapped(z, z.new_zeros(len(z)))
        x, log_slope = Splines(*self.knots).decode(z.mT)
        return Mapped(x.mT, log_slope.sum(0))

    def _is_idle(self) -> bool:
        """Whether there is nothing to do; splines that are the identity cost as much as others."""
        return visible() and not self.idle.is_meta and bool(self.idle)

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


@torch.no_grad()
def _look_whether_idle(layer: nn.Module, keys: object = None) -> None:
    """Note whether all splines are the identity."""
    marginals = cast(MarginalGaussianization, layer)
    x, z, slope = marginals.knots
    marginals.idle.copy_((x == z).all() & (slope == 1).all())


def fit_splines(
    x: Tensor, *, knots: int, generator: torch.Generator, narrowest: float = 0.25, judges: int | None = None
) -> tuple[Splines, Tensor]:
    """Fit a spline to each column of `x`, so that it becomes standard normal.

    A spline interpolates the values and slopes of `Φ⁻¹ ∘ F̂`. Each column chooses among several estimates F̂: Gaussian
    kernels of some bandwidths, contracted so that the estimate has the variance of the data; the normal distribution,
    which is their limit of infinite bandwidth; and the standard normal, which leaves the column as it is. The one of
    highest likelihood in a two-fold cross-validation is taken. Beyond the outermost knots, with 10 rows on each side,
    the tail is that of the normal which fits those rows, but never lighter than with the variance of all rows.

    Args:
        x: Data `(N, D)`, in float64.
        knots: K.
        generator: Source of the two folds.
        narrowest: Smallest bandwidth; the largest is 2 and each twice the one before, in units of the rule for normal
            data, `1.06 σ N^(−1/5)`. Narrow ones find the steps and clusters of columns that repeat their values.
        judges: How many rows choose among the estimates; all by default.

    Returns:
        The splines, and the gain of each row in log-likelihood over the standard normal, by the estimate from the other
        fold, summed over columns, `(N,)`. Its mean estimates `KL(p ‖ N(0, I)) − KL(p_z ‖ N(0, I))`.

    Raises:
        ValueError: Fewer than 20 rows, a constant column, or no bandwidth.

    Example:
        >>> import torch, cnf
        >>> x = torch.linspace(-2, 2, 200, dtype=torch.float64)[:, None].exp()
        >>> splines, gain = cnf.discrete.fit_splines(x, knots=16, generator=torch.Generator().manual_seed(0))
        >>> splines.x.shape, bool(gain.mean() > 0)
        (torch.Size([1, 16]), True)
    """
    n, estimates = len(x), estimates_from(narrowest)
    if n < FEWEST:
        raise ValueError(f"marginals need {FEWEST} or more rows to be fitted to, got {n}")
    _check_varying(x)
    order = torch.randperm(n, generator=generator).to(x.device)
    chosen = order[:judges].sort().values
    folds = (order if judges is None or judges >= n else torch.arange(judges, device=x.device)).tensor_split(2)
    columns = x.mT.contiguous().split(max(1, min(TOGETHER, ELEMENTS // n)))
    parts: list[tuple[Splines, Tensor]] = []
    for part in columns:
        tried = [identity] if parts and time_is_up() else estimates
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


def _fit_columns(
    x: Tensor, judges: Tensor, knots: int, folds: tuple[Tensor, ...], estimates: Sequence[Estimate]
) -> tuple[Splines, Tensor]:
    """The best spline for each row of `x`, `(D, N)`, and the gains of the judges, some of its columns."""
    gains = x.new_empty(len(estimates), *judges.shape)
    for train, test in (folds, folds[::-1]):
        data, at = Columns.of(judges[:, train]), judges[:, test]
        places = place_knots(data, knots)
        bins = bins_with(places, at)
        for gain, estimate in zip(gains, estimates, strict=True):
            z, log_slope = Splines(places, *estimate(data, places)).encode_in(bins, at)
            gain[:, test] = log_slope + 0.5 * (at.square() - z.square())
    best = gains.mean(2).argmax(0)
    data = Columns.of(x)
    places = place_knots(data, knots)
    splines = Splines(places, torch.empty_like(places), torch.empty_like(places))
    for k in best.unique().tolist():
        which = best == k
        splines.z[which], splines.slope[which] = estimates[k](data.take(which), places[which])
    return splines, gains[best, torch.arange(len(x), device=x.device)].sum(0)
