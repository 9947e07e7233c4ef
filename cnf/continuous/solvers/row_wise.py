"""Adaptive steps of every row for itself: its own time, step and status, and no neighbours.

All rows under way take a step at once, each of its own length, and rows at the end leave the batch. Step lengths change
by multiples of `2^(1/8)`, so that the last digits of a field, which may depend on the size of the batch, do not move
the steps of a row. Where no gradient is wanted, a large batch is solved in pieces whose arrays stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from cnf.continuous.solvers.interface import ADVICE, NOT_FINITE, RightHandSide, RowWise, State
from cnf.errors import SolverError

# From right-hand side, times, steps, states and slopes: new states, the slopes there, errors in units of the tolerance.
Attempt = Callable[[RightHandSide, Tensor, Tensor, State, State], tuple[State, State, Tensor]]

SHARE = 0.1  # of the tolerance that the error of one step may take: paths of flows have about ten steps
SAFETY, INTEGRAL, PROPORTIONAL = 0.85, 0.7, 0.4  # a PI controller, as in Hairer & Wanner 1996, IV.2
SHRINK, GROW = 0.2, 2.5  # an estimate that is small by chance does not make the next step much longer
OCTAVE = 8  # step lengths from one to its double
LOWEST, HIGHEST = round(OCTAVE * math.log2(SHRINK)), round(OCTAVE * math.log2(GROW))
PIECE = 512  # rows a thread, so that the arrays of a step stay near the caches; how much that gains varies
REFUSED = -2  # in these units; less would be undone where a step is stretched to spare another


class Taken(NamedTuple):
    """Accepted steps: the rows that took them, times and lengths."""

    rows: Tensor
    t: Tensor
    h: Tensor


class _Active(NamedTuple):
    """Rows under way: numbers, times, next steps, errors of the latest accepted ones, refused steps, states, slopes."""

    rows: Tensor
    t: Tensor
    h: Tensor
    before: Tensor
    refused: Tensor
    state: State
    slope: State
    rhs: RightHandSide

    def of(self, chosen: Tensor) -> _Active:
        rows, t, h, before, refused = (part[chosen] for part in self[:5])
        rhs = of_rows(self.rhs, chosen)
        return _Active(rows, t, h, before, refused, take(self.state, chosen), take(self.slope, chosen), rhs)


@dataclass
class RowSolve:
    """A solve under way.

    Args:
        attempt: Tries one step of each row.
        order: Of its error estimate.
        end: Time to go to.
        smallest: Length of a step below which a row gives up.
        max_steps: Steps after which a row gives up.
        steps: Where accepted steps are noted, if anywhere.
    """

    attempt: Attempt
    order: int
    end: float
    smallest: float
    max_steps: int
    steps: list[Taken] | None = None
    attempts: int = 0
    evaluated: int = 0
    refused: int = 0
    slowest: tuple[int, int] = (0, 0)  # attempts and refused steps of the row that took most
    ended: list[tuple[Tensor, State]] = field(default_factory=list)
    failures: list[tuple[int, str, float]] = field(default_factory=list)

    def __call__(self, rhs: RightHandSide, state: State, start: float, first: float) -> State:
        """All rows at the end.

        Raises:
            SolverError: Some rows could not reach it; all of them, each with its reason and time.
        """
        rows = torch.arange(len(state.x), device=state.x.device)
        pieces = rows.split(piece_size(state.x))
        for piece in pieces:
            part = (rhs, state) if len(pieces) == 1 else (of_rows(rhs, piece), take(state, piece))
            self._solve(piece, *part, start, first)
        return self._joined()

    def _solve(self, rows: Tensor, rhs: RightHandSide, state: State, start: float, first: float) -> None:
        """One piece of the batch."""
        self.attempts = self.refused = 0
        t = state.x.new_full((len(rows),), start)
        slope = rhs(t, state.x)
        none = torch.zeros_like(rows)
        active = _Active(rows, t, torch.full_like(t, first), torch.ones_like(t), none, state, slope, rhs)
        active = self._without(active, ~_finite(slope), torch.full_like(t, math.nan))
        while len(active.rows):
            active = self._advanced(active)
        self.slowest = max(self.slowest, (self.attempts, self.refused))

    def _advanced(self, active: _Active) -> _Active:
        """After one attempt of each row, without those that have ended."""
        t, rest = active.t, self.end - active.t
        h = _fit(active.h, rest)
        state, slope, errors = self._attempted(active._replace(h=h))
        errors = errors / SHARE
        accepted = errors <= 1
        if self.steps is not None:
            self.steps.append(Taken(active.rows[accepted], t[accepted], h[accepted]))
        self.attempts += 1
        self.evaluated += len(t)
        active = active._replace(
            t=torch.where(accepted, torch.where(h == rest, self.end, t + h), t),
            h=h * self._factor(errors, active.before, accepted),
            before=torch.where(accepted, errors.clamp(min=1e-4), active.before),
            refused=active.refused + ~accepted,
            state=_chosen(accepted, state, active.state),
            slope=_chosen(accepted, slope, active.slope),
        )
        return self._without(active, ~accepted & (h.abs() <= self.smallest), errors)

    def _attempted(self, active: _Active) -> tuple[State, State, Tensor]:
        state, slope, errors = self.attempt(active.rhs, active.t, active.h, active.state, active.slope)
        finite = errors.isfinite()
        if not torch.is_grad_enabled() or finite.all():
            return state, slope, errors
        kept = finite.nonzero().flatten()  # again, for not even a zero gradient may come from what is not finite
        part = active.of(kept)
        state, slope, some = self.attempt(part.rhs, part.t, part.h, part.state, part.slope)
        errors = torch.full_like(errors, math.inf).index_copy(0, kept, some)
        return put(active.state, kept, state), put(active.slope, kept, slope), errors

    def _factor(self, errors: Tensor, before: Tensor, accepted: Tensor) -> Tensor:
        """How much longer the next step is: a power of `2^(1/8)`."""
        size = errors.nan_to_num(1e10, 1e10).clamp(1e-10, 1e10).log2() / self.order
        wanted = torch.where(accepted, PROPORTIONAL / self.order * before.log2() - INTEGRAL * size, -size)
        power = (OCTAVE * (wanted + math.log2(SAFETY))).round().clamp(LOWEST, HIGHEST)
        power = torch.where(accepted, power, power.clamp(max=REFUSED)).long() - LOWEST
        return errors.new_tensor([2 ** (i / OCTAVE) for i in range(LOWEST, HIGHEST + 1)])[power]

    def _without(self, active: _Active, failed: Tensor, errors: Tensor) -> _Active:
        """The rows that go on; the others are put away."""
        done = active.t == self.end
        late = ~done & ~failed if self.attempts >= self.max_steps else torch.zeros_like(done)
        leaving = done | failed | late
        if not leaving.any():
            return active
        self.refused = int(active.refused[leaving].max())
        self._note(active, failed & ~errors.isfinite(), NOT_FINITE)
        self._note(active, failed & errors.isfinite(), f"the step size fell to {self.smallest:.1e}")
        self._note(active, late, f"no end after max_steps = {self.max_steps} steps")
        chosen = done.nonzero().flatten()
        self.ended.append((active.rows[chosen], take(active.state, chosen)))
        return active.of((~leaving).nonzero().flatten())

    def _note(self, active: _Active, failed: Tensor, reason: str) -> None:
        rows, times = active.rows[failed].tolist(), active.t[failed].tolist()
        self.failures += [(row, reason, t) for row, t in zip(rows, times, strict=True)]

    def _joined(self) -> State:
        if self.failures:
            rows, reasons, times = zip(*sorted(self.failures), strict=True)
            raise SolverError(reasons[0], rows, ADVICE, times[0], list(zip(reasons, times, strict=True)))
        order = torch.cat([rows for rows, _ in self.ended]).argsort()
        x, integrals, costs = zip(*(state for _, state in self.ended), strict=True)
        integrals, costs = (
            tuple(torch.cat(parts)[order] for parts in zip(*lists, strict=True)) for lists in (integrals, costs)
        )
        return State(torch.cat(x)[order], integrals, costs)


def piece_size(x: Tensor) -> int:
    """Rows to solve at a time: all on a GPU, or where a gradient keeps every array anyway."""
    small = x.device.type == "cpu" and not torch.is_grad_enabled()
    return PIECE * torch.get_num_threads() if small else max(len(x), 1)


def of_rows(rhs: RightHandSide, rows: Tensor) -> RightHandSide:
    """The right-hand side for some rows; a plain function has no data of its own for any."""
    return rhs.of(rows) if isinstance(rhs, RowWise) else rhs


def take(state: State, rows: Tensor) -> State:
    """The state of these rows."""
    return State(state.x[rows], *(tuple(part[rows] for part in parts) for parts in state[1:]))


def put(state: State, rows: Tensor, new: State) -> State:
    """The state with that of these rows replaced."""
    pairs = (zip(old, parts, strict=True) for old, parts in zip(state[1:], new[1:], strict=True))
    others = (tuple(a.index_copy(0, rows, b) for a, b in pair) for pair in pairs)
    return State(state.x.index_copy(0, rows, new.x), *others)


def _chosen(mask: Tensor, new: State, old: State) -> State:
    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (a.dim() - 1)), a, b)

    return State(pick(new.x, old.x), *(tuple(map(pick, *parts)) for parts in zip(new[1:], old[1:], strict=True)))


def _finite(state: State) -> Tensor:
    """Which rows are finite, path costs left out."""
    finite = state.x.flatten(1).isfinite().all(1)
    for part in state.integrals:
        finite = finite & part.isfinite()
    return finite


def _fit(h: Tensor, rest: Tensor) -> Tensor:
    """The steps to take with `rest` to go: never a tiny last one, up to a tenth longer where that spares a step."""
    reach, left = 1.1 * h.abs(), rest.abs()
    return torch.where(reach >= left, rest, torch.where(reach >= left / 2, rest / 2, h))
