"""Variational inference: fit a flow to a density that is known up to a constant, by samples of the flow itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from cnf.arguments import Count, NonNegative, checked
from cnf.flows import Flow
from cnf.objectives.interface import Loss
from cnf.objectives.scores import drawn_along_paths, target_values


@checked
@dataclass(frozen=True)
class ReverseKL:
    """`mean(log q(x) − β log p̃(x))` over samples x of the flow q: `KL(q ‖ p) − log Z` at β = 1.

    One pass draws the samples and their densities, with the gradient along the path of each sample. No data are needed:
    `cnf.fit(flow, None, cnf.ReverseKL(log_target))` draws `batch_size` samples a step. For a conditional flow, one is
    drawn for each context. It seeks modes, and may miss some of them without a sign in the loss; `Annealed` starts from
    a flattened target.

    At the optimum the usual gradient still has variance, that of the score of q, whose mean is 0. The path gradient
    leaves the score out (sticking the landing), so that its variance vanishes there; it costs a pass of `encode` more.

    The metrics are `reverse_kl`, the same mean at β = 1, and `effective_samples`, the effective sample size of
    importance weights `p̃ / q`, as a share of the batch: 1 for a perfect fit, as far as samples of q can tell.

    Args:
        log_target: `log p̃`, normalised or not: maps samples `(N, *event)`, followed by the context `(N, C)` if there is
            one, to `(N,)`, differentiably.
        inverse_temperature: β, the weight of the target; below 1 it is flatter.
        path_gradient: Whether gradients follow the paths of the samples alone.

    Raises:
        ValueError: The target gives another shape than `(N,)`, or `path_gradient` is set for a flow whose
            log-determinants are estimated.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770; Roeder et al. 2017, Sticking the landing, arXiv 1703.09194.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("realnvp", 2, hidden=8)
        >>> objective = cnf.ReverseKL(lambda x: -(x - 1).square().sum(-1))
        >>> config = cnf.FitConfig(steps=2, batch_size=32, progress=False)
        >>> cnf.fit(flow, None, objective, config=config).steps
        2
        >>> sorted(objective(flow, torch.zeros(8, 2)).metrics)
        ['effective_samples', 'reverse_kl']
    """

    draws_samples: ClassVar[bool] = True  # the values of the rows do not matter, and are not checked

    log_target: Callable[..., Tensor]
    inverse_temperature: NonNegative = 1.0
    path_gradient: bool = field(default=False, kw_only=True)

    def __call__(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        draw = drawn_along_paths if self.path_gradient else Flow.sample_and_log_prob
        samples, log_q = draw(flow, len(x), context)
        log_p = target_values(self.log_target, samples, context)
        if samples.requires_grad and not log_p.requires_grad:
            warnings.warn(
                "log_target returned values without gradient, so training does not see the target: compute them with "
                "torch from the samples, without detach(), numpy or no_grad()",
                stacklevel=2,
            )
        rows = log_q - self.inverse_temperature * log_p
        log_weights = (log_p - log_q).detach()
        effective = (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp() / len(x)
        return Loss(rows.mean(), {"reverse_kl": -log_weights.mean(), "effective_samples": effective}, rows.detach())


@checked
@dataclass(frozen=True)
class LinearAnnealing:
    """`β_t = min(1, β₀ + t / T)`.

    Args:
        start: β₀ at step 0.
        steps: T, in which β would rise by 1.

    Raises:
        ValueError: A start that is negative, or no steps.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770, for the defaults.

    Example:
        >>> schedule = LinearAnnealing(start=0.1, steps=100)
        >>> schedule(0), schedule(50), schedule(1000)
        (0.1, 0.6, 1.0)
    """

    start: NonNegative = 0.01
    steps: Count = 10_000

    def __call__(self, step: int) -> float:
        return min(1.0, self.start + step / self.steps)


@checked
class Annealed(nn.Module):
    """A `ReverseKL` whose inverse temperature follows a schedule: `β = schedule(step)`.

    Objectives are not told the step, so this one counts: a call in training mode and with gradients is a step. The
    count is a buffer. `cnf.fit` trains and saves the objective with the flow, so a resumed run goes on at the
    temperature where it stopped. Call `eval()` to compute the loss without counting.

    Args:
        objective: Its own inverse temperature multiplies the schedule's.
        schedule: Step, from 0, to β.

    Example:
        >>> import torch, cnf
        >>> from cnf.data import energy
        >>> objective = Annealed(ReverseKL(energy("U1")), LinearAnnealing(steps=1000))
        >>> flow = cnf.build("realnvp", 2, hidden=8)
        >>> [round(objective(flow, torch.zeros(16, 2)).metrics["inverse_temperature"].item(), 4) for _ in range(3)]
        [0.01, 0.011, 0.012]
    """

    draws_samples = True
    step: Tensor

    def __init__(self, objective: ReverseKL, schedule: Callable[[int], float] = LinearAnnealing()) -> None:
        super().__init__()
        self.objective, self.schedule = objective, schedule
        self.register_buffer("step", torch.tensor(0))

    def forward(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        beta = self.objective.inverse_temperature * self.schedule(int(self.step))
        if self.training and torch.is_grad_enabled():
            self.step += 1
        loss = replace(self.objective, inverse_temperature=beta)(flow, x, context)
        return loss._replace(metrics={**loss.metrics, "inverse_temperature": torch.tensor(beta)})
