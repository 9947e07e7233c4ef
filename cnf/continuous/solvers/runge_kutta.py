"""Explicit Runge-Kutta methods whose steps hold every sample to the tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cnf.arguments import Count, Positive, Size, checked, one_of
from cnf.continuous.solvers.compiled import compiled
from cnf.continuous.solvers.interface import (
    RightHandSide,
    Solution,
    Solver,
    State,
    Statistics,
    check_finite,
    gave_up,
    record,
)
from cnf.continuous.solvers.refined import Refined
from cnf.continuous.solvers.tableaus import TABLEAUS, Tableau
from cnf.tracing import FIXED, require_visible

GRADIENTS = ("backprop", "checkpoint")
Number = float | Tensor  # a scalar tensor in compiled steps, where a float would be a constant of the graph


@checked
@dataclass(frozen=True)
class RungeKutta(Solver):
    """Explicit Runge-Kutta methods, adaptive or on a fixed grid, differentiated through their own steps.

    An adaptive step of length h is accepted when the error of *every* sample is within h/T of the tolerance, T the
    length of the solve, so that the errors of all steps together stay within it. A sample's error is the larger one of
    the root mean square of the scaled error of `x` and that of each integral. So a row's result does not depend on its
    neighbours beyond the tolerance. Where the trace jumps, at the kinks of a field of ReLUs, no step however short can
    keep its share; there, the root mean square of the batch's errors in a step is held to the whole tolerance, and
    the error of a row may be tens of times as large (`Flow.log_prob_with_error` measures it). Gradients flow through
    accepted steps only.

    Args:
        method: A name in `cnf.continuous.solvers.tableaus.TABLEAUS`; adaptive steps need one with an error estimate.
        rtol: Relative tolerance of the solve.
        atol: Absolute tolerance of the solve.
        steps: None for adaptive steps; a number for that many equal ones.
        gradient: "backprop" keeps all stages; "checkpoint" keeps the state at each step and recomputes its inside, for
            memory that grows with steps only.
        max_steps: Accepted and rejected steps after which an adaptive solve gives up.
        redraw: Whether a divergence draws its noise anew for every step of a fixed grid: still unbiased, since x does
            not depend on it, and with less variance the longer the path.
        compile: Whether to run each step through `torch.compile`. The first solve with gradients takes about half a
            minute longer, and so do the first without and the first of another batch size; all later ones are faster.
            Samples without gradients or log-densities are not compiled.

    Raises:
        ValueError: An unknown method or gradient, tolerances or steps that are not positive, `redraw` without `steps`.
    """

    method: Annotated[str, one_of(TABLEAUS)] = "dopri5"
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    steps: Size | None = None
    gradient: Annotated[str, one_of(GRADIENTS)] = "backprop"
    max_steps: Count = 10_000
    redraw: bool = field(default=False, kw_only=True)
    compile: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.steps is None and self.tableau.error is None:
            adaptive = [name for name, tableau in TABLEAUS.items() if tableau.error]
            raise ValueError(
                f"{self.method} has no error estimate: give steps=n for a fixed grid, "
                f"or take an adaptive method ({', '.join(adaptive)})"
            )
        if self.redraw and self.steps is None:
            raise ValueError(
                "redraw=True needs a fixed grid, steps=n: an adaptive solver would judge each step by its noise and "
                "draw again where it rejects, so that the noise it accepts is no longer fair"
            )

    @property
    def tableau(self) -> Tableau:
        """The coefficients of the method."""
        return TABLEAUS[self.method]

    def __call__(
        self,
        rhs: RightHandSide,
        state: State,
        start: float,
        end: float,
        parameters: Sequence[Tensor] = (),
    ) -> Solution:
        if self.steps is not None:
            return self.stepwise(lambda: rhs, state, start, end, parameters)
        if start == end or not len(state.x):
            return Solution(state, Statistics(0, 0, 0))
        return _recorded(self._adaptive(rhs, self._traced(state, parameters), start, end, []))

    def stepwise(
        self,
        new_rhs: Callable[[], RightHandSide],
        state: State,
        start: float,
        end: float,
        parameters: Sequence[Tensor] = (),
    ) -> Solution:
        if self.steps is None:
            return super().stepwise(new_rhs, state, start, end)
        if start == end or not len(state.x):
            return Solution(state, Statistics(0, 0, 0))
        state = self._traced(state, parameters)
        used = max(i for i, weight in enumerate(self.tableau.b) if weight) + 1
        for t, after in pairwise(self.grid(new_rhs, state, start, end)):
            state = self._run(self._plain_step, new_rhs(), t, after - t, state, used)
        check_finite(state, end)
        return _recorded(Solution(state, Statistics(self.steps * used, self.steps, 0)))

    def grid(self, new_rhs: Callable[[], RightHandSide], state: State, start: float, end: float) -> list[float]:
        if self.steps is not None:
            return [start + (end - start) * i / self.steps for i in range(self.steps + 1)]
        times = [start]
        _recorded(self._adaptive(new_rhs(), state, start, end, times))
        return times

    def tighter(self) -> Refined:
        plain = replace(self, compile=False)  # one call is not worth compiling for
        return Refined(plain, replace(plain, steps=1, redraw=False))

    def _adaptive(self, rhs: RightHandSide, state: State, start: float, end: float, times: list[float]) -> Solution:
        """Appends the end of each accepted step to `times`."""
        require_visible(state.x, what="a solver that chooses its steps", remedy=FIXED)
        stages = len(self.tableau.b) - 1
        smallest = 16 * torch.finfo(state.x.dtype).eps * max(abs(start), abs(end))
        t, h = start, self._first_step(end - start)
        slope = rhs(t, state.x)
        accepted = rejected = 0
        refusal = None
        while t != end:
            h = _fit(h, end - t)
            proposal, last, errors = self._run(self._embedded_step, rhs, t, h, state, slope)
            share = abs(h / (end - start))
            ratio = errors.max().item() / share
            if _over_kink(h, ratio, refusal):
                ratio = errors.square().mean().sqrt().item()
            if ratio <= 1:
                t = end if h == end - t else t + h
                state, slope, accepted, refusal = proposal, last, accepted + 1, None
                times.append(t)
            else:
                rejected, refusal = rejected + 1, refusal or (h, ratio)
                check_finite(slope, t)
                if abs(h) <= smallest:
                    raise gave_up(f"the step size fell to {abs(h):.1e}", t, errors / share)
            h *= self._factor(ratio)
            if accepted + rejected >= self.max_steps and t != end:
                raise gave_up(f"no end after max_steps = {self.max_steps} steps", t, errors / share)
        return Solution(state, Statistics(1 + stages * (accepted + rejected), accepted, rejected))

    def _run(self, step: Callable[..., Any], rhs: RightHandSide, t: float, h: float, state: State, *rest: Any) -> Any:
        arguments: tuple[Any, ...] = (rhs, t, h, state, *rest)
        if self.compile and _worth_compiling(state):
            step = compiled(step)
            arguments = (rhs, state.x.new_full((), t), state.x.new_full((), h), state, *rest)
        if self.gradient == "checkpoint" and torch.is_grad_enabled():
            return checkpoint(step, *arguments, use_reentrant=False, preserve_rng_state=False)
        return step(*arguments)

    def _traced(self, state: State, parameters: Sequence[Tensor]) -> State:
        """For compiled steps, the start as later states are, no view and with a gradient: one graph for all steps."""
        if not self.compile:
            return state
        wanted = torch.is_grad_enabled() and (state.x.requires_grad or len(parameters) > 0)

        def traced(part: Tensor) -> Tensor:
            part = part.clone()
            return part.requires_grad_() if wanted and not part.requires_grad else part

        return State(traced(state.x), tuple(map(traced, state.integrals)), tuple(map(traced, state.costs)))

    def _first_step(self, length: float) -> float:
        """A quarter of the interval at the default tolerance: fields of flows are smooth on [0, 1], and a first step
        that is refused costs about what a starting heuristic does."""
        scale = (max(self.rtol, self.atol) / 1e-5) ** (1 / (self.tableau.order - 1))
        return length * min(1.0, 0.25 * scale)

    def _factor(self, ratio: float) -> float:
        """How much longer the next step may be: `0.9 ratio^(−1/(order − 1))`, within [0.2, 5]."""
        if not math.isfinite(ratio):
            return 0.2
        return min(5.0, max(0.2, 0.9 * max(ratio, 1e-10) ** (-1 / (self.tableau.order - 1))))

    def _plain_step(self, rhs: RightHandSide, t: Number, h: Number, state: State, used: int) -> State:
        return _advance(state, h, self.tableau.b, self._stages(rhs, t, h, state.x, [rhs(t, state.x)], used))

    def _embedded_step(
        self, rhs: RightHandSide, t: Number, h: Number, state: State, slope: State
    ) -> tuple[State, State, Tensor]:
        """The state after a step, the slope there, and each sample's error in units of the tolerance, `(N,)`."""
        assert self.tableau.error is not None
        stages = self._stages(rhs, t, h, state.x, [slope], len(self.tableau.b))
        proposal = _advance(state, h, self.tableau.b, stages)
        with torch.no_grad():
            error = _advance(None, h, self.tableau.error, stages)
            return proposal, stages[-1], self._error_norm(state, proposal, error)

    def _stages(
        self, rhs: RightHandSide, t: Number, h: Number, x: Tensor, stages: list[State], number: int
    ) -> list[State]:
        for row, c in zip(self.tableau.a[: number - 1], self.tableau.c[1:number], strict=True):
            stages.append(rhs(t + c * h, _combine(x, h, row, [stage.x for stage in stages])))
        return stages

    def _error_norm(self, before: State, after: State, error: State) -> Tensor:
        """Each sample's largest scaled error over `x` (root mean square) and the integrals, `(N,)`."""

        def scaled(old: Tensor, new: Tensor, difference: Tensor) -> Tensor:
            return difference / torch.maximum(old.abs(), new.abs()).mul_(self.rtol).add_(self.atol)

        worst = scaled(before.x, after.x, error.x).flatten(1).square().mean(1).sqrt()
        for channel in zip(before.integrals, after.integrals, error.integrals, strict=True):
            worst = torch.maximum(worst, scaled(*channel).abs())
        return worst


def _worth_compiling(state: State) -> bool:
    """A batch of one would be compiled for itself; x alone, without gradient, has too few operations to gain."""
    return len(state.x) > 1 and (len(state.integrals) > 0 or torch.is_grad_enabled())


def _recorded(solution: Solution) -> Solution:
    record(solves=1, **solution.statistics._asdict())
    return solution


def _over_kink(h: float, ratio: float, refusal: tuple[float, float] | None) -> bool:
    """Whether the error per unit of time fell less than the step since its first refusal, a step and a ratio.

    In a smooth field it falls with a high power of the step. Over a kink (of ReLU, SELU, …) the trace jumps, and it
    does not fall at all.
    """
    return refusal is not None and ratio > refusal[1] * h / refusal[0]


def _fit(h: float, rest: float) -> float:
    """The step to take with `rest` to go: never a tiny last one, and up to a tenth longer where that spares a step."""
    reach = 1.1 * abs(h)  # still within the safety factor of `_factor`
    if reach >= abs(rest):
        return rest
    return rest / 2 if reach >= abs(rest) / 2 else h


def _combine(y: Tensor | None, h: Number, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """`y + h Σ w_i k_i`; 0 in the place of y if it is None."""
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


def _advance(state: State | None, h: Number, weights: Sequence[float], stages: Sequence[State]) -> State:
    """`state + h Σ w_i stage_i`, part by part; 0 in the place of the state if it is None."""

    def integrate(start: Sequence[Tensor] | None, parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        slopes = list(zip(*parts, strict=True))
        starts: Sequence[Tensor | None] = [None] * len(slopes) if start is None else start
        return tuple(_combine(y, h, weights, k) for y, k in zip(starts, slopes, strict=True))

    return State(
        _combine(None if state is None else state.x, h, weights, [stage.x for stage in stages]),
        integrate(None if state is None else state.integrals, [stage.integrals for stage in stages]),
        () if state is None else integrate(state.costs, [stage.costs for stage in stages]),
    )
