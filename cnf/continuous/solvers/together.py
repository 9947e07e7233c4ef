"""Adaptive steps of all rows together: one time and one step for the whole batch, which its hardest row determines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from cnf.continuous.solvers.interface import RightHandSide, State, check_finite, gave_up

# From right-hand side, time, step, state and slope: the new state, the slope there, errors in units of the tolerance.
Attempt = Callable[[RightHandSide, float, float, State, State], tuple[State, State, Tensor]]


@dataclass
class SharedSolve:
    """A solve under way.

    Args:
        attempt: Tries one step of all rows.
        order: Of its method.
        start: Time to begin at.
        end: Time to go to.
        first: Length of the first step.
        smallest: Length of a step below which the solve gives up.
        max_steps: Steps after which the solve gives up.
        times: The start and the ends of accepted steps.
    """

    attempt: Attempt
    order: int
    start: float
    end: float
    first: float
    smallest: float
    max_steps: int
    times: list[float] = field(init=False)
    rejected: int = 0

    def __post_init__(self) -> None:
        self.times = [self.start]

    @property
    def accepted(self) -> int:
        return len(self.times) - 1

    def __call__(self, rhs: RightHandSide, state: State) -> State:
        """The state at the end.

        Raises:
            SolverError: The end cannot be reached.
        """
        t, h = self.start, self.first
        slope, refusal = rhs(t, state.x), None
        while t != self.end:
            h = _fit(h, self.end - t)
            proposal, last, errors = self.attempt(rhs, t, h, state, slope)
            share = abs(h / (self.end - self.start))
            ratio = errors.max().item() / share
            if _over_kink(h, ratio, refusal):
                ratio = errors.square().mean().sqrt().item()
            if ratio <= 1:
                t = self.end if h == self.end - t else t + h
                state, slope, refusal = proposal, last, None
                self.times.append(t)
            else:
                self.rejected, refusal = self.rejected + 1, refusal or (h, ratio)
                check_finite(slope, t)
                self._check_length(h, t, errors / share)
            h *= self._factor(ratio)
            self._check_number(t, errors / share)
        return state

    def _check_length(self, h: float, t: float, errors: Tensor) -> None:
        if abs(h) <= self.smallest:
            raise gave_up(f"the step size fell to {abs(h):.1e}", t, errors)

    def _check_number(self, t: float, errors: Tensor) -> None:
        if self.accepted + self.rejected >= self.max_steps and t != self.end:
            raise gave_up(f"no end after max_steps = {self.max_steps} steps", t, errors)

    def _factor(self, ratio: float) -> float:
        """How much longer the next step may be: `0.9 ratio^(−1/(order − 1))`, within [0.2, 5]."""
        if not math.isfinite(ratio):
            return 0.2
        return min(5.0, max(0.2, 0.9 * max(ratio, 1e-10) ** (-1 / (self.order - 1))))


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
