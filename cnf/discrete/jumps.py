"""Distribution functions with jumps: levels, and atoms between numbers that have a density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cnf.distributions import LOG_2PI

PSEUDO_COUNT = 0.5  # of each level and of each density, so that none has probability 0
LARGEST = 8.0  # normal scores that float32 tells apart
TINY = 1e-30
FARTHEST = torch.finfo(torch.float32).max  # where there is no atom; finite, so that running averages of it are it

Ends = Callable[[Tensor], tuple[Tensor, Tensor]]


class Landed(NamedTuple):
    """Where images lie among the jumps, `(N, C)` each.

    Attributes:
        atom: Whether an image is within the interval of an atom.
        value: The atom; others do not matter.
        score: The normal score of the density, for images outside of all intervals.
        log_slope: `log |dscore/dimage|` there, and minus the logarithm of an atom's share over its density within.
    """

    atom: Tensor
    value: Tensor
    score: Tensor
    log_slope: Tensor


class Jumps(nn.Module):
    """`F(x) = c Φ(g(x)) + Σ_{a ≤ x} w_a`: atoms a of share w_a, and a density of share c whose normal score is g.

    An atom owns the interval of its jump. Of whole numbers, whose cells are `[k − ½, k + ½]`, it also owns what the
    density has in its cell. Levels are atoms without a density between them.

    Args:
        atoms: For each column its atoms, in rising order.
        dense: Whether there is a density between them.

    Example:
        >>> import torch
        >>> jumps = Jumps([(0.0, 1.0)], [False])
        >>> jumps.count([torch.tensor([0.0, 0.0, 0.0, 1.0])], [lambda x: (x, x)])
        >>> z, log_slope = jumps.encode(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([[0.5]]))
        >>> round((log_slope - 0.5 * z**2).exp().item() / (2 * torch.pi) ** 0.5, 3)  # the share of level 0
        0.7
    """

    places: Tensor
    shares: Tensor
    below: Tensor
    above: Tensor
    sums: Tensor
    density: Tensor

    def __init__(self, atoms: Sequence[Sequence[float]], dense: Sequence[bool]) -> None:
        super().__init__()
        self.sizes, self.dense = [len(values) for values in atoms], list(dense)
        widest = max(self.sizes)
        self.register_buffer("places", torch.full((len(atoms), widest), FARTHEST), persistent=False)  # settings
        for name in ("shares", "above"):
            self.register_buffer(name, torch.zeros(len(atoms), widest))
        self.register_buffer("below", torch.ones(len(atoms), widest))
        self.register_buffer("sums", torch.zeros(len(atoms), widest + 1))  # of the weights of the atoms before each
        self.register_buffer("density", torch.zeros(len(atoms)))
        for column, values in enumerate(atoms):
            self.places[column, : len(values)] = torch.tensor(values)
        for column, size in enumerate(self.sizes):
            share, middle = 1 / (size + self.dense[column]), torch.zeros(size)
            self._set(column, torch.full((size,), share), share * self.dense[column], middle, middle)

    @torch.no_grad()
    def count(self, columns: Sequence[Tensor], ends: Sequence[Ends]) -> None:
        """Take the shares of atoms among the cells of each column.

        Args:
            columns: The cells that have a value.
            ends: For each column, from places to the normal scores of the density at both ends of their cells.
        """
        for column, (cells, size) in enumerate(zip(columns, self.sizes, strict=True)):
            places = self.places[column, :size]
            counts = (cells[:, None] == places).sum(0).double()
            rest = (len(cells) - counts.sum() + PSEUDO_COUNT) * self.dense[column]
            pseudo = 0.0 if self.dense[column] else PSEUDO_COUNT
            total = counts.sum() + pseudo * size + rest
            self._set(column, (counts + pseudo) / total, float(rest / total), *ends[column](places))

    def _set(self, column: int, weights: Tensor, density: float, low: Tensor, high: Tensor) -> None:
        """Set the jumps of a column, given the scores of the density at both ends of each atom's cell."""
        size, weights = len(weights), weights.double()
        low, high = _share(low), _share(high)
        before = weights.cumsum(0) - weights
        after = weights.flip(0).cumsum(0).flip(0) - weights
        if not self.dense[column]:
            before[0] = after[-1] = 0
        self.density[column] = density
        self.below[column, :size] = density * low + before
        self.above[column, :size] = density * (1 - high) + after
        self.shares[column, :size] = weights + density * (high - low)
        self.sums[column, 1 : size + 1] = weights.cumsum(0)
        self.sums[column, size + 1 :] = weights.sum()

    def encode(self, x: Tensor, score: Tensor, log_slope: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Images of cells, and `log |dimage/dx|`, or of atoms the logarithm of the share over the image's density.

        Args:
            x: The cells, `(N, C)`.
            score: Normal scores of the density there.
            log_slope: `log |dscore/dx|`.
            noise: Uniform on (0, 1).
        """
        place, atom = self._place(x)
        share, below, above = (_at(part, place) for part in (self.shares, self.below, self.above))
        low, high = _ends(below, share, above)
        inside = _score(below + noise * share, above + (1 - noise) * share).to(x)
        inside = inside.clamp(torch.nextafter(low, high), high).clamp(-LARGEST, LARGEST)
        before = self.sums.gather(1, self._before(x)).mT
        near = score.clamp(-LARGEST, LARGEST)  # beyond, the map is a straight line
        z = _score(*self._mixed(near, before)).to(x)
        smooth = log_slope + self.density.clamp(min=TINY).log() + 0.5 * (z.square() - near.square())
        z = z + score - near
        z = torch.where(atom, inside, z)
        return z, torch.where(atom, share.clamp(min=TINY).log() + 0.5 * (z.square() + LOG_2PI), smooth)

    def decode(self, z: Tensor) -> Landed:
        """What images `(N, C)` are of."""
        low, high = _ends(self.below, self.shares, self.above)
        reached = torch.searchsorted(high, z.mT.contiguous())  # the first atom that ends above the image
        place = reached.clamp(max=self.places.shape[1] - 1)
        atom = ((z >= low.gather(1, place).mT) & (reached < self.places.shape[1]).mT) | ~self._dense(z)
        share = _at(self.shares, place).clamp(min=TINY)
        before = self.sums.gather(1, reached).mT
        lower = (_share(z) - before) / self.density.clamp(min=TINY)
        upper = (_share(-z) - (self.sums[:, -1] - before)) / self.density.clamp(min=TINY)
        near = _score(lower.clamp(min=TINY), upper.clamp(min=TINY)).clamp(-LARGEST, LARGEST).to(z)
        first, last = self._outermost(near)
        beyond = (z - first).clamp(max=0) + (z - last).clamp(min=0)
        score = torch.where(beyond == 0, near, beyond.sign() * LARGEST + beyond)
        smooth = 0.5 * (score.clamp(-LARGEST, LARGEST).square() - z.clamp(first, last).square())
        smooth = smooth - self.density.clamp(min=TINY).log()
        log_slope = torch.where(atom, -share.log() - 0.5 * (z.square() + LOG_2PI), smooth)
        return Landed(atom, _at(self.places, place), torch.where(self._dense(z), score, 0.0), log_slope)

    def intervals(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends of the interval of each cell, which are equal where there is no jump."""
        place, atom = self._place(x)
        low, high = _ends(*(_at(part, place) for part in (self.below, self.shares, self.above)))
        near = score.clamp(-LARGEST, LARGEST)
        z = _score(*self._mixed(near, self.sums.gather(1, self._before(x)).mT)).to(x) + score - near
        return torch.where(atom, low, z), torch.where(atom, high, z)

    def _mixed(self, score: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """`F` and `1 − F` for scores of the density, with atoms of so much weight below."""
        after = self.sums[:, -1] - before
        return (
            self.density * _share(score) + before,
            self.density * _share(-score) + after,
        )

    def _outermost(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The images of scores of ±`LARGEST`, from which on the map is a straight line."""
        end = torch.full_like(like[:1], LARGEST)
        last = _score(*self._mixed(end, self.sums[:, -1].expand_as(end)))
        return _score(*self._mixed(-end, torch.zeros_like(end))).to(like), last.to(like)

    def _before(self, x: Tensor) -> Tensor:
        """How many atoms are below each cell, `(C, N)`."""
        return torch.searchsorted(self.places, x.mT.contiguous())

    def _place(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The atom of each cell, and whether it is one."""
        place = self._before(x).clamp(max=self.places.shape[1] - 1)
        return place, (_at(self.places, place) == x) | ~self._dense(x)

    def _dense(self, x: Tensor) -> Tensor:
        return torch.tensor(self.dense, device=x.device)


def _at(part: Tensor, place: Tensor) -> Tensor:
    return part.gather(1, place).mT


def _ends(below: Tensor, share: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends of intervals as normal scores."""
    low, high = _score(below, above + share), _score(below + share, above)
    return low.to(below), high.to(below)


def _score(lower: Tensor, upper: Tensor) -> Tensor:
    """The normal score of a probability and of what it lacks to 1, from the one that has digits, in float64."""
    lower, upper = lower.double(), upper.double()
    return torch.where(lower < upper, torch.special.ndtri(lower), -torch.special.ndtri(upper))


def _share(score: Tensor) -> Tensor:
    """Φ in float64, with digits in the lower tail, which `ndtr` has not."""
    return torch.special.log_ndtr(score.double()).exp()
