"""Explicit Runge-Kutta methods with error control for every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cnf.arguments import Count, Positive, Size, checked, one_of
from cnf.continuous.solvers.compiled import compiled
from cnf.continuous.solvers.interface import (
    RightHandSide,
    RowWise,
    Solution,
    State,
    Statistics,
    anew,
    check_finite,
    record,
)
from cnf.continuous.solvers.refined import Refined, RefinedRows
from cnf.continuous.solvers.row_wise import RowSolve, RowSolver, Taken
from cnf.continuous.solvers.steps import Number, advance, plain_step, scaled_error, stages
from cnf.continuous.solvers.tableaus import TABLEAUS, Tableau
from cnf.continuous.solvers.together import SharedSolve
from cnf.tracing import FIXED, require_visible

GRADIENTS = ("backprop", "checkpoint")
ROWS = ("each", "together")


@checked
@dataclass(frozen=True)
class RungeKutta(RowSolver):
    """Explicit Runge-Kutta methods, adaptive or on a fixed grid, differentiated through their own steps.

    The error of a row is the largest of the root mean square of the scaled errors of `x` and the scaled error of each
    integral. Gradients flow through accepted steps only.

    With `rows="each"` every row has its own time and steps. A step is accepted if its estimated error is at most a
    tenth of the tolerance, so the estimated errors of n steps sum to at most n/10 tolerances. The result of a row does
    not depend on other rows, and a row that fails does not stop the others. At a kink of the field (ReLU, SELU, …) the
    trace jumps, and the estimate may be hundreds of times too small; `Flow.log_prob_with_error` estimates the error.

    With `rows="together"` all rows take the same steps. A step of length h is accepted if the error of *every* row is
    at most h/T of the tolerance, T the length of the solve, so the errors of all steps sum to at most the tolerance.
    The hardest row determines the cost. At a kink no step is short enough for this; there, the root mean square of the
    errors of the batch in a step must be within the tolerance.

    Args:
        method: "bosh3", "dopri5" or "tsit5"; on a fixed grid also "euler", "midpoint", "heun" or "rk4".
        rtol: Relative tolerance of the solve.
        atol: Absolute tolerance of the solve.
        steps: Number of equal steps; None for adaptive steps.
        gradient: "backprop" stores all stages; "checkpoint" stores the steps and recomputes the stages, to save memory.
        max_steps: Accepted and rejected steps after which an adaptive solve fails.
        redraw: Whether the divergence draws new probes for every step of a fixed grid. The estimate stays unbiased,
            because x does not depend on the probes, and its variance is lower.
        rows: "each" or "together". None means "each" if the field accepts a time for each row at no extra cost
            (`VectorField.takes_times`), else "together". At equal largest error "each" takes 0.5 to 1 of the
            evaluations and of the seconds on a CPU. "together" may be faster at a tolerance of 0.01 or on a GPU, where
            a step of few rows costs as much as one of many.
        compile: Whether to compile each step with `torch.compile`. The first solves with gradients, without them and
            with another batch size take half a minute longer; later ones are faster. Plain sampling is not compiled.

    Raises:
        ValueError: `method`, `gradient` or `rows` is unknown, a number is not positive, `method` has no error estimate
            and `steps` is None, or `redraw` is set without `steps`.
        SolverError: In a solve, the end cannot be reached within the tolerance.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2, solver=RungeKutta("rk4", steps=4))  # or rtol=1e-3, atol=1e-3
        >>> with torch.no_grad(), cnf.count_evaluations() as count:
        ...     _ = flow.log_prob(torch.zeros(3, 2))
        >>> count.evaluations
        16
    """

    method: Annotated[str, one_of(TABLEAUS)] = "dopri5"
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    steps: Size | None = None
    gradient: Annotated[str, one_of(GRADIENTS)] = "backprop"
    max_steps: Count = 10_000
    rows: Annotated[str, one_of(ROWS)] | None = field(default=None, kw_only=True)
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
            return self._on_grid(rhs, state, start, end, parameters)
        if start == end or not len(state.x):
            return Solution(state, Statistics(0, 0, 0))
        if self.by_rows(rhs, state.x):
            return self.solve_rows(rhs, self._traced(state, parameters), start, end)
        return self._solve_together(rhs, self._traced(state, parameters), start, end)[0]

    def by_rows(self, rhs: RightHandSide, x: Tensor) -> bool:
        """Whether rows are to be solved apart."""
        if self.rows is None and self.steps is None:
            return isinstance(rhs, RowWise) and rhs.takes_times(x)
        return self.rows == "each" and self.steps is None

    def solve_rows(
        self, rhs: RightHandSide, state: State, start: float, end: float, steps: list[Taken] | None = None
    ) -> Solution:
        """Solve each row with steps of its own, which are appended to `steps`."""
        solve = RowSolve(
            partial(self._run, self._embedded_step), self._measured, self.tableau.order, start, end,
            self._smallest(state, start, end), self.max_steps, steps,
        )  # fmt: skip
        inner = len(self.tableau.b) - 1
        try:
            ended = solve(rhs, state)
        finally:
            tried, accepted = solve.slowest
            statistics = Statistics(2 + inner * tried, accepted, tried - accepted)
            record(solves=1, row_evaluations=2 * len(state.x) + inner * solve.evaluated, **statistics._asdict())
        return Solution(ended, statistics)

    def _solve_together(
        self, rhs: RightHandSide, state: State, start: float, end: float
    ) -> tuple[Solution, list[float]]:
        """The solution with the same steps for all rows, and the times of the steps."""
        solve = SharedSolve(
            partial(self._run, self._embedded_step), self.tableau.order, start, end,
            self._first_step(end - start), self._smallest(state, start, end), self.max_steps,
        )  # fmt: skip
        ended = solve(rhs, state)
        evaluations = 1 + (len(self.tableau.b) - 1) * (solve.accepted + solve.rejected)
        solution = Solution(ended, Statistics(evaluations, solve.accepted, solve.rejected))
        return _recorded(solution, len(state.x)), solve.times

    def _smallest(self, state: State, start: float, end: float) -> float:
        """The length of a step below which a solve gives up."""
        require_visible(state.x, what="a solver that chooses its steps", remedy=FIXED)
        return 16 * torch.finfo(state.x.dtype).eps * max(abs(start), abs(end))

    def _on_grid(
        self, rhs: RightHandSide, state: State, start: float, end: float, parameters: Sequence[Tensor]
    ) -> Solution:
        if start == end or not len(state.x):
            return Solution(state, Statistics(0, 0, 0))
        state = self._traced(state, parameters)
        used, times = self.tableau.used, self.grid(rhs, state, start, end)
        for t, after in pairwise(times):
            state = self._run(self._plain_step, rhs, t, after - t, state, used)
            rhs = anew(rhs, state.x) if self.redraw and after != end else rhs
        check_finite(state, end)
        steps = len(times) - 1
        return _recorded(Solution(state, Statistics(steps * used, steps, 0)), len(state.x))

    def grid(self, rhs: RightHandSide, state: State, start: float, end: float) -> list[float]:
        if self.steps is not None:
            return [start + (end - start) * i / self.steps for i in range(self.steps + 1)]
        if self.rows == "each":
            raise TypeError('rows that are solved apart have no grid in common: take rows="together"')
        return self._solve_together(rhs, state, start, end)[1]

    def tighter(self) -> Refined | RefinedRows:
        plain = replace(self, compile=False)  # one call is not worth compiling for
        if self.steps is None and self.rows != "together":
            together = replace(plain, rows="together")
            return RefinedRows(plain, together._refined())
        return plain._refined()

    def _refined(self) -> Refined:
        """The solver that divides each of its steps, all rows together."""
        return Refined(self, replace(self, steps=1, redraw=False), self.redraw)

    def _run(self, step: Callable[..., Any], rhs: RightHandSide, t: Number, h: Number, state: State, *rest: Any) -> Any:
        arguments: tuple[Any, ...] = (rhs, t, h, state, *rest)
        if self.compile and _worth_compiling(state):
            step = compiled(step)
            arguments = (rhs, _as_tensor(t, state.x), _as_tensor(h, state.x), state, *rest)
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
        """A quarter of the interval at the default tolerance.

        Fields of flows are smooth on [0, 1], and a first step that is refused costs about as much as a heuristic.
        """
        scale = (max(self.rtol, self.atol) / 1e-5) ** (1 / (self.tableau.order - 1))
        return length * min(1.0, 0.25 * scale)

    def _plain_step(self, rhs: RightHandSide, t: Number, h: Number, state: State, used: int) -> State:
        return plain_step(self.tableau, rhs, t, h, state, used)

    def _embedded_step(
        self, rhs: RightHandSide, t: Number, h: Number, state: State, slope: State
    ) -> tuple[State, State, Tensor]:
        """The state after a step, the slope there, and each sample's error in units of the tolerance, `(N,)`."""
        assert self.tableau.error is not None
        found = stages(self.tableau, rhs, t, h, state.x, [slope], len(self.tableau.b))
        proposal = advance(state, h, self.tableau.b, found)
        with torch.no_grad():
            error = advance(None, h, self.tableau.error, found)
            return proposal, found[-1], scaled_error(state, proposal, error, self.rtol, self.atol)

    def _measured(self, state: State, change: State) -> Tensor:
        """Each sample's change in units of the tolerance, `(N,)`."""
        return scaled_error(state, state, change, self.rtol, self.atol)


def _worth_compiling(state: State) -> bool:
    """A batch of one would be compiled for itself; x alone, without gradient, has too few operations to gain."""
    return len(state.x) > 1 and (len(state.integrals) > 0 or torch.is_grad_enabled())


def _as_tensor(number: Number, like: Tensor) -> Tensor:
    return number if isinstance(number, Tensor) else like.new_full((), number)


def _recorded(solution: Solution, rows: int) -> Solution:
    statistics = solution.statistics
    record(solves=1, row_evaluations=rows * statistics.evaluations, **statistics._asdict())
    return solution
