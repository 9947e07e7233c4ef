"""A flow as a density estimator of sbi; `cnf.interop.sbi` is the door to it."""

from __future__ import annotations

from typing import Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor, nn

from cnf.continuous.twins import cnfs_of, reconfigure
from cnf.flows import Flow
from cnf.objectives.interface import Loss, as_loss


class FlowEstimator(ConditionalDensityEstimator):
    """A conditional flow with the methods that sbi asks of a density estimator.

    Args:
        flow: Its contexts are the conditions, flattened.
        condition_shape: Shape of one condition.
        embedding_net: The network in the flow that reads conditions, if there is one.

    Attributes:
        net: The flow.

    Example:
        >>> import torch, cnf
        >>> from cnf.interop.density_estimator import FlowEstimator
        >>> built = FlowEstimator(cnf.build("maf", 2, 3, hidden=8), torch.Size([3]))
        >>> built.sample((5,), torch.zeros(4, 3)).shape
        torch.Size([5, 4, 2])
    """

    net: Flow

    def __init__(self, flow: Flow, condition_shape: torch.Size, embedding_net: nn.Module | None = None) -> None:
        super().__init__(flow, flow.event_shape, condition_shape)
        self._embedding_net = embedding_net

    @property
    def embedding_net(self) -> nn.Module | None:
        return self._embedding_net

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Log-densities `(S, B)` of inputs `(S, B, *event)` given conditions `(B, *condition)`."""
        self._check_input_shape(input)
        self._check_condition_shape(condition)
        points, given, _ = self._broadcast_and_align(input, condition)
        return self.net.log_prob(points, self._contexts(given))

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Samples `(*sample_shape, B, *event)` for conditions `(B, *condition)`."""
        self._check_condition_shape(condition)
        return self.net.distribution(self._contexts(condition)).sample(torch.Size(sample_shape))

    def sample_and_log_prob(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Samples as `sample` gives them and their log-densities `(*sample_shape, B)`, by one pass."""
        self._check_condition_shape(condition)
        with torch.no_grad():
            distribution = self.net.distribution(self._contexts(condition))
            return distribution.rsample_and_log_prob(torch.Size(sample_shape))

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """The loss of each row, `(B,)`, by the last phase of the flow's recipe, with its solver."""
        phase, flow = self.net.recipe[-1], self.net
        if cnfs_of(flow) and (phase.solver or phase.divergence):
            flow = reconfigure(flow, solver=phase.solver, divergence=phase.divergence)
        found: Loss = as_loss(phase.objective(flow, input, self._contexts(condition)))
        if found.rows is None:
            raise TypeError(f"sbi needs the loss of each row, which {phase.objective!r} does not give")
        return found.rows

    def _contexts(self, condition: Tensor) -> Tensor:
        shape = self.condition_shape
        return condition.reshape(*condition.shape[: condition.dim() - len(shape)], shape.numel())
