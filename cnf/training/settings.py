"""What a training run is asked for, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cnf.arguments import Count, NonNegative, Positive, Rule, Seed, Whole, advice, checked, one_of
from cnf.continuous.divergences import Divergence
from cnf.continuous.solvers import Solver
from cnf.flows import Flow

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
Precision = Annotated[str, one_of(PRECISIONS), advice("for float64 take flow.double()")]
Decay = Annotated[float, Rule("not below 0 and below 1", lambda value: 0 <= value < 1)]


@checked
@dataclass(frozen=True)
class FitConfig:
    """How long, how fast and where to train.

    The run ends with the first of `steps`, `epochs`, `seconds` that is used up; with none of them given, after 90
    seconds. A run bounded by seconds is not repeatable to the bit; one bounded by steps or epochs is, on a CPU.

    Learning rate, weight decay, clipping, solver and divergence of training belong to the phases of the flow's recipe,
    see `cnf.Phase`. Given here, they replace those of every phase; a warning says so where there are several.

    Args:
        steps: Budget in optimizer steps.
        epochs: Budget in passes over the data.
        seconds: Budget in seconds of training.
        batch_size: Rows a step, over all processes together.
        learning_rate: Peak of the learning rate of every phase, which rises linearly and falls to zero as a cosine;
            None for that of each phase.
        warmup: Steps of warm-up, which ends after a twentieth of the phase at the latest.
        weight_decay: Weight decay of the optimizers; None for that of the model's recipe.
        clip: Largest norm of the gradient, 0 for no clipping; None for that of each phase.
        ema: Decay of the running average of the weights. The averaged weights are judged and returned.
        checks: Validations, log rows and checkpoints over the whole budget; two more come early, one at the end of each
            phase. Of a budget in seconds they take a fifth at most: then there are fewer.
        patience: Checks without improvement after which the phase ends, and with the last phase the run; None for
            never. A phase of maximum likelihood instead goes back to the best weights then, at half the rate and half
            the tolerance of its solver (down to 0.01), up to six times; so it does where its validation NLL rises by
            more than 0.02 nats above the best, or its solves take twice the evaluations.
        seed: Random seed of the order of the data and of all noise.
        solver: Solver of training for every phase; None for that of each phase.
        divergence: Divergence of training for every phase; None for that of each phase.
        accelerator: "auto", "cpu", "cuda", …
        devices: Processes on this machine.
        num_nodes: Machines; start the script with `torchrun` on each.
        precision: Precision of matrix products in training, one of `PRECISIONS`. The state, the log-determinant and the
            weights keep the dtype of the flow. Mixed precision needs a training tolerance of 0.01 or more.
        workers: Processes that load data.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: A number out of range.

    Example:
        >>> FitConfig().seconds_allowed
        90.0
        >>> FitConfig(steps=1000, learning_rate=1e-3).seconds_allowed is None
        True
    """

    steps: Count | None = None
    epochs: Positive | None = None
    seconds: Positive | None = None
    batch_size: Count = 256
    learning_rate: Positive | None = None
    warmup: Whole = 100
    weight_decay: NonNegative | None = None
    clip: NonNegative | None = None
    ema: Decay = 0.99
    checks: Count = 20
    patience: Count | None = 5
    seed: Seed = 0
    solver: Solver | None = None
    divergence: Divergence | None = None
    accelerator: str = "auto"
    devices: Count = 1
    num_nodes: Count = 1
    precision: Precision = "32-true"
    workers: Whole = 0
    progress: bool = True

    @property
    def seconds_allowed(self) -> float | None:
        """The budget in seconds; 90 if no budget is given, None if it is one of steps or epochs."""
        return 90.0 if self.steps is self.epochs is self.seconds is None else self.seconds


ENDS = {
    "budget": "the budget is used up",
    "patience": "the validation stopped improving",
    "interrupted": "interrupted",
    "initialized": "the data-dependent start is all there is to do",
}


@dataclass(frozen=True, repr=False)
class FitResult:
    """What `cnf.fit` returns. Printed, it is three lines: likelihood with steps and seconds, the end, the checkpoint.

    Attributes:
        flow: The flow that was passed in, with its best weights.
        history: One mapping for each check: step, epoch, seconds, learning rate, means of loss and metrics since the
            check before, evaluations of a solve (with those of an adjoint's backward solve), validation NLL in nats,
            and `stepped_back`, which is 1 where the run then went back to its best weights.
        steps: Steps done.
        seconds: Seconds of training, by the clock of the run.
        best_validation: Lowest mean validation NLL in nats, with adaptive solves at a tolerance of 0.001; None without
            validation data.
        best_step: The step at which it was reached.
        stopped: "budget", "patience" or "interrupted"; for a flow without parameters "initialized", or "budget" where
            there was no time for all of its layers.
        checkpoint: The file to resume from, if a folder was given.
        signal: The number of the signal that interrupted the run.

    Example:
        >>> import cnf
        >>> FitResult(cnf.build("realnvp", 2), [], 1200, 8.25, 1.2345, 1100, "patience")
        validation NLL 1.2345 nats at step 1,100; 1,200 steps in 8.2 s
        ended: the validation stopped improving
        checkpoint: none; give fit a folder to keep one
    """

    flow: Flow
    history: list[dict[str, float]]
    steps: int
    seconds: float
    best_validation: float | None
    best_step: int
    stopped: str
    checkpoint: Path | None = None
    signal: int | None = None

    def __repr__(self) -> str:
        took = f"{self.steps:,} steps in {self.seconds:.1f} s"
        if self.best_validation is None:
            first = f"{took}, not judged by validation rows"
        else:
            first = f"validation NLL {self.best_validation:.4f} nats at step {self.best_step:,}; {took}"
        kept = "none; give fit a folder to keep one" if self.checkpoint is None else str(self.checkpoint)
        return f"{first}\nended: {ENDS.get(self.stopped, self.stopped)}\ncheckpoint: {kept}"
