"""Marginals of columns of every kind: the distributional transform, with jumps where values have probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cnf.arguments import Finite, Size, SizeOrZero, checked
from cnf.discrete.interpolants import Splines
from cnf.discrete.jumps import LARGEST, TINY, Ends, Jumps
from cnf.discrete.marginals import MarginalGaussianization
from cnf.distributions import LOG_2PI
from cnf.inputs import require_vectors
from cnf.spread import FEWEST
from cnf.transforms import Mapped, Transform

NARROW = 1e-4  # probability below which the middle of an interval is its mean
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
        atoms: For each column of numbers the values that have a probability of their own.
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
        atoms: Sequence[Sequence[Finite]] = (),
        whole: Sequence[SizeOrZero] = (),
        circles: Sequence[SizeOrZero] = (),
        knots: Size = 256,
    ) -> None:
        super().__init__()
        self.levels, self.atoms = tuple(levels) or (0,) * dim, tuple(map(tuple, atoms)) or ((),) * dim
        self.dim, self.whole, self.circles = dim, tuple(whole), tuple(circles)
        numbers = [place for place, number in enumerate(self.levels) if not number]
        _check(dim, self.levels, self.atoms, {*whole, *circles}, numbers)
        self.smooth = [place for place in numbers if place not in circles]
        self.jumping = [place for place in range(dim) if self.levels[place] or self.atoms[place]]
        jumps = [self.atoms[place] or tuple(range(self.levels[place])) for place in self.jumping]
        self.jumps = Jumps(jumps, [place in self.smooth for place in self.jumping]) if jumps else None
        splines = MarginalGaussianization(len(self.smooth), knots=knots, narrowest=1 / 64) if self.smooth else None
        self.splines = splines
        self.register_buffer("rounded", torch.tensor([place in whole for place in self.smooth]), persistent=False)

    @property
    def exact(self) -> bool:
        return not self.jumping and not self.whole

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
        landed = None if self.jumps is None else self.jumps.decode(z[:, self.jumping])
        if landed is not None:
            x[:, self.jumping], log_slope[:, self.jumping] = landed.score, landed.log_slope
        if self.splines is not None:
            values, slopes = Splines(*self.splines.knots).decode(x[:, self.smooth].mT)
            x[:, self.smooth] = torch.where(self.rounded, values.mT.round(), values.mT)
            log_slope[:, self.smooth] += slopes.mT
        if landed is not None:
            x[:, self.jumping] = torch.where(landed.atom, landed.value, x[:, self.jumping])
            log_slope[:, self.jumping] = torch.where(landed.atom, landed.log_slope, log_slope[:, self.jumping])
        return Cells(x, log_slope)

    def cells(self, x: Tensor) -> Cells:
        """The images of cells one by one, with new noise where there are jumps."""
        noise = spread_noise(x)
        score, log_slope = self._smooth(x, noise - 0.5)
        if self.jumps is not None:
            some = (part[:, self.jumping] for part in (x, score, log_slope, noise))
            score[:, self.jumping], log_slope[:, self.jumping] = self.jumps.encode(*some)
        return Cells(score, log_slope)

    def intervals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends of what each cell owns of the normal scores, `(N, D)` each; equal where it has a density."""
        low, high = (self._smooth(x, torch.full_like(x, end))[0] for end in (-0.5, 0.5))
        if self.jumps is not None:
            for end, ends in ((low, 0), (high, 1)):
                end[:, self.jumping] = self.jumps.intervals(x[:, self.jumping], end[:, self.jumping])[ends]
        return low, high

    def scores(self, x: Tensor) -> Tensor:
        """The mean image of each cell, `(N, D)`, in which there is no noise."""
        low, high = self.intervals(x)
        share = _mass(low, high)
        mean = (_density(low) - _density(high)) / share.clamp(min=TINY)
        return torch.where(share > NARROW, mean, 0.5 * (low + high).clamp(-2 * LARGEST, 2 * LARGEST))

    def _smooth(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of numbers by their splines, and the logarithms of their slopes; all else as it is."""
        require_vectors(x, self.dim)
        z, log_slope = x.clone(), torch.zeros_like(x)
        if self.splines is not None:
            values = x[:, self.smooth] + torch.where(self.rounded, noise[:, self.smooth], 0.0)
            images, slopes = Splines(*self.splines.knots).encode(values.mT)
            z[:, self.smooth], log_slope[:, self.smooth] = images.mT, slopes.mT
        return z, log_slope

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None, present: Tensor | None = None) -> None:
        """Count levels and atoms, and fit the splines, of the rows of `x`.

        Args:
            x: `(N, D)`.
            context: Not used.
            present: `(N, D)`, whether a cell has a value; all have by default.
        """
        require_vectors(x, self.dim)
        there = torch.ones_like(x, dtype=torch.bool) if present is None else present
        columns = [x[there[:, place], place] for place in range(self.dim)]
        for number, place in enumerate(self.smooth):
            cells, atoms = columns[place], torch.tensor(self.atoms[place]).to(x)
            rest = cells[~torch.isin(cells, atoms)]
            self._fit(number, (rest if len(rest) >= FEWEST else cells)[:, None])
        if self.jumps is not None:
            ends = [self._ends_of(place) for place in self.jumping]
            self.jumps.count([columns[place] for place in self.jumping], ends)

    def _ends_of(self, place: int) -> Ends:
        """From numbers of a column to the scores of its density at both ends of their cells."""
        if place not in self.smooth:
            return lambda x: (torch.zeros_like(x), torch.zeros_like(x))
        assert self.splines is not None
        number = self.smooth.index(place)
        spline = Splines(*self.splines.knots[:, number : number + 1])
        half = 0.5 * bool(self.rounded[number])
        return lambda x: (spline.encode((x - half)[None])[0][0], spline.encode((x + half)[None])[0][0])

    def _fit(self, number: int, values: Tensor) -> None:
        """Fit one spline to the values that its column has, `(n, 1)`."""
        assert self.splines is not None
        knots = self.splines.knots.shape[2]
        one = MarginalGaussianization(1, knots=knots, narrowest=self.splines.narrowest)
        if self.rounded[number]:
            values = values + (torch.rand(values.shape, generator=torch.Generator().manual_seed(0)).to(values) - 0.5)
        if len(values) >= FEWEST or (len(values) > 1 and bool(values.std() > 0)):
            one.to(values).initialize(values)
        self.splines.knots[:, number] = one.knots[:, 0].to(self.splines.knots)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, whole={self.whole}, circles={self.circles}"


def _check(
    dim: int, levels: Sequence[int], atoms: Sequence[Sequence[float]], places: set[int], numbers: Sequence[int]
) -> None:
    if len(levels) != dim or len(atoms) != dim:
        raise ValueError(f"expected levels and atoms for {dim} columns, got {len(levels)} and {len(atoms)}")
    if not places <= set(numbers) or any(atoms[place] for place in range(dim) if place not in numbers):
        raise ValueError("whole numbers, angles and atoms must be in columns of numbers, whose levels are 0")


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * (z.square() + LOG_2PI))


def _mass(low: Tensor, high: Tensor) -> Tensor:
    """The probability of a normal number between two, from the tail that has digits."""
    flipped = low + high > 0
    low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    return torch.special.log_ndtr(high).exp() - torch.special.log_ndtr(low).exp()


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
