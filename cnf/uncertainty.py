"""How far a log-density can be trusted: the standard error of its estimate and the error of its solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from cnf.arguments import LARGEST, between, conform
from cnf.continuous.cnf import cnfs_of, refined, smoothed, without_costs
from cnf.discrete.residual import continued
from cnf.errors import SampleError
from cnf.noise import Recorded, Replayed
from cnf.transforms import Transform

AVERAGED = 8  # estimates in an independent one: with it, sums of few squares are near enough to normal for Student's t

Repeats = Annotated[int, between(2, LARGEST)]  # a standard error needs at least two


class Uncertain(NamedTuple):
    """A log-density with its two errors, each `(*batch)`.

    Attributes:
        value: Log-density in nats; the mean over independent estimates where it is estimated.
        standard_error: Of the noise in `value`, `s/√n` over n estimates; exactly 0 where log-determinants are exact.
        solver_error: Size of the error in `value` that solving the ODE makes, rounding included; 0 without a CNF.
    """

    value: Tensor
    standard_error: Tensor
    solver_error: Tensor


@torch.no_grad()
def log_prob_with_error(flow: nn.Module, x: Tensor, context: Tensor | None, probes: int, rows: int) -> Uncertain:
    """What `Flow.log_prob_with_error` gives.

    Args:
        flow: Gives a `Density`.
        x: `(*batch, *event)`.
        context: As the flow takes it.
        probes: Independent estimates.
        rows: In the batch.
    """
    exact = all(part.exact for part in flow.modules() if isinstance(part, Transform))
    repeats = 1 if exact else conform("probes", Repeats, probes)
    flow, repeated = continued(smoothed(without_costs(flow))), x.expand(repeats, *x.shape)
    try:
        with Recorded() as noise:
            first = flow(repeated, context).log_prob
        others = [flow(repeated, context).log_prob for _ in range(0 if exact else AVERAGED - 1)]
        solver_error = _solver_error(flow, repeated, context, noise.draws, first)
    except SampleError as error:
        raise error.renumbered([*range(rows)] * repeats) from error
    estimates = torch.stack([first, *others]).mean(0)
    value = estimates.mean(0)
    spread = ((estimates - value).square().sum(0) / max(repeats * (repeats - 1), 1)).sqrt()
    if not exact:  # few estimates may agree to the last digit
        spread = spread.clamp(min=torch.finfo(value.dtype).eps * value.abs())
    return Uncertain(value, spread, solver_error)


def _solver_error(
    flow: nn.Module, x: Tensor, context: Tensor | None, draws: Sequence[Tensor], coarse: Tensor
) -> Tensor:
    """The distance of the mean over the repetitions to that of a finer solve with the same noise."""
    if not cnfs_of(flow):
        return torch.zeros_like(coarse[0])
    fine = _again(refined(flow), x, context, draws)
    return (coarse.to(fine).mean(0) - fine.mean(0)).abs().to(coarse)


def _again(twin: nn.Module, x: Tensor, context: Tensor | None, draws: Sequence[Tensor]) -> Tensor:
    """The log-density with noise that was drawn before, in float64 if the field can, else in the dtype of x."""

    def log_prob(module: nn.Module, dtype: torch.dtype) -> Tensor:
        with Replayed(draws):
            value: Tensor = module(x.to(dtype), None if context is None else context.to(dtype)).log_prob
            return value

    try:
        return log_prob(twin, torch.float64)
    except SampleError:
        raise
    except RuntimeError:  # numbers of the field's own may be in another dtype; any other error comes again
        return log_prob(twin.to(x.dtype), x.dtype)
