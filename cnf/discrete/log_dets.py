"""Ways to compute `log det(I + J)` for a contraction's Jacobian J: from the matrix, or from a power series."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from cnf.arguments import Count, Fraction, Size, checked
from cnf.discrete.determinants import log_abs_det
from cnf.networks.lipschitz import ChainJacobian
from cnf.probes import NOISE, Noise
from cnf.tracing import require_visible

WITHOUT_SERIES = "take the exact log-determinant, with_log_det(flow, ExactLogDet())"


@dataclass(frozen=True)
class LogDet(ABC):
    """A way to compute `log det(I + J)` for a Jacobian J of norm below 1.

    To write one, derive a frozen dataclass and define `__call__`.

    Attributes:
        exact: Whether it is the log-determinant itself, not an estimate or the beginning of a series.

    Example: The first term of the series, with the exact trace.
        >>> import torch, cnf
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class FirstTerm(cnf.discrete.LogDet):
        ...     def __call__(self, jacobian):
        ...         return jacobian.dense().diagonal(dim1=1, dim2=2).sum(1)
        >>> layer = cnf.discrete.Residual(2, log_det=FirstTerm())
        >>> layer.encode(torch.zeros(3, 2)).log_det.shape, layer.exact
        (torch.Size([3]), False)
    """

    exact: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        """`log det(I + J)` or an estimate of it, `(N,)`."""

    def smoothed(self) -> LogDet:
        """An unbiased estimate of it whose noise has a density and light tails; itself where there is no such one."""
        return self


@dataclass(frozen=True)
class ExactLogDet(LogDet):
    """`log det(I + J)` from the matrix `(N, D, D)`: without noise or bias, at a cost of `O(D³)` for each row.

    Example:
        >>> import cnf
        >>> cnf.discrete.Residual(2, log_det=cnf.discrete.ExactLogDet()).exact
        True
    """

    exact: ClassVar[bool] = True

    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        dense = jacobian.dense()
        identity = torch.eye(dense.shape[-1], dtype=dense.dtype, device=dense.device)
        return log_abs_det(identity + dense)


@checked
@dataclass(frozen=True)
class PowerSeries(LogDet):
    """The first n terms of `log det(I + J) = Σ_k (−1)^{k+1} tr(Jᵏ) / k`, each trace estimated by `vᵀ Jᵏ v`.

    Biased: with `Lip(g) ≤ c`, by at most `D Σ_{k>n} cᵏ / k`.

    Args:
        terms: n.
        probes: How many v for each row; the mean over them is taken.
        noise: "rademacher", "gaussian", "sphere" or "orthogonal", the distribution of v.

    References:
        Behrmann et al. 2019, i-ResNet, arXiv 1811.00995.

    Example:
        >>> import cnf
        >>> cnf.discrete.PowerSeries(terms=5)
        PowerSeries(terms=5, probes=1, noise='rademacher')
    """

    terms: Count = 10
    probes: Size = 1
    noise: Noise = "rademacher"

    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        ones = jacobian.slopes[0].new_ones(self.terms, 1)
        return _series(jacobian, _probe(jacobian, self.probes, self.noise), ones)

    def smoothed(self) -> LogDet:
        return RussianRoulette(exact_terms=self.terms, probes=self.probes).smoothed()


@checked
@dataclass(frozen=True)
class RussianRoulette(LogDet):
    """The whole series without bias: the number of terms is random, and rarely computed terms weigh more.

    `Σ_k (−1)^{k+1} vᵀ Jᵏ v / (k P(n ≥ k))` with `n = exact_terms + G` and `P(G ≥ j) = continuation^j`, drawn for each
    row. Its variance is finite where the spectral radius of J is below `√continuation`. Where the Lipschitz constant is
    near 1, a larger `continuation` is needed.

    Args:
        exact_terms: Terms that are always computed. (Published are 2 and a first random one, which is always taken.)
        continuation: Probability of one more term.
        probes: How many v for each row; the mean over them is taken.
        noise: "rademacher", "gaussian", "sphere" or "orthogonal", the distribution of v.

    References:
        Chen et al. 2019, Residual flows, arXiv 1906.02735.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Residual(2, log_det=cnf.discrete.RussianRoulette(continuation=0.8))
        >>> layer.encode(torch.zeros(3, 2)).log_det.shape, layer.exact
        (torch.Size([3]), False)
    """

    exact_terms: Count = 3
    continuation: Fraction = 0.5
    probes: Size = 1
    noise: Noise = "rademacher"

    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        require_visible(*jacobian.slopes, what="a series of random length", remedy=WITHOUT_SERIES)
        uniform = 1 - torch.rand_like(jacobian.slopes[0][:, 0])  # in (0, 1]
        drawn = (uniform.log() / math.log(self.continuation)).floor()
        extra = torch.arange(1, int(drawn.max()) + 1 if len(drawn) else 1, device=drawn.device).unsqueeze(1)
        roulette = (drawn >= extra) * self.continuation ** -extra.to(drawn.dtype)
        weights = torch.cat([torch.ones_like(drawn).expand(self.exact_terms, -1), roulette])
        return _series(jacobian, _probe(jacobian, self.probes, self.noise), weights)

    def smoothed(self) -> LogDet:
        terms, continuation = max(self.exact_terms, 10), max(self.continuation, 0.9)  # seldom terms weigh little
        return replace(self, exact_terms=terms, continuation=continuation, noise="sphere")


def _probe(jacobian: ChainJacobian, probes: int, noise: str) -> Tensor:
    """`(probes, N, D)`."""
    rows, dim = len(jacobian.slopes[0]), jacobian.weights[0].shape[1]
    return NOISE[noise](jacobian.weights[0].new_empty(rows, dim), probes, None)


def _series(jacobian: ChainJacobian, probe: Tensor, weights: Tensor) -> Tensor:
    """`Σ_k (−1)^{k+1} weights_k vᵀ Jᵏ v / k`, the mean over the probes; weights `(terms, N)` or `(terms, 1)`."""
    total, power = torch.zeros_like(probe[0, :, 0]), probe
    for k, weight in enumerate(weights, 1):
        power = jacobian.multiply(power)
        total = total - (-1) ** k / k * weight * (probe * power).sum(2).mean(0)
    return total
