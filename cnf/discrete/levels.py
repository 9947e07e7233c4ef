"""Pixels made normal one by one: the probabilities of their levels are all there is to know of each alone."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Ambient, Size, checked
from cnf.distributions import standard_normal_log_prob
from cnf.inputs import require_vectors
from cnf.tracing import rows_with
from cnf.transforms import Mapped, Transform

DOUBTS = [2.0**power for power in range(-2, 11)]  # weights of the prior to choose from, in rows
EDGE = 1e-9  # share of the mass next to 0 and 1 that is cut off, so that all values are finite


@checked
class LevelMarginals(Transform):
    """`zᵢ = Φ⁻¹(F̂ᵢ(vᵢ))` for dequantised whole numbers `v = (x + u)/L`: each element becomes standard normal.

    `F̂ᵢ` is piecewise linear with a knot at each level, and so exact for uniform noise. The probability of a level is
    `(n_k + a s_k)/(N + a)`: counts `n_k`, and as prior the mean s of the histogram of all elements and the uniform one.
    Each element has the weight a that leaves one row out best. Before `initialize` all levels are equally likely.

    Args:
        dim: D.
        levels: L, at least 2.

    Raises:
        ValueError: In use, data outside [0, 1]; the message names the rows.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.LevelMarginals(1, levels=2)
        >>> layer.initialize(torch.tensor([[0.1], [0.2], [0.3], [0.7]]))
        >>> z, log_det, _ = layer.encode(torch.tensor([[0.25], [0.75]]))
        >>> z.T.round(decimals=2), bool(log_det[0] > log_det[1])
        (tensor([[-0.4900,  0.8900]]), True)
    """

    data_dependent = True
    domain = constraints.unit_interval
    below: Tensor
    above: Tensor
    edges: Tensor

    def __init__(self, dim: Size, levels: Ambient) -> None:
        super().__init__()
        shares = torch.full((dim, levels), 1 / levels, dtype=torch.float64)
        for name, tensor in zip(("below", "above", "edges"), _tables(shares), strict=True):
            self.register_buffer(name, tensor.to(torch.get_default_dtype()))

    @property
    def levels(self) -> int:
        return self.below.shape[1] - 1

    def extra_repr(self) -> str:
        return f"{len(self.below)}, levels={self.levels}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, len(self.below))
        outside = rows_with((x < 0) | (x > 1))
        if outside:
            raise ValueError(
                f"data in [0, 1] are needed; {len(outside)} rows have others, first {outside[:5]}: scale them, or put "
                "Dequantize first"
            )
        scaled = x * self.levels
        level = scaled.detach().floor().clamp(0, self.levels - 1)
        inside = scaled - level
        left, right, share, rest = self._around(level)
        low, high = left + share * inside, rest + share * (1 - inside)
        z = torch.where(low < 0.5, _quantile(low), -_quantile(high))
        return Mapped(z, self._log_slope(share, z))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, len(self.below))
        level = torch.searchsorted(self.edges, z.detach().mT.contiguous()).mT.to(z)
        left, _, share, rest = self._around(level)
        low, high = torch.special.ndtr(z) - left, torch.special.ndtr(-z) - rest
        inside = torch.where(z < 0, low / share, 1 - high / share).clamp(0, 1 - torch.finfo(z.dtype).eps * self.levels)
        return Mapped((level + inside) / self.levels, -self._log_slope(share, z))

    def _around(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mass below, the mass up to the end, the mass of the level, and the mass above it."""
        here = level.long().mT
        left, right = self.below.gather(1, here), self.below.gather(1, here + 1)
        rest, whole = self.above.gather(1, here + 1), self.above.gather(1, here)
        share = torch.where(left < 0.5, right - left, whole - rest)  # the difference of the smaller numbers
        return left.mT, right.mT, share.mT, rest.mT

    def _log_slope(self, share: Tensor, z: Tensor) -> Tensor:
        return (share * self.levels).log().sum(1) - standard_normal_log_prob(z)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Count the levels of the rows of `x`."""
        require_vectors(x, len(self.below))
        level = (x.double() * self.levels).long().clamp(0, self.levels - 1)
        for name, tensor in zip(("below", "above", "edges"), _tables(_shares(level, self.levels)), strict=True):
            getattr(self, name).copy_(tensor)


def _shares(level: Tensor, levels: int) -> Tensor:
    """The estimated probabilities of the levels `(N, D)` of each element, `(D, L)` in float64."""
    rows, dim = level.shape
    index = level + levels * torch.arange(dim, device=level.device)
    counts = index.flatten().bincount(minlength=levels * dim).reshape(dim, levels).double()
    prior = 0.5 * counts.sum(0) / counts.sum() + 0.5 / levels
    scores = torch.stack([_left_out(counts, prior, doubt) for doubt in DOUBTS])
    doubt = torch.tensor(DOUBTS, dtype=counts.dtype, device=counts.device)[scores.argmax(0)].unsqueeze(1)
    return (counts + doubt * prior) / (rows + doubt)


def _left_out(counts: Tensor, prior: Tensor, doubt: float) -> Tensor:
    """The log-probability of all rows of each element, each given the others, `(D,)`."""
    others = (counts - 1).clamp(min=0) + doubt * prior
    return torch.special.xlogy(counts, others).sum(1) - counts.sum(1) * math.log(counts[0].sum().item() - 1 + doubt)


def _tables(shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mass below and above the edges of the levels, `(D, L + 1)`, and the inner edges in z, `(D, L − 1)`."""
    below, above = F.pad(shares.cumsum(1), (1, 0)), F.pad(shares.flip(1).cumsum(1).flip(1), (0, 1))
    below[:, -1] = above[:, 0] = 1
    inner = torch.where(below < 0.5, torch.special.ndtri(below), -torch.special.ndtri(above))[:, 1:-1]
    return below, above, inner.contiguous()


def _quantile(mass: Tensor) -> Tensor:
    return torch.special.ndtri(mass.clamp(EDGE, 0.5 + EDGE))
