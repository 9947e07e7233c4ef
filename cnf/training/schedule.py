"""How far a run is: a function of its numbers and its settings alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnf.objectives.phases import Phase
from cnf.training.record import Progress
from cnf.training.settings import FitConfig

EARLY_CHECKS = (0.25, 0.5)  # in spaces between checks: on a small table a flow may be at its best that soon
LONGEST_WARMUP = 1 / 20  # of a phase: short budgets have no hundred steps to lose
RISE = 0.02  # nats above the best validation from which a run comes apart: more than averaged weights waver by
EXPLOSION = 2.0  # times the evaluations of a solve at the best weights
SETTLED = 0.1  # part of a phase after which it is judged so: the first steps may make things worse for a while
SLOWER = 0.5  # the learning rate and the tolerance after a step back, in parts of those before
SLOWEST = SLOWER**6  # from here on, going back would not help


@dataclass(frozen=True)
class Schedule:
    """How far a run is, and what is due there. It has no clock: `Progress` holds the seconds that have passed.

    Args:
        config: Has the budget.
        phases: The phases, which share the budget.
        per_epoch: Steps in an epoch.

    Example:
        >>> import cnf
        >>> from cnf.training.record import Progress
        >>> schedule = Schedule(cnf.FitConfig(steps=100, warmup=0), [cnf.Phase(learning_rate=0.1)], per_epoch=10)
        >>> [round(schedule.learning_rate(Progress(step=step)), 3) for step in (0, 50, 75)]
        [0.1, 0.05, 0.015]
        >>> schedule.is_over(Progress(step=100))
        True
    """

    config: FitConfig
    phases: Sequence[Phase]
    per_epoch: int

    def fraction(self, at: Progress) -> float:
        """The part of the budget that is used up."""
        spent = [
            (at.step, self.config.steps),
            (at.step / self.per_epoch, self.config.epochs),
            (at.seconds, self.config.seconds_allowed),
        ]
        return max(used / allowed for used, allowed in spent if allowed is not None)

    def is_over(self, at: Progress) -> bool:
        """Whether the budget is used up; a long start leaves one step nevertheless."""
        return at.step > 0 and self.fraction(at) >= 1

    def phase_is_over(self, at: Progress) -> bool:
        """Whether the validation has stopped improving, or the share of the phase is used up."""
        return at.step > 0 and (self.is_stale(at) or self.fraction(at) >= self.end_of_phase(at))

    def is_stale(self, at: Progress) -> bool:
        """Whether the validation has not improved for as long as patience lasts."""
        return self.config.patience is not None and at.stale >= self.config.patience

    def end_of_phase(self, at: Progress) -> float:
        """The part of the budget at which the phase ends at the latest."""
        shares = [phase.share for phase in self.phases]
        return sum(shares[: at.phase + 1]) / sum(shares)

    def goes_back(self, nll: float, evaluations: float, at: Progress) -> bool:
        """Whether to go back to the best weights: the run stands still, or comes apart; see `comes_apart`."""
        apart = self.is_settled(at) and comes_apart(nll, evaluations, at)
        return at.slowing > SLOWEST and (apart or self.is_stale(at))

    def is_settled(self, at: Progress) -> bool:
        """Whether the start of the phase is over."""
        return self.fraction(at) - at.phase_begun >= SETTLED * (self.end_of_phase(at) - at.phase_begun)

    def checks_due(self, at: Progress) -> int:
        """The number of checks due by now: equally spaced ones, and `EARLY_CHECKS` before the first of them."""
        spaces = self.fraction(at) * self.config.checks
        return math.floor(spaces) + sum(spaces >= early for early in EARLY_CHECKS)

    def learning_rate(self, at: Progress) -> float:
        """Linear warm-up, over before `LONGEST_WARMUP` of the phase, and a cosine to zero over all of it.

        Every step back to better weights makes it slower by `SLOWER`.
        """
        passed = (self.fraction(at) - at.phase_begun) / (self.end_of_phase(at) - at.phase_begun)
        rise = min(1.0, max((at.step - at.phase_step + 1) / max(self.config.warmup, 1), passed / LONGEST_WARMUP))
        peak = at.slowing * self.phases[at.phase].learning_rate
        return peak * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))


def comes_apart(nll: float, evaluations: float, at: Progress) -> bool:
    """Whether a validation is so much worse than the best, or the solves so much longer, that one should go back.

    Args:
        nll: The validation.
        evaluations: A solve of training takes, on average since the check before.
        at: Has those of the best weights.
    """
    exploded = at.best_evaluations > 0 and evaluations > EXPLOSION * at.best_evaluations
    return math.isfinite(at.best) and (not nll <= at.best + RISE or exploded)
