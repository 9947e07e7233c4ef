"""Destructors of piecewise constant densities on the unit cube: a histogram of each element, and a tree of boxes."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Ambient, Fraction, Positive, Size, between, checked
from cnf.discrete.destructors import Destructor
from cnf.inputs import require_vectors
from cnf.tracing import rows_with
from cnf.transforms import Mapped

NO_SPLIT = 2.0  # a threshold that is never reached


@checked
class HistogramDestructor(Destructor):
    """`zᵢ = F̂ᵢ(xᵢ)` with the distribution function of a histogram of each element, which is piecewise linear.

    Args:
        dim: D. The data lie in the unit cube.
        bins: Bins of equal width.
        pseudo_count: Added to the count of each bin, so that none is empty.

    Raises:
        ValueError: Data outside [0, 1]; the message names the rows.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.HistogramDestructor(1, bins=2)
        >>> layer.initialize(torch.tensor([[0.1], [0.2], [0.3], [0.4], [0.6], [0.7]]))
        >>> layer.encode(torch.tensor([[0.5]])).value
        tensor([[0.6250]])
    """

    domain = constraints.unit_interval
    cdf: Tensor

    def __init__(self, dim: Size, *, bins: Size = 32, pseudo_count: Positive = 1.0) -> None:
        super().__init__()
        self.pseudo_count = pseudo_count
        self.register_buffer("cdf", torch.linspace(0, 1, bins + 1).repeat(dim, 1))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        _check_unit(x, len(self.cdf))
        return _interpolated(x, self._edges, self.cdf)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        _check_unit(z, len(self.cdf))
        return _interpolated(z, self.cdf, self._edges)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Count the rows of `x` in each bin."""
        _check_unit(x, len(self.cdf))
        bins = self.cdf.shape[1] - 1
        sums = (_counts(x.double(), bins) + self.pseudo_count).double().cumsum(1)
        self.cdf[:, 1:] = sums / sums[:, -1:]

    @property
    def _edges(self) -> Tensor:
        return torch.linspace(0, 1, self.cdf.shape[1]).to(self.cdf).expand_as(self.cdf)


Cut = tuple[int, Tensor]  # axis, and relative thresholds in data and base (2,)


@checked
class TreeDestructor(Destructor):
    """A density that is constant on the boxes of a tree: each split moves its threshold t to the share p of the mass.

    In a box, a split of the relative coordinate `xⱼ` maps `[0, t]` to `[0, p]` and `[t, 1]` to `[p, 1]`, linearly. So
    on each leaf the map is linear, from one box to another, and the density is the ratio of their volumes. Boxes are
    split where the likelihood gains most. Then branches are cut whose gain is below what is expected from noise.

    Args:
        dim: D. The data lie in the unit cube.
        depth: Largest number of splits from the root to a leaf; there are `2^depth` leaves.
        cells: Thresholds are at the inner borders of this many equal parts of a box.
        significance: About the probability of a split that fits noise. A split costs
            `log(candidates / significance)` nats, from the tail of a halved χ².
        pseudo_count: Rows spread evenly over each box, so that no part is empty.

    Raises:
        ValueError: Data outside [0, 1]; the message names the rows.

    References:
        Ram and Gray 2011, Density estimation trees, KDD.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.TreeDestructor(1, depth=1, cells=2)
        >>> layer.initialize(torch.linspace(0, 0.49, 99)[:, None])
        >>> layer.encode(torch.tensor([[0.5]])).value.round(decimals=3)
        tensor([[0.9950]])
    """

    domain = constraints.unit_interval
    axis: Tensor
    thresholds: Tensor
    leaves: Tensor

    def __init__(
        self,
        dim: Size,
        *,
        depth: Annotated[int, between(1, 20)] = 8,
        cells: Ambient = 16,
        significance: Fraction = 0.01,
        pseudo_count: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.dim, self.depth, self.cells = dim, depth, cells
        self.significance, self.pseudo_count = significance, pseudo_count
        nodes = 2**depth - 1
        self.register_buffer("axis", torch.zeros(nodes, dtype=torch.long))
        self.register_buffer("thresholds", torch.full((2, nodes), NO_SPLIT))  # of data, of base
        self.register_buffer("leaves", _cubes(nodes + 1, dim))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self._between(x, 0, 1)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self._between(z, 1, 0)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Grow the tree on the rows of `x`, and prune it.

        Raises:
            ValueError: Rows outside the unit cube.
        """
        _check_unit(x, self.dim)
        rows = x.double()
        boxes = _cubes(2 * len(self.axis) + 1, x.shape[1]).to(rows)
        _, splits = self._grow(rows, *boxes[0, :, 0])
        self.thresholds.fill_(NO_SPLIT)
        for node in range(len(self.axis)):
            left, right = 2 * node + 1, 2 * node + 2
            boxes[:, :, [left, right]] = boxes[:, :, [node]]
            if node in splits:
                axis, shares = splits[node]
                low, high = boxes[:, :, node, axis].unbind(1)
                border = low + shares * (high - low)
                boxes[:, 1, left, axis] = boxes[:, 0, right, axis] = self.thresholds[:, node] = border
                self.axis[node] = axis
        self.leaves.copy_(boxes[:, :, len(self.axis) :])

    def _grow(self, rows: Tensor, low: Tensor, high: Tensor, node: int = 0) -> tuple[float, dict[int, Cut]]:
        """What the best splits of a box gain in nats, less their price, and the splits by their nodes."""
        if node >= len(self.axis) or not len(rows):
            return 0.0, {}
        gain, axis, shares = self._best_split((rows - low) / (high - low))
        border = low + shares[0] * (high - low)
        inner = torch.arange(self.dim, device=rows.device) == axis
        below = rows[:, axis] < border[axis]
        left = self._grow(rows[below], low, torch.where(inner, border, high), 2 * node + 1)
        right = self._grow(rows[~below], torch.where(inner, border, low), high, 2 * node + 2)
        price = math.log(self.dim * (self.cells - 1) / self.significance)
        gain += left[0] + right[0] - price
        return (gain, {node: (axis, shares), **left[1], **right[1]}) if gain > 0 else (0.0, {})

    def _best_split(self, shares: Tensor) -> tuple[float, int, Tensor]:
        """Its gain, its axis and its relative thresholds `(t, p)` in data and base, for rows in a unit box."""
        n, inner = len(shares), self.cells - 1
        below = _counts(shares, self.cells).cumsum(1)[:, :-1].to(shares)
        t = torch.arange(1, self.cells).to(shares) / self.cells
        gains = torch.xlogy(below, below / (n * t)) + torch.xlogy(n - below, (n - below) / (n * (1 - t)))
        best = int(gains.argmax())
        threshold = t[best % inner]
        mass = (below.flatten()[best] + self.pseudo_count * threshold) / (n + self.pseudo_count)
        return gains.flatten()[best].item(), best // inner, torch.stack((threshold, mass))

    def _between(self, x: Tensor, source: int, target: int) -> Mapped:
        _check_unit(x, self.dim)
        node = torch.zeros(len(x), dtype=torch.long, device=x.device)
        for _ in range(self.depth):
            place = x.gather(1, self.axis[node, None])[:, 0]
            node = 2 * node + 1 + (place >= self.thresholds[source, node]).long()
        boxes = self.leaves[:, :, node - len(self.axis)]
        low, size = boxes[:, 0], boxes[:, 1] - boxes[:, 0]
        ratio = size[target] / size[source]
        return Mapped(torch.addcmul(low[target], x - low[source], ratio).clamp(0, 1), ratio.log().sum(1))


def _cubes(number: int, dim: int) -> Tensor:
    """Unit cubes by their lower and upper ends, of data and of base: `(2, 2, number, D)`."""
    return torch.tensor([0.0, 1.0])[:, None, None].repeat(2, 1, number, dim)


def _counts(x: Tensor, cells: int) -> Tensor:
    """How many rows of `x`, in the unit cube, are in each of the equal parts of each axis: `(D, cells)`."""
    cell = (x * cells).long().clamp(0, cells - 1) + cells * torch.arange(x.shape[1], device=x.device)
    return cell.flatten().bincount(minlength=cells * x.shape[1]).reshape(-1, cells)


def _interpolated(x: Tensor, knots: Tensor, values: Tensor) -> Mapped:
    """The piecewise linear function of each column with these knots and values, `(D, K)`."""
    left = torch.searchsorted(knots[:, 1:-1].contiguous(), x.detach().mT.contiguous())
    a, b = knots.gather(1, left), knots.gather(1, left + 1)
    c, d = values.gather(1, left), values.gather(1, left + 1)
    slope = (d - c) / (b - a)
    return Mapped((c + slope * (x.mT - a)).mT, slope.log().sum(0))


def _check_unit(x: Tensor, dim: int) -> None:
    require_vectors(x, dim)
    outside = rows_with((x < 0) | (x > 1))
    if outside:
        raise ValueError(
            f"data in [0, 1] are needed; {len(outside)} rows have others, first {outside[:5]}: "
            "put a destructor of the line or a NormalCDF first"
        )
