"""Maximum likelihood, plain or with weighted path costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from cnf.arguments import Finite, checked
from cnf.flows import Flow
from cnf.objectives.interface import Loss, some


@checked
@dataclass(frozen=True)
class MaximumLikelihood:
    """`mean(−log p(x) + Σ_c w_c C_c(x))`, nats a sample.

    Args:
        weights: Weight of each path cost by its name in the CNF; costs without a weight are logged only. For a loss
            in nats, RNODE's published λ (bits, means over dimensions, half the kinetic energy) stand for
            `{"kinetic": λ_K · ln 2 / 2, "frobenius": λ_J · ln 2}`.

    Raises:
        ValueError: A weight for a cost that the flow does not have, or an empty batch.

    References:
        Grathwohl et al. 2019, arXiv 1810.01367; Finlay et al. 2020, arXiv 2002.02798.
    """

    weights: Mapping[str, Finite] = field(default_factory=dict)

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
