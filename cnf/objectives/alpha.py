"""Divergences that cover the modes of a density known up to a constant, by weighted samples of the flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnf.arguments import Positive, Size, SizeOrZero, checked
from cnf.flows import Flow
from cnf.objectives.interface import Loss
from cnf.objectives.scores import held, require_exact, target_values
from cnf.objectives.transitions import Moved, annealed

WANTED = 0.65  # share of accepted transitions that the step size is moved towards
ADAPTATION = 0.1  # how fast


@checked
class AlphaDivergence(nn.Module):
    """`−Σ w̄ᵢ log q(xᵢ)`: the gradient of `∫ p^α q^(1−α)`, by samples of q with self-normalised weights `(p̃/q)^α`.

    With α = 1 it is the forward `KL(p ‖ q)` by importance sampling, with α = 2 the divergence of least variance of the
    weights. Where `ReverseKL` is content with one mode of several, these pay for each point of p that q does not reach.
    Samples of q must find such points once: with `temperatures`, they are moved towards `p^α q^(1−α)` by annealed
    importance sampling with Hamiltonian transitions. Each transition costs `leapfrog` gradients of both densities.

    No data are needed: `cnf.fit(flow, None, AlphaDivergence(log_target))`. The metrics are `effective_samples`, that of
    the weights as a share of the batch, and `acceptance`, of the transitions. Their step size follows it, by calls in
    training mode with gradients; it is saved with the flow. Start from a flow that is wider than the target.

    Args:
        log_target: `log p̃`, as for `ReverseKL`.
        alpha: α.
        temperatures: Transitions between q and `p^α q^(1−α)`; 0 for plain weights.
        leapfrog: Steps of a transition.

    Raises:
        ValueError: In use, log-determinants that are estimated, or a target of another shape than `(N,)`.

    References:
        Midgley et al. 2023, Flow annealed importance sampling bootstrap, arXiv 2208.01893 (without its replay buffer).

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("realnvp", 2, hidden=8)
        >>> objective = cnf.AlphaDivergence(lambda x: -(x.abs() - 2).square().sum(-1), temperatures=4)
        >>> config = cnf.FitConfig(steps=2, batch_size=32, progress=False)
        >>> cnf.fit(flow, None, objective, config=config).steps
        2
        >>> sorted(objective(flow, torch.zeros(8, 2)).metrics)
        ['acceptance', 'effective_samples']
    """

    draws_samples = True
    log_step: Tensor

    def __init__(
        self,
        log_target: Callable[..., Tensor],
        alpha: Positive = 2.0,
        *,
        temperatures: SizeOrZero = 0,
        leapfrog: Size = 3,
    ) -> None:
        super().__init__()
        self.log_target, self.alpha, self.temperatures, self.leapfrog = log_target, alpha, temperatures, leapfrog
        self.register_buffer("log_step", torch.tensor(0.2).log())

    def forward(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        require_exact(flow, "weights")
        samples, log_weights, acceptance = self._drawn(flow, len(x), context)
        if self.temperatures and self.training and torch.is_grad_enabled():
            self.log_step += ADAPTATION * (acceptance - WANTED)
        rows = -len(x) * log_weights.softmax(0) * flow.log_prob(samples, context)
        effective = (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp() / len(x)
        return Loss(rows.mean(), {"effective_samples": effective, "acceptance": acceptance}, rows.detach())

    @torch.no_grad()
    def _drawn(self, flow: Flow, n: int, context: Tensor | None) -> Moved:
        log_q = held(flow)

        def points(x: Tensor) -> tuple[Tensor, Tensor]:
            values = log_q(x, context)
            return values, self.alpha * (target_values(self.log_target, x, context) - values)

        step = self.log_step.exp().item()
        return annealed(points, flow.sample(n, context), self.temperatures, step, self.leapfrog)
