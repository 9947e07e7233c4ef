"""One step of an explicit Runge-Kutta method, of one length for all rows or of a length for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnf.continuous.solvers.interface import RightHandSide, State
from cnf.continuous.solvers.tableaus import Tableau

Number = float | Tensor  # a tensor in compiled steps, where a float would be a constant; `(N,)` for one of each row


def plain_step(tableau: Tableau, rhs: RightHandSide, t: Number, h: Number, state: State, used: int) -> State:
    """The state after a step, from the first `used` stages."""
    return advance(state, h, tableau.b, stages(tableau, rhs, t, h, state.x, [rhs(t, state.x)], used))


def stages(
    tableau: Tableau, rhs: RightHandSide, t: Number, h: Number, x: Tensor, found: list[State], number: int
) -> list[State]:
    """The first `number` stages; the one that is known stands in `found`."""
    for row, c in zip(tableau.a[: number - 1], tableau.c[1:number], strict=True):
        found.append(rhs(t + c * h, combine(x, h, row, [stage.x for stage in found])))
    return found


def advance(state: State | None, h: Number, weights: Sequence[float], stages: Sequence[State]) -> State:
    """`state + h Σ w_i stage_i`, part by part; 0 in the place of the state if it is None, whose costs are left out."""

    def integrate(start: Sequence[Tensor] | None, parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        slopes = list(zip(*parts, strict=True))
        starts: Sequence[Tensor | None] = [None] * len(slopes) if start is None else start
        return tuple(combine(y, h, weights, k) for y, k in zip(starts, slopes, strict=True))

    return State(
        combine(None if state is None else state.x, h, weights, [stage.x for stage in stages]),
        integrate(None if state is None else state.integrals, [stage.integrals for stage in stages]),
        () if state is None else integrate(state.costs, [stage.costs for stage in stages]),
    )


def combine(y: Tensor | None, h: Number, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """`y + h Σ w_i k_i`; 0 in the place of y if it is None."""
    if isinstance(h, Tensor) and h.dim():
        return _combine_by_row(y, h, weights, slopes)
    total = y
    for weight, slope in zip(weights, slopes, strict=False):
        if not weight:
            continue
        if total is None:
            total = slope * (h * weight)
        elif isinstance(h, Tensor):
            total = total + slope * (h * weight)
        else:
            total = torch.add(total, slope, alpha=h * weight)
    assert total is not None
    return total


def _combine_by_row(y: Tensor | None, h: Tensor, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    (first, slope), *rest = [pair for pair in zip(weights, slopes, strict=False) if pair[0]]
    total = slope * first
    for weight, slope in rest:
        total = torch.add(total, slope, alpha=weight)
    h = h.reshape(-1, *[1] * (total.dim() - 1))
    return total * h if y is None else torch.addcmul(y, total, h)


def scaled_error(before: State, after: State, error: State, rtol: float, atol: float) -> Tensor:
    """Each row's largest scaled error over `x` (root mean square) and the integrals, `(N,)`."""

    def scaled(old: Tensor, new: Tensor, difference: Tensor) -> Tensor:
        return difference / torch.maximum(old.abs(), new.abs()).mul_(rtol).add_(atol)

    worst = scaled(before.x, after.x, error.x).flatten(1).square().mean(1).sqrt()
    for channel in zip(before.integrals, after.integrals, error.integrals, strict=True):
        worst = torch.maximum(worst, scaled(*channel).abs())
    return worst
