"""Maximum likelihood, plain or with weighted path costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from cnf.arguments import NonNegative, checked
from cnf.flows import Flow
from cnf.objectives.interface import Loss, some


@checked
@dataclass(frozen=True)
class MaximumLikelihood:
    """`mean(−log p(x) + Σ_c w_c C_c(x))`, nats a sample.

    The metrics are `nll`, the mean of `−log p(x)`, and the mean of each path cost.

    Args:
        weights: Weight of each path cost by its name in the CNF, not negative; costs without a weight are only logged.
            RNODE's published λ are for bits, means over dimensions and half the kinetic energy: for a loss in nats
            they become `{"kinetic": λ_K · ln 2 / 2, "frobenius": λ_J · ln 2}`.

    Raises:
        ValueError: A negative weight; in use, a weight for a cost that the flow does not have, or an empty batch.

    References:
        Grathwohl et al. 2019, arXiv 1810.01367; Finlay et al. 2020, arXiv 2002.02798.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("rnode", 2, hidden=8)
        >>> loss = MaximumLikelihood({"kinetic": 0.1})(flow, torch.zeros(3, 2))
        >>> round(loss.value.item(), 3), sorted(loss.metrics)
        (1.838, ['frobenius', 'kinetic', 'nll'])
    """

    weights: Mapping[str, NonNegative] = field(default_factory=dict)

    def __call__(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        log_prob, _, costs = flow(*some(x, context))
        missing = set(self.weights) - set(costs)
        if missing:
            known = ", ".join(costs) or "none"
            raise ValueError(f"no path cost named {', '.join(sorted(missing))}: the flow's CNFs have {known}")
        rows = -log_prob
        for name, weight in self.weights.items():
            if weight:
                rows = rows + weight * costs[name]
        metrics = {"nll": -log_prob.detach().mean(), **{name: cost.detach().mean() for name, cost in costs.items()}}
        return Loss(rows.mean(), metrics, rows)
