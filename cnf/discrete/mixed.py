"""Marginals of columns of every kind: the distributional transform, with jumps where values have probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cnf.arguments import Size, SizeOrZero, checked
from cnf.discrete.interpolants import Splines
from cnf.discrete.marginals import MarginalGaussianization
from cnf.discrete.steps import Steps
from cnf.inputs import require_vectors
from cnf.spread import FEWEST
from cnf.transforms import Mapped, Transform

GOLDEN_ROUNDS = 30  # of the fixed point below, which has converged to all digits by then


class Cells(NamedTuple):
    """What becomes of the cells of rows, `(N, D)` each.

    Attributes:
        value: Their images.
        log_slope: `log |∂value/∂cell|`; of a level, the logarithm of its share over the density of its image.
    """

    value: Tensor
    log_slope: Tensor


@checked
class MixedMarginals(Transform):
    """`z = Φ⁻¹(F(x⁻) + e (F(x) − F(x⁻)))` for each column, F its distribution function, e uniform on (0, 1).

    All columns become standard normal. Where F is continuous, e is not used. A level, or another value with a
    probability of its own, owns an interval as wide as its share; `decode` needs no noise. Log-probabilities are with
    respect to Lebesgue measure for what is continuous and counting measure for what is not. With jumps, a flow's
    `log_prob` is one draw of a lower bound, which `cnf.metrics.importance_log_prob` makes tight. Before `initialize`,
    levels have equal shares and all else is as it was.

    Args:
        dim: D.
        levels: For each column the number of its levels, the values 0, 1, …; 0 for a column of numbers. By default all
            columns are of numbers.
        whole: Places of columns of whole numbers without levels: they get uniform noise in (−½, ½) first.
        circles: Places of columns of angles in radians, which stay as they are.
        knots: Of the splines of numbers, see `MarginalGaussianization`.

    References:
        Rüschendorf 2009, On the distributional transform, Sklar's theorem, and the empirical copula process.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.MixedMarginals(2, levels=(3, 0))
        >>> x = torch.stack((torch.arange(90) % 3, torch.linspace(-2, 2, 90).exp()), 1)
        >>> layer.initialize(x)
        >>> z = layer.encode(x).value
        >>> bool((z.std(0) - 1).abs().max() < 0.2), torch.allclose(layer.decode(z).value, x, atol=1e-4)
        (True, True)
    """

    data_dependent = True
    rounded: Tensor

    def __init__(
        self,
        dim: Size,
        *,
        levels: Sequence[SizeOrZero] = (),
        whole: Sequence[SizeOrZero] = (),
        circles: Sequence[SizeOrZero] = (),
        knots: Size = 256,
    ) -> None:
        super().__init__()
        levels = tuple(levels) or (0,) * dim
        if len(levels) != dim or not set(whole) | set(circles) <= set(range(dim)):
            raise ValueError(f"expected levels of {dim} columns and places from 0 to {dim - 1}, got {levels}, {whole}")
        self.dim, self.levels, self.whole, self.circles = dim, levels, tuple(whole), tuple(circles)
        self.stepped = [place for place, number in enumerate(levels) if number]
        self.smooth = [place for place in range(dim) if not levels[place] and place not in circles]
        self.steps = Steps([levels[place] for place in self.stepped]) if self.stepped else None
        splines = MarginalGaussianization(len(self.smooth), knots=knots, narrowest=1 / 64) if self.smooth else None
        self.splines = splines
        self.register_buffer("rounded", torch.tensor([place in whole for place in self.smooth]), persistent=False)

    @property
    def exact(self) -> bool:
        return not self.stepped and not self.whole

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        cells = self.cells(x)
        return Mapped(cells.value, cells.log_slope.sum(1))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        cells = self.values(z)
        return Mapped(cells.value, cells.log_slope.sum(1))

    def values(self, z: Tensor) -> Cells:
        """The cells of images one by one, with `log |∂cell/∂image|`."""
        require_vectors(z, self.dim)
        x, log_slope = z.clone(), torch.zeros_like(z)
        if self.steps is not None:
            x[:, self.stepped], log_slope[:, self.stepped] = self.steps.decode(z[:, self.stepped])
        if self.splines is not None:
            values, slopes = Splines(*self.splines.knots).decode(z[:, self.smooth].mT)
            x[:, self.smooth] = torch.where(self.rounded, values.mT.round(), values.mT)
            log_slope[:, self.smooth] = slopes.mT
        return Cells(x, log_slope)

    def cells(self, x: Tensor) -> Cells:
        """The images of cells one by one, with new noise where there are jumps."""
        return self._mapped(x, spread_noise(x))

    def scores(self, x: Tensor) -> Tensor:
        """The mean image of each cell, `(N, D)`, in which there is no noise."""
        scores = self._mapped(x, torch.full_like(x, 0.5)).value
        if self.steps is not None:
            scores[:, self.stepped] = self.steps.scores(x[:, self.stepped])
        return scores

    def _mapped(self, x: Tensor, noise: Tensor) -> Cells:
        require_vectors(x, self.dim)
        z, log_slope = x.clone(), torch.zeros_like(x)
        if self.steps is not None:
            z[:, self.stepped], log_slope[:, self.stepped] = self.steps.encode(
                x[:, self.stepped], noise[:, self.stepped]
            )
        if self.splines is not None:
            values = x[:, self.smooth] + torch.where(self.rounded, noise[:, self.smooth] - 0.5, 0.0)
            images, slopes = Splines(*self.splines.knots).encode(values.mT)
            z[:, self.smooth], log_slope[:, self.smooth] = images.mT, slopes.mT
        return Cells(z, log_slope)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None, present: Tensor | None = None) -> None:
        """Count the levels and fit the splines of the rows of `x`.

        Args:
            x: `(N, D)`.
            context: Not used.
            present: `(N, D)`, whether a cell has a value; all have by default.
        """
        require_vectors(x, self.dim)
        there = torch.ones_like(x, dtype=torch.bool) if present is None else present
        if self.steps is not None:
            self.steps.count(x[:, self.stepped], there[:, self.stepped])
        if self.splines is not None:
            noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x) - 0.5
            for number, place in enumerate(self.smooth):
                rows = there[:, place]
                values = x[rows, place] + (noise[rows, place] if self.rounded[number] else 0.0)
                self._fit(number, values[:, None])

    def _fit(self, number: int, values: Tensor) -> None:
        """Fit one spline to the values that its column has, `(n, 1)`."""
        assert self.splines is not None
        knots = self.splines.knots.shape[2]
        one = MarginalGaussianization(1, knots=knots, narrowest=self.splines.narrowest)
        if len(values) >= FEWEST or (len(values) > 1 and bool(values.std() > 0)):
            one.to(values).initialize(values)
        self.splines.knots[:, number] = one.knots[:, 0].to(self.splines.knots)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, whole={self.whole}, circles={self.circles}"


def spread_noise(x: Tensor) -> Tensor:
    """Uniform noise in (0, 1) like x, `(N, D)`, spread evenly over the rows: each number is uniform by itself.

    Row n has `frac(s + n α)` with a random shift s and the α of the generalised golden ratio, so that means over many
    rows, or over many copies of a row, vary less than with independent noise.

    References:
        Roberts 2018, The unreasonable effectiveness of quasirandom sequences.

    Example:
        >>> import torch
        >>> noise = spread_noise(torch.zeros(100, 2))
        >>> bool((noise.mean(0) - 0.5).abs().max() < 0.02)
        True
    """
    n, dim = x.shape
    ratio = 2.0
    for _ in range(GOLDEN_ROUNDS):
        ratio = (1 + ratio) ** (1 / (dim + 1))
    alpha = ratio ** -torch.arange(1, dim + 1, dtype=torch.float64, device=x.device)
    rows = torch.arange(n, dtype=torch.float64, device=x.device)[:, None]
    shift = torch.rand(dim, dtype=torch.float64, device=x.device)
    return (shift + rows * alpha).frac().to(x.dtype)
