"""Couplings: which base point goes with which row of data in flow matching.

A coupling keeps both sets of points, so it changes no marginal; it only makes paths shorter and their crossings fewer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from cnf.manifolds.geometry import Manifold


class Coupling(ABC):
    """Chooses a base point for each data point."""

    @abstractmethod
    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        """The row of `base` for each row of `data`, `(N,)`.

        Args:
            base: `(N, *event)`.
            data: `(N, *event)`.
            context: `(N, C)` of the data, or None.
        """


@dataclass(frozen=True)
class IndependentCoupling(Coupling):
    """Each data point goes with the base point that was drawn for it."""

    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        return torch.arange(len(data), device=data.device)


@dataclass(frozen=True)
class OptimalTransport(Coupling):
    """The assignment with the least `Σ ‖x₀ − x₁‖²` in the batch, by SciPy's exact solver.

    With a context, base points must not be chosen by it, or the base of one context would no longer be the base. So
    each base point is given the context of the row it was drawn for, and changing contexts costs
    `context_weight · ‖c − c'‖²`. The default, an infinite weight, pairs rows of equal context only: right for classes.
    With a finite weight the coupling is closer to the optimum for continuous contexts, and biased by as much as
    contexts are mixed.

    Args:
        context_weight: Cost of pairing different contexts.
        manifold: Where the points lie, for squared lengths of geodesics; None for the space of vectors.

    Raises:
        ImportError: SciPy is missing (`pip install 'cnf[transport]'`).

    References:
        Tong et al. 2024, arXiv 2302.00482; Pooladian et al. 2023, arXiv 2304.14772; contexts: Cheng and Schwing 2025,
        arXiv 2503.10636.
    """

    context_weight: float = math.inf
    manifold: Manifold | None = None

    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        if context is None or self.context_weight < math.inf:
            return _assignment(self._of_points(base, data) + self._of_contexts(context))
        rows = torch.arange(len(data), device=data.device)
        _, groups = context.unique(dim=0, return_inverse=True)
        for group in groups.unique():
            members = (groups == group).nonzero().flatten()
            rows[members] = members[_assignment(self._of_points(base[members], data[members]))]
        return rows

    def _of_points(self, base: Tensor, data: Tensor) -> Tensor:
        if self.manifold is None:
            return _costs(base, data)
        return self.manifold.distance(base.unsqueeze(1), data.unsqueeze(0)).square()

    def _of_contexts(self, context: Tensor | None) -> Tensor | float:
        return 0.0 if context is None else self.context_weight * _costs(context, context)


@dataclass(frozen=True)
class EntropicCoupling(Coupling):
    """A base point for each data point, drawn from the entropic plan `π ∝ exp((f + g − ‖x₀ − x₁‖²) / ε)` of the batch.

    The plan is found by Sinkhorn's iterations on logarithms, which stay finite for any ε. Every data point is kept, so
    contexts stay with their rows; they are not looked at.

    Args:
        epsilon: ε; `2 σ²` for the Schrödinger bridge of a `BridgePath(σ)`.
        iterations: Most iterations.
        tolerance: Total variation between the plan's marginal and the batch at which to stop.

    Raises:
        ValueError: A context, or settings that are not positive.

    References:
        Cuturi 2013, arXiv 1306.0895; Tong et al. 2024, arXiv 2307.03672; Pooladian et al. 2023, arXiv 2304.14772.
    """

    epsilon: float = 0.02
    iterations: int = 1_000
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("epsilon", "iterations", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        if context is not None:
            raise ValueError("an entropic coupling would mix contexts: take OptimalTransport or IndependentCoupling")
        scores = -_costs(base, data).double() / self.epsilon
        plan = _sinkhorn(scores, self.iterations, self.tolerance)
        return torch.multinomial(plan.mT, 1).squeeze(1)


def _sinkhorn(scores: Tensor, iterations: int, tolerance: float) -> Tensor:
    """`diag(u) exp(scores) diag(v)` whose rows and columns sum to 1."""
    columns = scores.new_zeros(scores.shape[1])
    for _ in range(iterations):
        rows = -(scores + columns).logsumexp(1)
        sums = (scores + rows.unsqueeze(1)).logsumexp(0)
        excess = ((sums + columns).exp() - 1).abs().mean() / 2
        columns = -sums
        if excess < tolerance:
            break
    return (scores + rows.unsqueeze(1) + columns).exp()


def _costs(base: Tensor, data: Tensor) -> Tensor:
    """`‖x₀ − x₁‖²` of all pairs, `(N, N)`."""
    return torch.cdist(base.flatten(1), data.flatten(1)).square()


def _assignment(costs: Tensor) -> Tensor:
    """The row for each column that makes the sum of the costs least."""
    try:
        from scipy.optimize import linear_sum_assignment  # an optional dependency
    except ImportError as error:
        raise ImportError("OptimalTransport needs SciPy: pip install 'cnf[transport]'") from error
    _, rows = linear_sum_assignment(costs.mT.cpu().numpy())
    return torch.as_tensor(rows, device=costs.device)


COUPLINGS = {"independent": IndependentCoupling, "ot": OptimalTransport, "entropic": EntropicCoupling}
