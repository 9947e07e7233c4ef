"""The progress bar of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tqdm import tqdm

from cnf.training.record import Progress
from cnf.training.settings import FitConfig


class Bar:
    """A bar of steps, for a budget in steps or epochs, or of seconds, with the latest numbers.

    Args:
        config: Has the budget.
        per_epoch: Steps in an epoch.
        shown: Whether there is a bar at all.
    """

    def __init__(self, config: FitConfig, per_epoch: int, *, shown: bool) -> None:
        budgets = (config.steps, config.epochs and math.ceil(config.epochs * per_epoch))
        steps = min((number for number in budgets if number), default=None)
        self.in_steps = steps is not None
        self.total = steps or config.seconds_allowed or 0
        shape = "{l_bar}{bar}| {n:.0f}/{total:.0f}{unit} [{elapsed}<{remaining}{postfix}]"
        unit = " steps" if self.in_steps else " s"
        self.bar = tqdm(total=self.total, unit=unit, bar_format=shape, disable=not shown, desc="fit")

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def show(self, at: Progress, sums: Mapping[str, float]) -> None:
        """Move the bar; loss and evaluations are means since the last check, the validation NLL is that of the last."""
        if self.bar.disable:
            return
        self.bar.n = at.step if self.in_steps else min(at.seconds, self.total)
        last = at.history[-1] if at.history else {}
        means = {name: value / sums["batches"] for name, value in sums.items()} or last  # a check empties the sums
        if means:
            numbers = {"loss": means["loss"], "evaluations": means["evaluations"]}
            if "validation_nll" in last:
                numbers["validation"] = last["validation_nll"]
            self.bar.set_postfix({name: f"{value:.4g}" for name, value in numbers.items()}, refresh=False)
        self.bar.update(0)
