"""Simple densities to compare with: a Gaussian, mixtures of them, kernels, independent columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from cnf.arguments import Matrix, Size, checked

RIDGE = 1e-9  # of the variances: keeps covariances positive definite
FLOOR = 1e-5  # of the variances within a component, which could otherwise collapse on single rows
ROUNDS, STARTS = 40, 2  # of expectation and maximisation
SHRINK = (0.12, 0.25, 0.4, 0.65, 1.0)  # bandwidths that are tried, relative to Scott's rule
MOST_KERNELS = 3_000
MOST_ROWS = 5_000  # that a mixture is fitted to
PIECE = 2**22  # distances held at once: 32 MB


class NormalMixture(NamedTuple):
    """A mixture of Gaussians, `p(x) = Σₖ wₖ N(x; μₖ, Lₖ Lₖᵀ)`, in float64.

    Attributes:
        log_weights: `log w`, `(K,)`.
        means: μ, `(K, D)`.
        scales: L, `(K, D, D)`, lower triangular; or `(1, D, D)`, one for all.

    Example:
        >>> import torch
        >>> NormalMixture(torch.zeros(1), torch.zeros(1, 2), torch.eye(2)[None]).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    log_weights: Tensor
    means: Tensor
    scales: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of `(N, D)` in nats, `(N,)`."""
        pieces = x.to(self.means).split(max(1, PIECE // len(self.means)))
        return torch.cat([self.components(piece).logsumexp(1) for piece in pieces])

    def components(self, x: Tensor) -> Tensor:
        """`log wₖ + log N(x; μₖ, Lₖ Lₖᵀ)`, `(N, K)`."""
        if len(self.scales) == 1:  # a kernel for each of many rows
            rows, means = (_solved(self.scales[0], values) for values in (x, self.means))
            squares = torch.cdist(rows, means, compute_mode="donot_use_mm_for_euclid_dist").square()
        else:
            pairs = zip(self.scales, self.means, strict=True)
            squares = torch.stack([_solved(scale, x - mean).square().sum(1) for scale, mean in pairs], 1)
        log_volumes = self.scales.diagonal(dim1=1, dim2=2).log().sum(1)
        return self.log_weights - log_volumes - 0.5 * (squares + x.shape[1] * math.log(2 * math.pi))

    def marginal(self, columns: Sequence[int]) -> NormalMixture:
        """The density of some of the columns."""
        chosen = list(columns)
        covariances = (self.scales @ self.scales.mT)[:, chosen][:, :, chosen]
        return NormalMixture(self.log_weights, self.means[:, chosen], torch.linalg.cholesky(covariances))


def _solved(scale: Tensor, x: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(scale, x.T, upper=False).T


@checked
def normal(x: Matrix) -> NormalMixture:
    """The Gaussian with the mean and the covariance of rows `(N, D)`.

    Args:
        x: Rows.

    Example:
        >>> import torch
        >>> normal(torch.tensor([[0.0], [2.0]])).scales
        tensor([[[1.0000]]], dtype=torch.float64)
    """
    x = x.double()
    return NormalMixture(x.new_zeros(1), x.mean(0, keepdim=True), _scale(x, x.new_ones(len(x)), RIDGE)[None])


@checked
@torch.no_grad()
def normal_mixture(
    x: Matrix, judged: Matrix, *, components: Sequence[Size] = (2, 4, 8, 16), generator: Generator | None = None
) -> NormalMixture:
    """Mixture of Gaussians with full covariances by expectation and maximisation.

    Args:
        x: Rows `(N, D)` to fit; 5,000 of more are used.
        judged: Other rows, which choose the number of components.
        components: Numbers of components to try.
        generator: Source of the starting points.

    Example:
        >>> import torch
        >>> x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
        >>> x += 8 * (x > 0)
        >>> normal_mixture(x[::2], x[1::2], components=[1, 2]).means.shape
        torch.Size([2, 1])
    """
    x = _some(x.double(), MOST_ROWS, generator)
    counts = [min(count, len(x)) for count in components for _ in range(STARTS)]
    fitted = [_by_expectation(x, _first_shares(x, count, generator)) for count in counts]
    return max(fitted, key=lambda mixture: mixture.log_prob(judged).mean().item())


def _first_shares(x: Tensor, count: int, generator: Generator | None) -> Tensor:
    """Each row belongs to the nearest of some rows that are far from each other (k-means++), `(N, K)`."""
    x = _solved(_scale(x, x.new_ones(len(x)), RIDGE), x)
    chosen = torch.randint(len(x), (1,), generator=generator)
    for _ in range(count - 1):
        distance = torch.cdist(x, x[chosen]).amin(1).square() + 1e-12
        chosen = torch.cat((chosen, torch.multinomial(distance, 1, generator=generator)))
    return torch.nn.functional.one_hot(torch.cdist(x, x[chosen]).argmin(1), count).to(x)


def _by_expectation(x: Tensor, shares: Tensor) -> NormalMixture:
    floor = FLOOR * x.var(0, correction=0)
    mixture = _maximal(x, shares, floor)
    for _ in range(ROUNDS):
        mixture = _maximal(x, mixture.components(x).softmax(1), floor)
    return mixture


def _maximal(x: Tensor, shares: Tensor, floor: Tensor) -> NormalMixture:
    """The mixture of highest likelihood if rows belong to components by these shares."""
    totals = shares.sum(0).clamp(min=1e-3)
    means = (shares.T @ x) / totals[:, None]
    scales = [_scale(x - mean, share, floor, centred=True) for mean, share in zip(means, shares.T, strict=True)]
    return NormalMixture((totals / totals.sum()).log(), means, torch.stack(scales))


def _scale(x: Tensor, weights: Tensor, ridge: Tensor | float, *, centred: bool = False) -> Tensor:
    """The Cholesky factor of the weighted covariance, plus a ridge: numbers, or a share of the variances."""
    x = x if centred else x - x.mean(0)
    covariance = (weights[:, None] * x).T @ x / weights.sum().clamp(min=1e-3)
    added = ridge if isinstance(ridge, Tensor) else ridge * covariance.diagonal()
    return torch.linalg.cholesky(covariance + torch.diag(added))


@checked
@torch.no_grad()
def kernel_density(x: Matrix, judged: Matrix, *, generator: Generator | None = None) -> NormalMixture:
    """Kernel density estimate: a Gaussian around each row, all of one covariance, a multiple of that of the rows.

    Args:
        x: Rows `(N, D)`; 3,000 of more are used.
        judged: Other rows, which choose the width of the kernels.
        generator: Source of the choice of rows.

    Example:
        >>> import torch
        >>> x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
        >>> kernel_density(x[:200], x[200:]).means.shape
        torch.Size([200, 2])
    """
    x = _some(x.double(), MOST_KERNELS, generator)
    scott = _scale(x, x.new_ones(len(x)), RIDGE) * len(x) ** (-1 / (x.shape[1] + 4))
    weights = x.new_full((len(x),), -math.log(len(x)))
    judged = judged[:500]
    tried = [NormalMixture(weights, x, shrink * scott[None]) for shrink in SHRINK]
    return max(tried, key=lambda mixture: mixture.log_prob(judged).mean().item())


def _some(x: Tensor, most: int, generator: Generator | None) -> Tensor:
    return x if len(x) <= most else x[torch.randperm(len(x), generator=generator)[:most]]
