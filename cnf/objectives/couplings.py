"""Couplings: which base point goes with which row of data in flow matching.

A coupling keeps both sets of points, so it changes no marginal. It makes paths shorter, and they cross less often.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from cnf.arguments import Count, Positive, between, checked
from cnf.manifolds.manifold import Manifold


class Coupling(ABC):
    """Chooses a base point for each data point.

    To write one, return a row of the base for each row of the data. Over many batches every base point should be chosen
    as often as any other, or the flow learns another density. A coupling with settings is a frozen dataclass.

    Example:
        >>> import torch, cnf
        >>> class Sorted(cnf.Coupling):
        ...     '''Left goes to left: the optimal transport of one column.'''
        ...
        ...     def __call__(self, base, data, context):
        ...         rows = torch.empty(len(data), dtype=torch.long)
        ...         rows[data[:, 0].argsort()] = base[:, 0].argsort()
        ...         return rows
        >>> Sorted()(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[30.0], [10.0], [20.0]]), None)
        tensor([2, 0, 1])
        >>> loss = cnf.FlowMatching(coupling=Sorted())(cnf.build("cnf", 2, hidden=8), torch.randn(64, 2))
    """

    example: ClassVar[str] = "cnf.IndependentCoupling()"  # for messages

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
    """Each data point goes with the base point that was drawn for it.

    Example:
        >>> import torch
        >>> IndependentCoupling()(torch.zeros(3, 2), torch.ones(3, 2), None)
        tensor([0, 1, 2])
    """

    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        return torch.arange(len(data), device=data.device)


@checked
@dataclass(frozen=True)
class OptimalTransport(Coupling):
    """The assignment with the least `Σ ‖x₀ − x₁‖²` in the batch, by POT's exact solver, or SciPy's if POT is missing.

    With a context, base points must not be chosen by it, or the base of one context would no longer be the base. So
    each base point is given the context of the row it was drawn for, and changing contexts costs
    `context_weight · ‖c − c'‖²`. The default, an infinite weight, pairs rows of equal context only: right for classes.
    With a finite weight the coupling is closer to the optimum for continuous contexts, but it is biased, the more the
    contexts are mixed.

    POT (`pip install 'cnf[transport]'`) takes 1.5 ms for 128 rows that are hard to pair, 27 ms for 512 and 120 ms for
    1,024; SciPy takes as long, twice and four times as long. Beyond a few hundred rows paths hardly get shorter, so
    `group` keeps large batches cheap.

    Args:
        context_weight: Cost of pairing different contexts.
        manifold: Where the points lie, for squared lengths of geodesics; None for the space of vectors.
        group: Rows that are paired among themselves; None for the whole batch.

    Raises:
        TypeError: A group that is no whole number.
        ValueError: A group without rows, or a negative weight; in use, points that are not finite.

    References:
        Tong et al. 2024, arXiv 2302.00482; Pooladian et al. 2023, arXiv 2304.14772; contexts: Cheng and Schwing 2025,
        arXiv 2503.10636.

    Example:
        >>> import torch
        >>> base, data = torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([[6.0], [0.1], [0.9]])
        >>> OptimalTransport()(base, data, None)
        tensor([1, 0, 2])
        >>> context = torch.tensor([[0.0], [0.0], [1.0]])  # the third row has nobody to change with
        >>> OptimalTransport()(base, data, context)
        tensor([1, 0, 2])
    """

    context_weight: Annotated[float, between(0, math.inf)] = math.inf
    manifold: Manifold | None = None
    group: Count | None = None

    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        rows = torch.arange(len(data), device=data.device)
        if not len(data):
            return rows
        mixed = context is None or self.context_weight < math.inf
        for alike in [rows] if mixed else _alike(context):
            for members in alike.clone().split(self.group or len(rows)) if len(alike) > 1 else ():
                costs = self._of_points(base[members], data[members])
                if context is not None and mixed:
                    costs += self.context_weight * _costs(context[members], context[members])
                rows[members] = members[_assignment(costs)]
        return rows

    def _of_points(self, base: Tensor, data: Tensor) -> Tensor:
        if self.manifold is None:
            return _costs(base, data)
        return self.manifold.distance(base.unsqueeze(1), data.unsqueeze(0)).square()


@dataclass(frozen=True)
class StableCoupling(Coupling):
    """The stable matching of the batch: no base and data point are closer to each other than each is to its partner.

    It is faster than `OptimalTransport` and nearly as good for most points, but the last ones to be matched go far.

    Raises:
        ValueError: A context.

    References:
        Gale and Shapley 1962; Pooladian et al. 2023, arXiv 2304.14772.

    Example:
        >>> import torch
        >>> base, data = torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([[6.0], [0.1], [0.9]])
        >>> StableCoupling()(base, data, None)
        tensor([1, 0, 2])
    """

    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        if context is not None:
            raise ValueError("a stable coupling would mix contexts: take OptimalTransport or IndependentCoupling")
        costs = _costs(base, data)
        mine = theirs = torch.arange(len(data), device=data.device)
        rows = torch.empty_like(mine)
        while len(mine):  # of those left, the ones nearest to each other are partners in any stable matching
            nearest = costs.argmin(1)
            mutual = costs.argmin(0)[nearest] == torch.arange(len(mine), device=data.device)
            chosen = nearest[mutual]
            rows[theirs[chosen]] = mine[mutual]
            free = torch.ones_like(mutual).index_fill(0, chosen, False)  # noqa: FBT003 - torch's signature
            costs, mine, theirs = costs[~mutual][:, free], mine[~mutual], theirs[free]
        return rows


@checked
@dataclass(frozen=True)
class EntropicCoupling(Coupling):
    """A base point for each data point, drawn from the entropic plan `π ∝ exp((f + g − ‖x₀ − x₁‖²) / ε)` of the batch.

    The plan is found by Sinkhorn's iterations, stabilised by potentials and annealed in ε. Every data point is kept.

    Args:
        epsilon: ε; `2 σ²` for the Schrödinger bridge of a `BridgePath(σ)`.
        iterations: Most iterations at the last ε.
        tolerance: Total variation between the plan's marginal and the batch at which to stop.

    Raises:
        ValueError: A context, or settings that are not positive.

    References:
        Cuturi 2013, arXiv 1306.0895; Tong et al. 2024, arXiv 2307.03672; Pooladian et al. 2023, arXiv 2304.14772.

    Example:
        >>> import torch
        >>> base, data = torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([[6.0], [0.1], [0.9]])
        >>> EntropicCoupling(epsilon=0.01)(base, data, None)  # for a small ε almost the optimal transport
        tensor([1, 0, 2])
    """

    epsilon: Positive = 0.02
    iterations: Count = 1_000
    tolerance: Positive = 1e-3

    def __call__(self, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
        if context is not None:
            raise ValueError("an entropic coupling would mix contexts: take OptimalTransport or IndependentCoupling")
        if not len(data):
            return torch.arange(0, device=data.device)
        plan = _entropic_plan(_costs(base, data).double(), self.epsilon, self.iterations, self.tolerance)
        return torch.multinomial(plan.mT, 1).squeeze(1)


BURST = 20  # products between two absorptions of their factors, too few for them to overflow


def _entropic_plan(costs: Tensor, epsilon: float, iterations: int, tolerance: float) -> Tensor:
    """`exp((f + g − costs) / ε)` whose rows and columns sum to 1.

    From an ε as large as the costs down to the one that is asked for: each solution is a good start for the next,
    without which a small ε takes very many iterations (Schmitzer 2019, arXiv 1610.06519).
    """
    blur = max(costs.max().item(), epsilon)
    g = torch.zeros_like(costs[0])
    while blur > epsilon:
        _, g = _sinkhorn(costs, g, blur, BURST, tolerance)
        blur = max(blur / 4, epsilon)
    f, g = _sinkhorn(costs, g, epsilon, iterations, tolerance)
    return ((f.unsqueeze(1) + g - costs) / epsilon).exp()


def _sinkhorn(costs: Tensor, g: Tensor, epsilon: float, iterations: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """Sinkhorn's iterations as products with a kernel, whose factors go into the potentials f and g now and then."""
    for _ in range(0, iterations, BURST):
        f = -epsilon * ((g - costs) / epsilon).logsumexp(1)  # on logarithms: finite however far off g is
        kernel, u = ((f.unsqueeze(1) + g - costs) / epsilon).exp(), torch.ones_like(f)
        for _ in range(BURST):
            v = 1 / (u @ kernel).clamp(min=1e-300)
            before, u = u, 1 / (kernel @ v).clamp(min=1e-300)
            excess = (before / u - 1).abs().mean() / 2
            if excess < tolerance:
                break
        f, g = f + epsilon * u.log(), g + epsilon * v.log()
        if excess < tolerance:
            break
    return f, g


def _alike(context: Tensor | None) -> list[Tensor]:
    """The rows of each context."""
    assert context is not None
    _, labels = context.unique(dim=0, return_inverse=True)
    return [(labels == label).nonzero().flatten() for label in labels.unique()]


def _costs(base: Tensor, data: Tensor) -> Tensor:
    """`‖x₀ − x₁‖²` of all pairs, `(N, N)`, relative to the mean of the data: far from the origin digits are lost."""
    x, y = base.flatten(1), data.flatten(1)
    middle = y.mean(0)
    return torch.cdist(x - middle, y - middle).square()


def _assignment(costs: Tensor) -> Tensor:
    """The row for each column that makes the sum of the costs least."""
    if not costs.isfinite().all():
        raise ValueError("OptimalTransport needs points at finite distances: check base and data for NaN or infinity")
    table = costs.double().cpu().numpy()
    try:
        import ot  # an optional dependency, slow to load
    except ImportError:
        from scipy.optimize import linear_sum_assignment  # torchdiffeq brings it

        rows = linear_sum_assignment(table.T)[1]
    else:
        ones = [1.0] * len(table)
        rows = ot.emd(ones, ones, table, numItermax=sys.maxsize).argmax(0)
    return torch.as_tensor(rows, device=costs.device)


COUPLINGS = {
    "independent": IndependentCoupling,
    "ot": OptimalTransport,
    "stable": StableCoupling,
    "entropic": EntropicCoupling,
}
