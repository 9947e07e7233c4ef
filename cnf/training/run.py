"""Training a flow, on one processor or many.

One step is: a batch, the objective, its gradient, clipped, the optimizer, and a running average of the weights. From
time to time the averaged weights are judged by the validation likelihood, and everything needed to go on is written.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from cnf.checkpoints import check_state
from cnf.continuous.solvers import count_evaluations
from cnf.data.columns import check_rows
from cnf.data.rows import Batch, Batches, Rows, as_rows
from cnf.errors import CheckpointError, SampleError, TrainingError
from cnf.files import remove_leftovers
from cnf.flows import Flow
from cnf.inputs import require_precision
from cnf.objectives.likelihood import Loss, Objective
from cnf.objectives.phases import Phase
from cnf.training import record
from cnf.training.bar import Bar
from cnf.training.engine import Example, Minimand, engine, mean_over_processes
from cnf.training.identity import identity
from cnf.training.interruption import Interruption, interruption_noted
from cnf.training.judge import Judge, Weights, check_fit
from cnf.training.optimizers import Optimizers
from cnf.training.record import Parts, Progress
from cnf.training.schedule import Schedule, phases_of
from cnf.training.settings import FitConfig, FitResult
from cnf.training.start import initialize

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fit(
    flow: Flow,
    data: Any,
    objective: Objective | Sequence[Phase] | None = None,
    validation: Any = None,
    config: FitConfig = FitConfig(),
    *,
    weights: Any = None,
    validation_weights: Any = None,
    folder: str | Path | None = None,
    resume: bool = False,
    fabric: Fabric | None = None,
) -> FitResult:
    """Train a flow in place.

    The data-dependent start (standardisation and the like) is taken first, unless the run is resumed or the flow was
    initialised before. Its seconds are part of the budget in seconds, of which it takes half at most: layers that are
    left then start without the data, and a warning says so. A start of more than a second is shown. The global random
    state is left as it was. Ctrl-C or SIGTERM ends the run after the current step, with everything saved; a second one
    ends it at once, and so does one during the data-dependent start. A flow without parameters (`rbig`) is initialized,
    no more: the whole budget in seconds is its start's, and it has the layers that there was time for.

    Args:
        flow: What to train.
        data: Rows `(N, *event)` as a tensor, an array, a memory-mapped `.npy` or a map-style `Dataset`; a pair
            `(x, context)` for conditional flows.
        objective: What to minimise, or phases that follow one another; the model's recipe by default (mostly maximum
            likelihood).
        validation: Rows to judge the averaged weights by; without them there is no early stopping and the last
            averaged weights are kept.
        config: Budget and settings.
        weights: `(N,)`, not negative; each row's loss is multiplied by its weight over their mean, so that a weight of
            2 counts as the row written twice. The data-dependent start does not know them.
        validation_weights: Weights of the validation rows, which are judged alike by default.
        folder: Where to keep `checkpoint.safetensors` and `log.csv`, written at every check.
        resume: Go on from the checkpoint in the folder, to the same result as an uninterrupted run (on a CPU, with a
            budget in steps or epochs).
        fabric: An engine of your own, launched; by default one is made from the config.

    Raises:
        TrainingError: The loss, the gradient or the weights are not finite, or a solve fails; names the step and the
            rows. The flow holds the best weights, or the averaged ones of the last good step.
        CheckpointError: There is nothing to resume from, or it is of other settings, another objective or other data.
        DataError: Data or weights that cannot be used, or columns that have no density, see
            `cnf.data.columns.check_rows`, which warns of others.
        OSError: The checkpoint cannot be written; the flow holds what it holds after a TrainingError.
        FileExistsError: The folder holds a checkpoint already and `resume` is not given.
    """
    require_precision(flow.base)
    if fabric is None:
        fabric = engine(config)
    rows = as_rows(data, flow.base.dtype)
    judged = None if validation is None else as_rows(validation, flow.base.dtype)
    given = Weights(rows, weights, judged, validation_weights)
    phases = phases_of(flow, objective, config)
    if not resume and _columns_matter(flow, phases):
        check_rows(rows, quiet=not fabric.is_global_zero)
    if not any(parameter.requires_grad for parameter in flow.parameters()):
        return _only_initialized(flow, rows, config, given, fabric.is_global_zero)
    path = None if folder is None else Path(folder) / "checkpoint.safetensors"
    if path is not None and path.exists() and not resume:
        raise FileExistsError(f"{path.parent} holds a checkpoint: give resume=True to go on, or another folder")
    if resume and path is None:
        raise ValueError("resume=True needs the folder that the run was written to")
    if path is not None:
        remove_leftovers(path.parent)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        run = _Run(fabric, flow, phases, rows, judged, given, config, path, resume)
        with interruption_noted() as interrupted:
            return run.go(interrupted)


def _columns_matter(flow: Flow, phases: Sequence[Phase]) -> bool:
    """Not on a manifold, where columns depend on each other, nor where no phase looks at the rows."""
    drawn = all(getattr(phase.objective, "draws_samples", False) for phase in phases)
    return not flow.transform.domain.event_dim and not drawn


def _only_initialized(flow: Flow, rows: Rows, config: FitConfig, given: Weights, first: bool) -> FitResult:
    if given.data is not None:
        raise ValueError("a flow without parameters is fitted by its data-dependent start, which takes no weights")
    begun = time.perf_counter()
    shown, seconds = config.progress and first, config.seconds_allowed
    whole = initialize(flow, rows, config.seed, trained=False, seconds=seconds, shown=shown)
    return FitResult(flow, [], 0, time.perf_counter() - begun, None, 0, "initialized" if whole else "budget")


class _Run:
    """One run of `fit`."""

    def __init__(
        self,
        fabric: Fabric,
        flow: Flow,
        phases: Sequence[Phase],
        rows: Rows,
        validation: Rows | None,
        weights: Weights,
        config: FitConfig,
        path: Path | None,
        resume: bool,
    ) -> None:
        self.fabric, self.flow, self.config, self.path = fabric, flow, config, path
        self.phases = phases
        if validation is not None and any(getattr(phase.objective, "source", None) for phase in phases):
            raise ValueError(
                "an objective with a source of its own makes a flow whose densities mean nothing, so validation rows "
                "cannot judge it: leave validation out"
            )
        self.rows, self.validation, self.weights = rows, validation, weights
        self.batches = Batches(
            len(rows), config.batch_size, seed=config.seed, rank=fabric.global_rank, world=fabric.world_size
        )
        self.schedule = Schedule(config, phases, self.batches.per_epoch)
        flow.to(fabric.device)
        for name, part in (("data", rows), ("validation", validation)):
            if part is not None:
                check_fit(flow, name, fabric.to_device(part.read([0])))
        self.minimised = Minimand(flow, phases)
        self.identity = self._identity()
        self.at = Progress()
        begun = time.perf_counter()
        if not resume:
            self._start()
        self.at.seconds = time.perf_counter() - begun
        self.average = AveragedModel(flow, multi_avg_fn=_moving_average(config.ema), use_buffers=True)
        self.judge = None
        if validation is not None:
            averaged = cast(Flow, self.average.module)
            self.judge = Judge(fabric, averaged, phases, validation, weights.validation, config.seed)
        self.minimand = fabric.setup_module(self.minimised)
        self.best: dict[str, Tensor] = {}
        self.sums: dict[str, float] = {}
        if resume:
            self._read()
        else:
            self._make_optimizers()

    def _start(self) -> None:
        fabric, config = self.fabric, self.config
        shown = config.progress and fabric.is_global_zero
        seconds = config.seconds_allowed if fabric.world_size == 1 else None  # the same start for all processes
        initialize(self.flow, self.rows, config.seed, trained=True, seconds=seconds, shown=shown)

    def _identity(self) -> dict[str, str]:
        """What the run is of, for its checkpoints."""
        if self.path is None:
            return {}
        given = (self.weights.data, self.weights.validation)
        return identity(self.phases, self.minimised, self.rows, self.validation, given)

    def go(self, interrupted: Interruption) -> FitResult:
        """Step until the budget is used up, patience is lost, or somebody interrupts."""
        try:
            stopped = self._steps(interrupted)
        except Exception:  # of the disk, the data, or an objective
            self._keep_good()
            raise
        self._keep_good()
        at = self.at
        best = at.best if self.validation is not None and at.history else None
        return FitResult(
            self.flow, at.history, at.step, at.seconds, best, at.best_step, stopped, self.path, interrupted.signal
        )

    def _steps(self, interrupted: Interruption) -> str:
        """What ends them: "budget", "patience" or "interrupted"."""
        at, halt = self.at, False
        begun = time.perf_counter() - at.seconds
        batches = iter(self._loader())
        shown = self.config.progress and self.fabric.is_global_zero
        if not at.step:
            self._write()  # from here on there is something to resume from
        with Bar(self.config, self.batches.per_epoch, shown=shown) as bar:
            while not halt and not self.schedule.is_over(at):
                if self.schedule.phase_is_over(at):
                    if at.phase + 1 == len(self.phases):
                        return "patience"
                    if self.sums:
                        self._check()  # its last steps are judged before they are left
                    self._next_phase()
                self._step(next(batches))
                at.step += 1
                at.seconds, halt = self._agree(time.perf_counter() - begun, interrupted.seen)
                if self.schedule.checks_due(at) > at.checks:
                    self._check()
                bar.show(at, self.sums)
        if halt:
            self._write()
        return "interrupted" if halt else "budget"

    def _keep_good(self) -> None:
        """Give the flow its best weights, or the averaged ones of the last good step if nothing judged."""
        self.flow.load_state_dict(self.best or self.average.module.state_dict())

    def _next_phase(self) -> None:
        """Go on from the best weights, the averaged ones if nothing judges, with a fresh optimizer and average."""
        at = self.at
        at.phase, at.phase_step, at.phase_begun, at.stale = at.phase + 1, at.step, self.schedule.fraction(at), 0
        self._keep_good()
        self._make_optimizers()
        self.average.n_averaged.zero_()

    def _make_optimizers(self) -> None:
        """Fresh ones, for the phase."""
        name, scaler = self.phases[self.at.phase].optimizer, getattr(self.fabric.strategy.precision, "scaler", None)
        self.optimizers = Optimizers(self.minimised, name, self.config.weight_decay, scaler)

    def _loader(self) -> DataLoader[Any]:
        self.batches.start = self.at.step
        return DataLoader(
            self.rows, batch_sampler=self.batches, collate_fn=_as_it_is, num_workers=self.config.workers,
            generator=torch.Generator(),  # without one, an iterator takes a number from the global random state
        )  # fmt: skip

    def _step(self, batch: Batch) -> None:
        x, context, rows = self.fabric.to_device(batch)
        torch.manual_seed((self.config.seed * 1_000_003 + self.at.step) * self.batches.world + self.batches.rank)
        self.optimizers.zero_grad()
        weights = None if self.weights.data is None else self.weights.data[rows.cpu()].to(x)
        with count_evaluations() as count:
            loss = self._differentiated(Example(x, context, weights), rows)
        try:
            self.optimizers.step(self.schedule.learning_rate(self.at), self.config.clip)
        except FloatingPointError as error:
            raise self._failure(str(error), rows[:0]) from error
        self.average.update_parameters(self.flow)
        self._tally(loss, count.evaluations / max(count.solves, 1))

    def _differentiated(self, example: Example, rows: Tensor) -> Loss:
        """The loss, after its backward pass."""
        try:
            loss: Loss = self.minimand(example, self.at.phase)
        except SampleError as error:
            raise self._failed_rows(error, rows) from error
        if not loss.value.isfinite():
            known = loss.rows is not None and loss.rows.shape == rows.shape
            bad = rows[~loss.rows.isfinite()] if loss.rows is not None and known else rows
            raise self._failure(f"the loss is {loss.value.item()}", bad)
        try:
            self.fabric.backward(loss.value)
        except SampleError as error:
            raise self._failed_rows(error, rows, "the gradient's solve failed: ") from error
        except AssertionError as error:  # of an adjoint's backward solve
            raise self._failure(f"the gradient's solve failed: {error}", rows[:0]) from error
        return loss

    def _tally(self, loss: Loss, evaluations: float) -> None:
        values = {"loss": loss.value.item(), "evaluations": evaluations, "batches": 1.0}
        for name, value in {**{name: float(value) for name, value in loss.metrics.items()}, **values}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def _check(self) -> None:
        """Judge the averaged weights, keep the best, write everything down."""
        at = self.at
        at.checks = self.schedule.checks_due(at)
        names, sums = list(self.sums), torch.tensor(list(self.sums.values()), dtype=torch.float64)
        totals = dict(zip(names, mean_over_processes(self.fabric, sums).tolist(), strict=True))
        batches = totals.pop("batches")
        self.sums = {}
        row = {"step": at.step, "epoch": at.step / self.batches.per_epoch, "seconds": at.seconds}
        row |= {
            "learning_rate": self.schedule.learning_rate(self.at),
            **{name: total / batches for name, total in totals.items()},
        }
        if self.judge is not None:
            row["validation_nll"] = nll = self.judge(at.phase)
            at.stale += 1
            if nll < at.best:
                at.best, at.best_step, at.stale = nll, at.step, 0
                self.best = {name: value.clone() for name, value in self.average.module.state_dict().items()}
        at.history.append(row)
        self._write()

    def _agree(self, seconds: float, interrupted: bool) -> tuple[float, bool]:
        """The same clock and the same end for all processes."""
        seconds, interruptions = mean_over_processes(self.fabric, torch.tensor([seconds, interrupted])).tolist()
        return seconds, interruptions > 0

    def _failed_rows(self, error: SampleError, rows: Tensor, what: str = "") -> TrainingError:
        """The error in rows of the data; those of a batch say nothing to a reader, unless the objective made them."""
        told, named = copy.copy(error), _named(rows, error)
        told.samples, told.advice = ([] if len(named) else error.samples), ""
        return self._failure(f"{what}{told}".removesuffix("."), named, error.advice.removesuffix("."))

    def _failure(self, reason: str, rows: Tensor, advice: str = "") -> TrainingError:
        self._keep_good()
        if self.path is not None and not self.at.checks and self.fabric.is_global_zero:
            self.path.unlink(missing_ok=True)  # a start is nothing to go on from: the folder is free for another try
        culprits = f". Rows of the data: {rows[:8].tolist()} ({len(rows)} in all)" if len(rows) else ""
        weights = "the best weights so far" if self.best else "the averaged weights of the steps before"
        where = f", and {self.path} can be resumed" if self.path is not None and self.path.exists() else ""
        return TrainingError(
            f"step {self.at.step}: {reason}{culprits}",
            f"The flow holds {weights}{where}",
            f"a smaller learning_rate (now {self.phases[self.at.phase].learning_rate:g}) or clip (now "
            f"{self.config.clip:g}), a longer warmup, looking at these rows for outliers, or float64"
            f"{f'; or {advice}' if advice else ''}.",
        )

    def _parts(self) -> Parts:
        flow, trained, average = self.flow.state_dict(), self.minimised.trained.state_dict(), self.average.state_dict()
        return {
            "flow": flow,
            "objectives": trained,
            "average": average,
            "best": self.best,
            "optimizers": self.optimizers.state(),
            "scaling": self.optimizers.scaling(),
        }

    def _write(self) -> None:
        if self.path is not None and self.fabric.is_global_zero:
            record.write(self.path, self._parts(), self.at, self.config, self.identity)

    def _read(self) -> None:
        """Go back to where the checkpoint was written."""
        assert self.path is not None
        parts, self.at = record.read(self.path, self.config, self.identity)
        if self.at.phase >= len(self.phases):
            raise CheckpointError(
                f"{self.path} is damaged: phase must be below {len(self.phases)}, got {self.at.phase}"
            )
        self._make_optimizers()
        self.best = parts.get("best", {})
        try:
            state, trained = self.flow.state_dict(), self.minimised.trained
            for expected, tensors in (
                (state, parts.get("flow", {})),
                (state, self.best or state),
                (self.average.state_dict(), average := parts.get("average", {})),
                (trained.state_dict(), objectives := parts.get("objectives", {})),
            ):
                check_state(expected, tensors)
            self.average.load_state_dict(average)
            trained.load_state_dict(objectives)
            self.optimizers.load_state(parts.get("optimizers", {}))
            self.optimizers.load_scaling(parts.get("scaling", {}))
            self.flow.load_state_dict(parts["flow"])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.path} is of another flow: {error}") from error


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average that is quick to forget the first steps; whole numbers (orders, counts) are copied."""

    def update(averaged: Any, current: Any, number: Any) -> None:
        if not averaged[0].is_floating_point():
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
            return
        rise = (1 + number.item()) / (10 + number.item())
        get_ema_multi_avg_fn(min(decay, rise))(averaged, current, number)

    return update


def _named(rows: Tensor, error: SampleError) -> Tensor:
    """The rows of the data that failed; none where the objective made points of its own."""
    return rows[error.samples] if all(sample < len(rows) for sample in error.samples) else rows[:0]


def _as_it_is(batch: Any) -> Batch:
    return cast(Batch, batch)
