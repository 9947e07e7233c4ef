"""The solvers of torchdiffeq as a second backend: more methods, and the continuous adjoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnf.arguments import Count, Positive, Size, checked
from cnf.continuous.solvers.interface import (
    ADVICE,
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
from cnf.errors import SolverError
from cnf.tracing import FIXED, require_visible


@checked
@dataclass(frozen=True)
class Torchdiffeq(Solver):
    """The solvers of torchdiffeq, by its `odeint` or `odeint_adjoint`.

    The error norm is that of `RungeKutta(rows="together")`: the maximum over samples, without path costs.

    Args:
        method: Any method of torchdiffeq ("dopri8", "implicit_adams", …).
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        steps: Number of equal steps; required by fixed-grid methods, not allowed for adaptive ones.
        adjoint: Whether to compute gradients by the adjoint equation, solved backwards. Memory does not grow with the
            number of steps, but there are more evaluations, and the gradient has its own error. False differentiates
            through the solver.
        seminorm: Whether to exclude the gradient of the parameters from the error norm of the backward solve.
        options: Further options of the method, with the names of torchdiffeq.
        max_steps: Number of steps after which an adaptive solve fails; for "scipy_solver" the number of evaluations.

    Raises:
        ValueError: `method` is unknown, `steps` is missing or not allowed, a tolerance is not positive, or `seminorm`
            is set without `adjoint`.
        SolverError: In a solve, the end cannot be reached within the tolerance.

    References:
        Chen et al. 2018, arXiv 1806.07366; Kidger et al. 2021, seminorms, arXiv 2009.09457.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.CNF(cnf.MLPField(2, hidden=8), solver=Torchdiffeq(adjoint=True)), cnf.StandardNormal(2))
        >>> flow.log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    method: str = "dopri5"
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    steps: Size | None = None
    adjoint: bool = True
    seminorm: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    max_steps: Count = 10_000

    def __post_init__(self) -> None:
        methods = _methods()
        if self.method not in methods:
            raise ValueError(f"unknown method {self.method!r}: torchdiffeq has {', '.join(methods)}")
        if methods[self.method] != "adaptive" and self.method != "scipy_solver":
            if self.steps is None and "step_size" not in self.options and "grid_constructor" not in self.options:
                raise ValueError(f"{self.method} works on a fixed grid: give steps=n")
        elif self.steps is not None:
            raise ValueError(f"{self.method} chooses its own steps: leave steps out, or take a fixed-grid method")
        if self.seminorm and not self.adjoint:
            raise ValueError("the seminorm belongs to the adjoint: give adjoint=True with it")

    def __call__(
        self,
        rhs: RightHandSide,
        state: State,
        start: float,
        end: float,
        parameters: Sequence[Tensor] = (),
    ) -> Solution:
        if start == end or not len(state.x):
            return Solution(state, Statistics(0, 0, 0))
        solution, function = self._solved(rhs, state, start, end, parameters)
        return Solution(solution, function.statistics())

    def grid(self, rhs: RightHandSide, state: State, start: float, end: float) -> list[float]:
        return [*self._solved(rhs, state, start, end, ())[1].times, end]

    def tighter(self) -> Solver:
        if _methods()[self.method] == "other":
            return replace(self, rtol=0.01 * self.rtol, atol=0.01 * self.atol)
        return Refined(self, self if self.steps is None else replace(self, steps=1))

    def _solved(
        self, rhs: RightHandSide, state: State, start: float, end: float, parameters: Sequence[Tensor]
    ) -> tuple[State, _Function]:
        from torchdiffeq import odeint, odeint_adjoint  # it loads scipy

        require_visible(state.x, what="torchdiffeq", remedy=FIXED)
        layout = _Layout(len(state.integrals))
        function = _FUNCTIONS[_methods()[self.method]](rhs, layout, self.max_steps)
        times = torch.tensor([start, end], dtype=state.x.dtype, device=state.x.device)
        extra: dict[str, Any] = {}
        if self.adjoint:
            extra["adjoint_params"] = tuple(parameters)
            extra["adjoint_options"] = self._options(None, times if end > start else -times)
            if self.seminorm:
                extra["adjoint_options"]["norm"] = "seminorm"
        record(solves=1)
        try:
            parts = (odeint_adjoint if self.adjoint else odeint)(
                function, layout.flatten(state), times, rtol=self.rtol, atol=self.atol, method=self.method,
                options=self._options(layout, times), **extra,
            )  # fmt: skip
        except AssertionError as error:
            raise _diagnose(error, function) from error
        ends = tuple(part[-1] for part in parts)
        solution = layout.unflatten(_FirstDerivatives.apply(*ends) if self.adjoint else ends)
        check_finite(solution, end)
        return solution, function

    def _options(self, layout: _Layout | None, times: Tensor) -> dict[str, Any]:
        options = dict(self.options)
        kind = _methods()[self.method]
        if kind == "adaptive":
            options.setdefault("max_num_steps", self.max_steps)
            options.setdefault("step_t", times)  # else it steps past the end and interpolates, to a lower order
            if layout is not None:
                options.setdefault("norm", layout.norm)
        elif kind == "fixed" and self.steps is not None:
            options["grid_constructor"] = partial(_grid, self.steps)  # a step_size can round to one step more
        return options


def _grid(steps: int, function: object, y0: Tensor, t: Tensor) -> Tensor:
    return torch.linspace(t[0].item(), t[-1].item(), steps + 1, dtype=t.dtype, device=t.device)


def _methods() -> dict[str, str]:
    """Every method of torchdiffeq, with "adaptive", "fixed" or "other"."""
    from torchdiffeq._impl.odeint import SOLVERS
    from torchdiffeq._impl.solvers import AdaptiveStepsizeODESolver, FixedGridODESolver

    kinds = {AdaptiveStepsizeODESolver: "adaptive", FixedGridODESolver: "fixed"}
    return {
        name: next((kind for base, kind in kinds.items() if issubclass(solver, base)), "other")
        for name, solver in SOLVERS.items()
    }


class _FirstDerivatives(torch.autograd.Function):
    """The identity, with an error for second derivatives: gradients of the adjoint have no graph."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.view_as(part) for part in parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the adjoint equation gives first derivatives only, and a gradient with a graph is asked for "
                '(create_graph=True): take RungeKutta(gradient="checkpoint"), whose memory grows with the steps only, '
                "or Torchdiffeq(adjoint=False)"
            )
        return gradients


class _Layout:
    """The order of a state in torchdiffeq's tuple: x, the integrals, the costs."""

    def __init__(self, integrals: int) -> None:
        self.controlled = 1 + integrals
        self.worst = torch.zeros(0)  # each sample's largest error when the norm was last taken

    def flatten(self, state: State) -> tuple[Tensor, ...]:
        return (state.x, *state.integrals, *state.costs)

    def unflatten(self, parts: Sequence[Tensor]) -> State:
        return State(parts[0], tuple(parts[1 : self.controlled]), tuple(parts[self.controlled :]))

    def norm(self, parts: Sequence[Tensor]) -> Tensor:
        """The largest error over samples and controlled channels."""
        x, *integrals = parts[: self.controlled]
        worst = x.flatten(1).square().mean(1).sqrt()
        for integral in integrals:
            worst = torch.maximum(worst, integral.abs())
        self.worst = worst.detach()
        return worst.max()


class _Function(torch.nn.Module):
    """A right-hand side in the form of torchdiffeq, which counts evaluations and steps."""

    def __init__(self, rhs: RightHandSide, layout: _Layout, max_steps: int) -> None:
        super().__init__()
        self.rhs, self.layout, self.max_steps = rhs, layout, max_steps
        self.evaluations = self.accepted = self.rejected = 0
        self.times: list[float] = []  # at which accepted steps begin
        self.first: tuple[Tensor, State] | None = None  # time and derivative of the first evaluation
        self.time: Tensor | None = None  # of the latest one

    def forward(self, t: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.evaluations += 1
        record(evaluations=1, row_evaluations=len(parts[0]))
        derivative = self.layout.flatten(self.rhs(t, parts[0]))
        self.time = t.detach()
        if self.first is None:
            self.first = self.time, self.layout.unflatten([part.detach() for part in derivative])
        return derivative

    def statistics(self) -> Statistics:
        return Statistics(self.evaluations, self.accepted, self.rejected)


class _AdaptiveFunction(_Function):
    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.accepted += 1
        self.times.append(t0.item())
        record(accepted=1)

    def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.rejected += 1
        record(rejected=1)


class _FixedFunction(_Function):
    def callback_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.accepted += 1
        self.times.append(t0.item())
        record(accepted=1)


class _OtherFunction(_Function):
    """scipy reports no steps and has no limit of its own on them, so evaluations stand for steps."""

    def forward(self, t: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.evaluations >= self.max_steps:
            raise gave_up(f"no end after max_steps = {self.max_steps} evaluations", t.item(), self.layout.worst)
        return super().forward(t, parts)


_FUNCTIONS = {"adaptive": _AdaptiveFunction, "fixed": _FixedFunction, "other": _OtherFunction}


def _diagnose(error: AssertionError, function: _Function) -> SolverError:
    """An error with the time and the samples of a failed solve, for the bare assertion of torchdiffeq."""
    if function.first is None or function.time is None:
        return SolverError(f"torchdiffeq gave up ({error})", time=math.nan, samples=[], advice=ADVICE)
    start, slope = function.first
    check_finite(slope, start.item())
    return gave_up(f"torchdiffeq gave up ({error})", function.time.item(), function.layout.worst)
