"""Adaptive steps of every row for itself: its own time, step and status, and no neighbours.

All rows under way take a step at once, each of its own length. Rows at the end leave the batch. Where no gradient is
wanted, only some rows of a large batch are under way, so that the arrays of a step stay in the cache, and others take
the places of those that leave. Step lengths change by powers of `2^(1/8)`, so that the last digits of a field, which
may depend on the size of the batch, do not move the steps of a row.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from cnf.continuous.solvers.interface import ADVICE, NOT_FINITE, RightHandSide, Solution, Solver, State
from cnf.continuous.solvers.rows import chosen, finite, joined, of_rows, put, take
from cnf.continuous.solvers.tableaus import Tableau
from cnf.errors import SolverError

# From right-hand side, times, steps, states and slopes: new states, the slopes there, errors in units of the tolerance.
Attempt = Callable[[RightHandSide, Tensor, Tensor, State, State], tuple[State, State, Tensor]]
# From states and changes of states: each row's change in units of the tolerance.
Measure = Callable[[State, State], Tensor]

SHARE = 0.1  # of the tolerance that the error of one step may take: paths of flows have about ten steps
SAFETY, INTEGRAL, PROPORTIONAL = 0.85, 0.7, 0.4  # a PI controller, as in Hairer & Wanner 1996, IV.2
SMALL = math.log2(1e-4)  # of the latest error, in units of the tolerance; a smaller one says no more
SHRINK, GROW = 0.2, 2.5  # an estimate that is small by chance does not make the next step much longer
OCTAVE = 8  # step lengths from one to its double
LOWEST, HIGHEST = round(OCTAVE * math.log2(SHRINK)), round(OCTAVE * math.log2(GROW))
LEAST, MOST = -13 * OCTAVE, -2 * OCTAVE  # of the whole solve, for the first step
REFUSED = -2  # in these units; less would be undone where a step is stretched to spare another
FIRST = 0.1  # of the tolerance to the power of the order, for the first step; see `_first`
SOON = 0.01  # of the solve, the step in which the field shows how fast it changes
WINDOW = 1024  # rows under way a thread: fewer leave more time to Python, more leave the cache
REFILL = 1 / 4  # of the window is free before others begin, so that there are enough of them


class Taken(NamedTuple):
    """Accepted steps: the rows that took them, times and lengths."""

    rows: Tensor
    t: Tensor
    h: Tensor


class RowSolver(Solver):
    """A solver that can solve each row with steps of its own."""

    @property
    @abstractmethod
    def tableau(self) -> Tableau:
        """The coefficients of its method."""

    @abstractmethod
    def by_rows(self, rhs: RightHandSide, x: Tensor) -> bool:
        """Whether rows are to be solved apart."""

    @abstractmethod
    def solve_rows(
        self, rhs: RightHandSide, state: State, start: float, end: float, steps: list[Taken] | None = None
    ) -> Solution:
        """Solve each row with steps of its own, which are appended to `steps`."""


class _Active(NamedTuple):
    """Rows under way.

    Attributes:
        rows: Their numbers in the batch.
        t: Their times.
        h: Their next steps.
        before: Logarithms of the errors of their latest accepted steps, see `_size`.
        tried: Numbers of steps that they have tried.
        accepted: Numbers of steps that were accepted.
        state: Their states.
        slope: The derivatives there.
        rhs: The right-hand side of these rows.
    """

    rows: Tensor
    t: Tensor
    h: Tensor
    before: Tensor
    tried: Tensor
    accepted: Tensor
    state: State
    slope: State
    rhs: RightHandSide

    def of(self, some: Tensor) -> _Active:
        rows, t, h, before, tried, accepted = (part[some] for part in self[:6])
        state, slope, rhs = take(self.state, some), take(self.slope, some), of_rows(self.rhs, some)
        return _Active(rows, t, h, before, tried, accepted, state, slope, rhs)

    def with_more(self, more: _Active, whole: RightHandSide) -> _Active:
        """Both together; `whole` is the right-hand side of the whole batch."""
        rows, t, h, before, tried, accepted = map(torch.cat, zip(self[:6], more[:6], strict=True))
        state, slope = joined([self.state, more.state]), joined([self.slope, more.slope])
        return _Active(rows, t, h, before, tried, accepted, state, slope, of_rows(whole, rows))


@dataclass
class RowSolve:
    """A solve under way.

    Args:
        attempt: Tries one step of each row.
        measure: Measures changes of states.
        order: Of its error estimate.
        start: Time to begin at.
        end: Time to go to.
        smallest: Length of a step below which a row gives up.
        max_steps: Steps after which a row gives up.
        steps: Where accepted steps are noted, if anywhere.
    """

    attempt: Attempt
    measure: Measure
    order: int
    start: float
    end: float
    smallest: float
    max_steps: int
    steps: list[Taken] | None = None
    evaluated: int = 0  # rows of all attempts together
    slowest: tuple[int, int] = (0, 0)  # steps tried and accepted by the row that took most
    ended: list[tuple[Tensor, State]] = field(default_factory=list)
    failures: list[tuple[int, str, float]] = field(default_factory=list)

    def __call__(self, rhs: RightHandSide, state: State) -> State:
        """All rows at the end.

        Raises:
            SolverError: Some rows could not reach it; all of them, each with its reason and time.
        """
        rows, size = torch.arange(len(state.x), device=state.x.device), window(state.x)
        active, begun = self._begun(rows[:size], rhs, state), size
        while begun < len(rows) or len(active.rows):
            free = size - len(active.rows)
            if begun < len(rows) and free >= REFILL * size:
                active = active.with_more(self._begun(rows[begun : begun + free], rhs, state), rhs)
                begun += free
            else:
                active = self._advanced(active)
        return self._finished()

    def _begun(self, rows: Tensor, rhs: RightHandSide, state: State) -> _Active:
        """These rows of the batch at their start."""
        if len(rows) < len(state.x):
            rhs, state = of_rows(rhs, rows), take(state, rows)
        t = state.x.new_full((len(rows),), self.start)
        none, slope = torch.zeros_like(rows), rhs(t, state.x)
        h = self._first(rhs, t, state, slope)
        active = _Active(rows, t, h, torch.zeros_like(t), none, none, state, slope, rhs)
        return self._without(active, ~finite(slope), torch.full_like(t, math.nan))

    @torch.no_grad()
    def _first(self, rhs: RightHandSide, t: Tensor, state: State, slope: State) -> Tensor:
        """The first steps: h with `h^order = FIRST / max(|f|, |df/dt|)` in units of the tolerance.

        As in Hairer, Nørsett & Wanner 1993, II.4, with the derivative along the path by a short step of Euler's.
        """
        length = self.end - self.start
        later = rhs(t + SOON * length, torch.add(state.x, slope.x, alpha=SOON * length))
        fastest = torch.maximum(self.measure(state, slope), self.measure(state, _rate(slope, later, SOON * length)))
        size = _size(FIRST / fastest) / self.order - math.log2(abs(length))
        return length * _power((OCTAVE * size).floor().clamp(LEAST, MOST), LEAST, MOST)

    def _advanced(self, active: _Active) -> _Active:
        """After one attempt of each row, without those that have ended."""
        t, rest = active.t, self.end - active.t
        h = _fit(active.h, rest)
        state, slope, errors = self._attempted(active._replace(h=h))
        errors = errors / SHARE
        accepted, size = errors <= 1, _size(errors) / self.order
        if self.steps is not None:
            self.steps.append(Taken(active.rows[accepted], t[accepted], h[accepted]))
        self.evaluated += len(t)
        active = active._replace(
            t=torch.where(accepted, torch.where(h == rest, self.end, t + h), t),
            h=h * _factor(size, active.before, accepted),
            before=torch.where(accepted, size.clamp(min=SMALL / self.order), active.before),
            tried=active.tried + 1,
            accepted=active.accepted + accepted,
            state=chosen(accepted, state, active.state),
            slope=chosen(accepted, slope, active.slope),
        )
        return self._without(active, ~accepted & (h.abs() <= self.smallest), errors)

    def _attempted(self, active: _Active) -> tuple[State, State, Tensor]:
        state, slope, errors = self.attempt(active.rhs, active.t, active.h, active.state, active.slope)
        if not torch.is_grad_enabled() or errors.isfinite().all():
            return state, slope, errors
        kept = errors.isfinite().nonzero().flatten()  # again, for what is not finite may not get even a zero gradient
        if not len(kept):
            return active.state, active.slope, torch.full_like(errors, math.inf)
        part = active.of(kept)
        state, slope, some = self.attempt(part.rhs, part.t, part.h, part.state, part.slope)
        errors = torch.full_like(errors, math.inf).index_copy(0, kept, some)
        return put(active.state, kept, state), put(active.slope, kept, slope), errors

    def _without(self, active: _Active, failed: Tensor, errors: Tensor) -> _Active:
        """The rows that go on; the others are put away."""
        done = active.t == self.end
        late = ~done & ~failed & (active.tried >= self.max_steps)
        leaving = done | failed | late
        if not leaving.any():
            return active
        self._note(active, failed & ~errors.isfinite(), NOT_FINITE)
        self._note(active, failed & errors.isfinite(), f"the step size fell to {self.smallest:.1e}")
        self._note(active, late, f"no end after max_steps = {self.max_steps} steps")
        some = done.nonzero().flatten()
        self.ended.append((active.rows[some], take(active.state, some)))
        self._count(active.tried[leaving], active.accepted[leaving])
        return active.of((~leaving).nonzero().flatten())

    def _note(self, active: _Active, failed: Tensor, reason: str) -> None:
        rows, times = active.rows[failed].tolist(), active.t[failed].tolist()
        self.failures += [(row, reason, t) for row, t in zip(rows, times, strict=True)]

    def _count(self, tried: Tensor, accepted: Tensor) -> None:
        most = int(tried.max())
        self.slowest = max(self.slowest, (most, int(accepted[tried == most].max())))

    def _finished(self) -> State:
        """The states at the end, in the order of the batch."""
        if self.failures:
            rows, reasons, times = zip(*sorted(self.failures), strict=True)
            raise SolverError(reasons[0], rows, ADVICE, times[0], list(zip(reasons, times, strict=True)))
        return take(joined([state for _, state in self.ended]), torch.cat([rows for rows, _ in self.ended]).argsort())


def window(x: Tensor) -> int:
    """Rows under way at a time: all on a GPU, or where a gradient keeps every array anyway."""
    small = x.device.type == "cpu" and not torch.is_grad_enabled()
    return WINDOW * torch.get_num_threads() if small else max(len(x), 1)


def _rate(before: State, after: State, h: float) -> State:
    """The change of a slope in time, path costs left out."""
    parts = zip(before.integrals, after.integrals, strict=True)
    return State((after.x - before.x) / h, tuple((new - old) / h for old, new in parts))


def _size(errors: Tensor) -> Tensor:
    """The base-2 logarithm of errors, from 1e-10 to 1e10; 1e10 for NaN."""
    return errors.nan_to_num(1e10, 1e10).clamp(1e-10, 1e10).log2()


def _factor(size: Tensor, before: Tensor, accepted: Tensor) -> Tensor:
    """How much longer the next step is, a power of `2^(1/8)`; sizes of errors are divided by the order."""
    wanted = torch.where(accepted, PROPORTIONAL * before - INTEGRAL * size, -size)
    power = (OCTAVE * (wanted + math.log2(SAFETY))).round().clamp(LOWEST, HIGHEST)
    return _power(torch.where(accepted, power, power.clamp(max=REFUSED)), LOWEST, HIGHEST)


def _power(number: Tensor, lowest: int, highest: int) -> Tensor:
    """`2^(number/8)` for whole numbers in these bounds, from a table: `exp2` has other last digits in other batches."""
    table = number.new_tensor([2 ** (i / OCTAVE) for i in range(lowest, highest + 1)])
    return table[number.long() - lowest]


def _fit(h: Tensor, rest: Tensor) -> Tensor:
    """The steps to take with `rest` to go: never a tiny last one, up to a tenth longer where that spares a step."""
    reach, left = 1.1 * h.abs(), rest.abs()
    return torch.where(reach >= left, rest, torch.where(reach >= left / 2, rest / 2, h))
