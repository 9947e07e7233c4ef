"""Staircases: distribution functions of columns of levels, each level an interval of normal scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnf.distributions import LOG_2PI

PSEUDO_COUNT = 0.5  # of each level, so that none has probability 0


class Steps(nn.Module):
    """Columns of levels 0, 1, … as intervals of the normal distribution, as wide as the shares of the levels.

    Args:
        levels: Number of levels of each column.

    Example:
        >>> import torch
        >>> steps = Steps([2])
        >>> steps.count(torch.tensor([[0.0], [0.0], [0.0], [1.0]]), torch.ones(4, 1, dtype=torch.bool))
        >>> steps.shares[0].tolist()
        [0.699999988079071, 0.30000001192092896]
    """

    shares: Tensor
    below: Tensor
    above: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        widest = max(self.levels)
        for name in ("shares", "below", "above"):
            self.register_buffer(name, torch.zeros(len(self.levels), widest))
        self._set([torch.full((number,), 1 / number, dtype=torch.float64) for number in self.levels])

    @torch.no_grad()
    def count(self, x: Tensor, present: Tensor) -> None:
        """Take the shares of levels among the cells that are present, `(N, D)` both."""
        shares = []
        for column, there, number in zip(x.mT, present.mT, self.levels, strict=True):
            counts = torch.bincount(column[there].long(), minlength=number).double() + PSEUDO_COUNT
            shares.append(counts / counts.sum())
        self._set(shares)

    def _set(self, shares: Sequence[Tensor]) -> None:
        for place, share in enumerate(shares):
            number = len(share)
            self.shares[place, :number] = share
            self.below[place, :number] = share.cumsum(0) - share  # exactly 0 for the first
            self.above[place, :number] = share.flip(0).cumsum(0).flip(0) - share  # and for the last
            self.above[place, number - 1] = self.below[place, 0] = 0

    def encode(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The images of levels `(N, D)` with noise in (0, 1), and the logarithms of shares over their densities."""
        share, below, above = self._of(x)
        lower, upper = below + noise * share, above + (1 - noise) * share
        z = torch.where(lower < 0.5, torch.special.ndtri(lower), -torch.special.ndtri(upper))
        low, high = self._ends(below, above, share)
        z = z.clamp(torch.nextafter(low, high), high).clamp(-LARGEST, LARGEST)
        return z, share.log() + 0.5 * (z.square() + LOG_2PI)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The levels whose intervals hold `z`, `(N, D)`, and minus what `encode` gives beside them."""
        inner = self._ends(self.below, self.above, self.shares)[1]
        edges = torch.where(self.above > 0, inner, torch.inf)[:, :-1].contiguous()  # the last level has no upper end
        x = torch.searchsorted(edges, z.mT.contiguous()).mT.to(z)
        share, _, _ = self._of(x)
        return x, -share.log() - 0.5 * (z.square() + LOG_2PI)

    def scores(self, x: Tensor) -> Tensor:
        """The mean of the normal distribution over the interval of each level."""
        share, below, above = self._of(x)
        low, high = self._ends(below, above, share)
        return (_density(low) - _density(high)) / share

    def _of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        places = x.long().clamp(0, self.shares.shape[1] - 1).mT
        share, below, above = (part.gather(1, places).mT for part in (self.shares, self.below, self.above))
        return share, below, above

    def _ends(self, below: Tensor, above: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends of intervals as normal scores, from the tail that has digits."""
        return _score(below, above + share), _score(below + share, above)


LARGEST = 8.0  # normal scores that float32 tells apart


def _score(lower: Tensor, upper: Tensor) -> Tensor:
    return torch.where(lower < upper, torch.special.ndtri(lower), -torch.special.ndtri(upper))


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * (z.square() + LOG_2PI))
