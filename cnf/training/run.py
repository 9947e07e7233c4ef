"""A run of training: steps and checks until the budget is used up, patience is lost, or somebody interrupts.

One step is: a batch, the objective, its gradient, clipped, the optimizer, and a running average of the weights. From
time to time the averaged weights are judged by the validation likelihood, and everything needed to go on is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cnf.continuous.solvers import count_evaluations
from cnf.data.batches import Batches
from cnf.data.rows import Batch, Rows
from cnf.errors import CheckpointError, SampleError, TrainingError
from cnf.flows import Flow
from cnf.objectives.interface import Loss, has_latents
from cnf.objectives.likelihood import MaximumLikelihood
from cnf.objectives.partial import AnyGiven
from cnf.objectives.phases import Phase
from cnf.training import record
from cnf.training.bar import Bar
from cnf.training.engine import Example, Minimand, mean_over_processes, seed_noise
from cnf.training.identity import identity
from cnf.training.interruption import Interruption
from cnf.training.judge import Judge, Weights, check_fit
from cnf.training.learner import Learner
from cnf.training.mishaps import bad_rows, rows_at_fault, training_error
from cnf.training.record import Progress
from cnf.training.schedule import SLOWER, Schedule
from cnf.training.settings import FitConfig, FitResult
from cnf.training.start import initialize

if TYPE_CHECKING:
    from lightning_fabric import Fabric

JUDGING = 0.2  # of a budget in seconds may go to checks


@dataclass(frozen=True)
class Task:
    """What a run is given.

    Attributes:
        flow: The flow to train.
        phases: Objectives, with their settings.
        rows: The data.
        validation: Validation rows, if any.
        weights: Weights of both.
        config: Budget and settings.
        path: The checkpoint, if one is kept.
        clock: Gives seconds, counted from any moment.
        started: Whether the flow takes a start from the data.
    """

    flow: Flow
    phases: Sequence[Phase]
    rows: Rows
    validation: Rows | None
    weights: Weights
    config: FitConfig
    path: Path | None
    clock: Callable[[], float]
    started: bool = True


class Run:
    """One run of training.

    Args:
        fabric: The engine.
        task: What the run is given.
        resume: Whether to go on from the checkpoint.

    Raises:
        CheckpointError: There is nothing to resume from, or it is of another run.
        ValueError: Rows that do not fit the flow.
    """

    def __init__(self, fabric: Fabric, task: Task, *, resume: bool) -> None:
        self.fabric, self.task, self.config, self.clock = fabric, task, task.config, task.clock
        rank, world = fabric.global_rank, fabric.world_size
        self.batches = Batches(len(task.rows), self.config.batch_size, seed=self.config.seed, rank=rank, world=world)
        self.schedule = Schedule(self.config, task.phases, self.batches.per_epoch)
        self.sums: dict[str, float] = {}
        self.judging = 0.0  # seconds
        self._check_rows()
        minimised = Minimand(task.flow, task.phases)
        self.identity = self._identity(minimised)
        self.at = Progress() if resume else self._started()
        self.learner = Learner(fabric, task.flow, minimised, task.phases, self.config)
        self.judge = self._judge()
        if resume:
            self._read()

    @property
    def shown(self) -> bool:
        """Whether this process shows what it does."""
        return self.config.progress and self.fabric.is_global_zero

    def _check_rows(self) -> None:
        self.task.flow.to(self.fabric.device)
        for name, part in (("data", self.task.rows), ("validation", self.task.validation)):
            if part is not None and not any(has_latents(phase.objective) for phase in self.task.phases):
                check_fit(self.task.flow, name, self.fabric.to_device(part.read([0])))

    def _identity(self, minimised: Minimand) -> dict[str, str]:
        """Objectives, settings and data as text, for the checkpoint."""
        task = self.task
        given = (task.weights.data, task.weights.validation)
        return {} if task.path is None else identity(task.phases, minimised, task.rows, task.validation, given)

    def _started(self) -> Progress:
        """Take the start from the data, whose seconds count."""
        begun, config = self.clock(), self.config
        seconds = config.seconds_allowed if self.fabric.world_size == 1 else None  # the same start for all processes
        rows = self.task.rows if self.task.started else None
        initialize(self.task.flow, rows, config.seed, trained=True, seconds=seconds, shown=self.shown, clock=self.clock)
        return Progress(seconds=self.clock() - begun)

    def _judge(self) -> Judge | None:
        task = self.task
        if task.validation is None:
            return None
        averaged, weights = self.learner.averaged, task.weights.validation
        return Judge(self.fabric, averaged, task.phases, task.validation, weights, self.config.seed)

    def go(self, interrupted: Interruption) -> FitResult:
        """Step until the budget is used up, patience is lost, or somebody interrupts."""
        try:
            stopped = self._steps(interrupted)
        finally:  # after errors of the disk, the data, or an objective too
            self.learner.keep_good()
        at, path = self.at, self.task.path
        best = at.best if self.judge is not None and at.history else None
        return FitResult(
            self.task.flow, at.history, at.step, at.seconds, best, at.best_step, stopped, path, interrupted.signal
        )

    def _steps(self, interrupted: Interruption) -> str:
        """What ends them: "budget", "patience" or "interrupted"."""
        at, halt = self.at, False
        begun = self.clock() - at.seconds
        batches = iter(self._loader())
        if not at.step:
            self._write()  # from here on there is something to resume from
        with Bar(self.config, self.batches.per_epoch, shown=self.shown) as bar:
            while not halt and not self.schedule.is_over(at):
                if self.schedule.phase_is_over(at):
                    if at.phase + 1 == len(self.task.phases):
                        return "patience"
                    self._next_phase()
                self._step(next(batches))
                at.step += 1
                at.seconds, halt = self._agree(self.clock() - begun, interrupted.seen)
                if self._check_is_due():
                    self._check()
                bar.show(at, self.sums)
        if halt:
            self._write()
        return "interrupted" if halt else "budget"

    def _next_phase(self) -> None:
        if self.sums:
            self._check()  # the last steps of a phase are judged before they are left
        at = self.at
        at.phase, at.phase_step, at.phase_begun, at.stale = at.phase + 1, at.step, self.schedule.fraction(at), 0
        at.slowing, at.best_evaluations = 1.0, 0.0
        self.learner.begin(at.phase)

    def _loader(self) -> DataLoader[Any]:
        self.batches.start = self.at.step
        return DataLoader(
            self.task.rows, batch_sampler=self.batches, collate_fn=_as_it_is, num_workers=self.config.workers,
            generator=torch.Generator(),  # without one, an iterator takes a number from the global random state
        )  # fmt: skip

    def _step(self, batch: Batch) -> None:
        x, context, rows = self.fabric.to_device(batch)
        noise = (self.config.seed * 1_000_003 + self.at.step) * self.batches.world + self.batches.rank
        seed_noise(noise, self.fabric.device)
        every = self.task.weights.data
        weights = None if every is None else every[rows.cpu()].to(x)
        with count_evaluations() as count:
            loss = self._differentiated(Example(x, context, weights), rows)
        try:
            self.learner.step(self.schedule.learning_rate(self.at))
        except FloatingPointError as error:
            raise self._failure(str(error), rows[:0]) from error
        self._tally(loss, count.evaluations / max(count.solves, 1))

    def _differentiated(self, example: Example, rows: Tensor) -> Loss:
        """The loss, after its backward pass."""
        try:
            loss = self.learner.loss(example, self.at.phase)
        except SampleError as error:
            raise self._failure(*rows_at_fault(error, rows)) from error
        if not loss.value.isfinite():
            raise self._failure(f"the loss is {loss.value.item()}", bad_rows(loss.rows, rows))
        try:
            self.fabric.backward(loss.value)
        except SampleError as error:
            reason, named, advice = rows_at_fault(error, rows)
            raise self._failure(f"the gradient's solve failed: {reason}", named, advice) from error
        except AssertionError as error:  # of an adjoint's backward solve
            raise self._failure(f"the gradient's solve failed: {error}", rows[:0]) from error
        return loss

    def _tally(self, loss: Loss, evaluations: float) -> None:
        values = {"loss": loss.value.item(), "evaluations": evaluations, "batches": 1.0}
        for name, value in {**{name: float(value) for name, value in loss.metrics.items()}, **values}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def _check_is_due(self) -> bool:
        """Where seconds are what there is to spend, checks wait while they took too large a share of them."""
        at, dear = self.at, self.config.seconds_allowed is not None and self.judging > JUDGING * self.at.seconds
        return self.schedule.checks_due(at) > at.checks and (not dear or self.schedule.is_over(at))

    def _check(self) -> None:
        """Judge the averaged weights, keep the best, write everything down."""
        at = self.at
        at.checks = self.schedule.checks_due(at)
        row = {"step": at.step, "epoch": at.step / self.batches.per_epoch, "seconds": at.seconds}
        row |= {"learning_rate": self.schedule.learning_rate(at), **self._means()}
        if self.judge is not None:
            begun = self.clock()
            row["validation_nll"] = nll = self.judge(at.phase)
            self.judging += mean_over_processes(self.fabric, torch.tensor(self.clock() - begun)).item()
            row["stepped_back"] = self._weigh(nll, row.get("evaluations", 0.0))
        at.history.append(row)
        self._write()

    def _weigh(self, nll: float, evaluations: float) -> float:
        """Keep the weights where they are the best; step back to them where it stands or comes apart, and say so."""
        at = self.at
        at.stale += 1
        if nll < at.best:
            at.best, at.best_step, at.stale, at.best_evaluations = nll, at.step, 0, evaluations
            self.learner.note_best()
        elif self._by_likelihood() and self.schedule.goes_back(nll, evaluations, at):
            at.slowing, at.stale = at.slowing * SLOWER, 0
            self.learner.step_back()
            self.learner.tighten(at.phase, at.slowing)
            return 1.0
        return 0.0

    def _by_likelihood(self) -> bool:
        """Other objectives may improve while the validation rises."""
        objective = self.task.phases[self.at.phase].objective
        return isinstance(objective.objective if isinstance(objective, AnyGiven) else objective, MaximumLikelihood)

    def _means(self) -> dict[str, float]:
        """Means over the steps since the last check, and over processes."""
        names, sums = list(self.sums), torch.tensor(list(self.sums.values()), dtype=torch.float64)
        totals = dict(zip(names, mean_over_processes(self.fabric, sums).tolist(), strict=True))
        batches = totals.pop("batches")
        self.sums = {}
        return {name: total / batches for name, total in totals.items()}

    def _agree(self, seconds: float, interrupted: bool) -> tuple[float, bool]:
        """The same clock and the same end for all processes."""
        seconds, interruptions = mean_over_processes(self.fabric, torch.tensor([seconds, interrupted])).tolist()
        return seconds, interruptions > 0

    def _failure(self, reason: str, rows: Tensor, advice: str = "") -> TrainingError:
        at, path = self.at, self.task.path
        if path is not None and not at.checks and self.fabric.is_global_zero:
            path.unlink(missing_ok=True)  # a start is nothing to go on from: the folder is free for another try
        phase, judged = self.task.phases[at.phase], bool(self.learner.best)
        return training_error(at.step, reason, rows, judged=judged, path=path, phase=phase, advice=advice)

    def _write(self) -> None:
        if self.task.path is not None and self.fabric.is_global_zero:
            record.write(self.task.path, self.learner.parts(), self.at, self.config, self.identity)

    def _read(self) -> None:
        """Go back to where the checkpoint was written."""
        path, phases = self.task.path, self.task.phases
        assert path is not None
        parts, self.at = record.read(path, self.config, self.identity)
        if self.at.phase >= len(phases):
            raise CheckpointError(f"{path} is damaged: phase must be below {len(phases)}, got {self.at.phase}")
        try:
            self.learner.take_up(parts, self.at.phase)
            self.learner.tighten(self.at.phase, self.at.slowing)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is of another flow: {error}") from error


def _as_it_is(batch: Any) -> Batch:
    return cast(Batch, batch)
