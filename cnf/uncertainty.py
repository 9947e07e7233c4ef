"""How far a log-density can be trusted: the standard error of its estimate and the error of its solver.

The standard error is that of a mean of independent estimates. For Student's distribution to hold with few of them,
each estimate is itself the mean of 8 evaluations, and their noise has a density and light tails, which is not always
that of the flow:

- Probes of Hutchinson's estimate are uniform on the sphere. Rademacher probes take few values in few dimensions, which
  agree by chance.
- Hutch++ is replaced by Hutchinson's estimate. Its own error is far from normal if the Jacobian has nearly low rank.
- A series that is cut off, or ends at random, has ten terms or more and continues at random.

The expectation is log p in every case. With n probes a row takes `8 n` evaluations.

The error of the solver is the distance to a second solve with the same noise, in float64 and with every step taken in
four. It takes about five times as many evaluations as the first. If the field holds numbers of another dtype that
cannot be converted, the second solve is in the dtype of the data.

With an `Augment` in the flow, the value is the mean of the lower bound, not of log p. With an `EncoderDecoder`, the
error of its learned inverse is in neither number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from cnf.arguments import LARGEST, between, conform
from cnf.continuous.twins import cnfs_of, refined, smoothed, without_costs
from cnf.density import Uncertain
from cnf.discrete.residual import continued
from cnf.errors import SampleError
from cnf.noise import Recorded, Replayed
from cnf.transforms import Transform
from cnf.twin import parts_of

AVERAGED = 8  # evaluations in an estimate: with it, sums of few squares are near enough to normal for Student's t
Repeats = Annotated[int, between(2, LARGEST)]  # a standard error needs at least two


@torch.no_grad()
def log_prob_with_error(flow: nn.Module, x: Tensor, context: Tensor | None, probes: int, rows: int) -> Uncertain:
    """What `Flow.log_prob_with_error` returns.

    Args:
        flow: Returns a `Density`.
        x: `(*batch, *event)`.
        context: As the flow takes it.
        probes: Number of independent estimates.
        rows: Number of rows in the batch.
    """
    exact = all(part.exact for part in parts_of(flow, Transform))  # type: ignore[type-abstract]
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
