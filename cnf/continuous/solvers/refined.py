"""Solvers that divide every step of another solver, to estimate its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from cnf.arguments import checked
from cnf.continuous.solvers.interface import RightHandSide, Solution, Solver, State, Statistics, anew, record
from cnf.continuous.solvers.row_wise import RowSolver, Taken
from cnf.continuous.solvers.rows import of_rows, put, take
from cnf.continuous.solvers.steps import plain_step

PARTS = 4  # the error of a method of order p falls by 4^p: enough for Euler's, and not dear for any


@checked
@dataclass(frozen=True)
class Refined(Solver):
    """Divides each step of a solver into four.

    A smaller tolerance would not do: for a smooth field, steps have their maximal growth at any tolerance, and for a
    field with kinks a smaller tolerance is expensive.

    Args:
        solver: The solver whose steps are divided; it has a `grid`.
        part: The solver for a quarter of a step.
        redraw: Whether the solver draws new probes for every step.
    """

    solver: Solver
    part: Solver
    redraw: bool = False

    def tighter(self) -> Refined:
        return replace(self, part=self.part.tighter())

    def __call__(
        self,
        rhs: RightHandSide,
        state: State,
        start: float,
        end: float,
        parameters: Sequence[Tensor] = (),
    ) -> Solution:
        taken = [Statistics(0, 0, 0)]
        if start == end or not len(state.x):
            return Solution(state, taken[0])
        for t, after in pairwise(self.solver.grid(rhs, state, start, end)):
            inner = [t + (after - t) * i / PARTS for i in range(PARTS)]
            for a, b in pairwise([*inner, after]):
                state, statistics = self.part(rhs, state, a, b, parameters)
                taken.append(statistics)
            rhs = anew(rhs, state.x) if self.redraw and after != end else rhs  # as often as the solver does
        return Solution(state, Statistics(*map(sum, zip(*taken, strict=True))))


@dataclass(frozen=True)
class RefinedRows(Solver):
    """Divides each step of each row.

    Args:
        solver: The solver whose steps are divided.
        otherwise: Solves what has no steps of rows.
        parts: Number of parts of a step.
    """

    solver: RowSolver
    otherwise: Refined
    parts: int = PARTS

    def tighter(self) -> RefinedRows:
        return RefinedRows(self.solver, self.otherwise.tighter(), PARTS * self.parts)

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
        if not self.solver.by_rows(rhs, state.x):
            return self.otherwise(rhs, state, start, end, parameters)
        steps: list[Taken] = []
        self.solver.solve_rows(rhs, state, start, end, steps)
        tableau = self.solver.tableau
        for rows, t, h in steps:
            part, right = take(state, rows), of_rows(rhs, rows)
            for i in range(self.parts):
                part = plain_step(tableau, right, t + h * (i / self.parts), h / self.parts, part, tableau.used)
            state = put(state, rows, part)
        number, work = self.parts * len(steps), self.parts * tableau.used * sum(len(taken.rows) for taken in steps)
        record(evaluations=number * tableau.used, accepted=number, row_evaluations=work)
        return Solution(state, Statistics(number * tableau.used, number, 0))
