"""Training a flow, on one processor or many: the only file that knows the training engine (Lightning Fabric).

One step is: a batch, the objective, its gradient, clipped, the optimizer, and a running average of the weights. From
time to time the averaged weights are judged by the validation likelihood, and everything needed to go on is written.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from cnf.checkpoints import check_state
from cnf.continuous.cnf import cnfs_of, reconfigure, without_costs
from cnf.continuous.divergences import Divergence
from cnf.continuous.solvers import RungeKutta, Solver, count_evaluations
from cnf.data.columns import check_rows
from cnf.data.rows import Batch, Batches, Rows, as_rows, row_weights
from cnf.errors import CheckpointError, SampleError, TrainingError
from cnf.files import remove_leftovers
from cnf.flows import Flow
from cnf.models import recipe_of
from cnf.objectives.likelihood import Loss, Objective, as_loss, weighted
from cnf.objectives.phases import Phase
from cnf.training import record
from cnf.training.bar import Bar
from cnf.training.identity import identity
from cnf.training.interruption import Interruption, interruption_noted
from cnf.training.launch import MARK, find_launch
from cnf.training.optimizers import Optimizers
from cnf.training.record import Parts, Progress
from cnf.training.settings import FitConfig, FitResult

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EARLY_CHECKS = (0.25, 0.5)  # parts of the space between checks: on a small table a flow may be at its best that soon
INITIAL_ROWS = 65_536  # rows from which a data-dependent start is taken
LONGEST_WARMUP = 1 / 20  # of a phase: short budgets have no hundred steps to lose
VALIDATION_ROWS = 4_096  # rows judged at once
VALIDATION_TOLERANCE = 1e-3  # of the solves of a validation: a mean over rows is then off by some 1e-5 nats


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
    initialised before; its seconds are part of the budget. The global random state is left as it was. Ctrl-C or SIGTERM
    ends the run after the current step, with everything saved; a second one ends it at once, and so does one during
    the data-dependent start. A flow without parameters (`rbig`) is initialized, no more.

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
    if fabric is None:
        fabric = _engine(config)
    rows = as_rows(data, flow.base.dtype)
    judged = None if validation is None else as_rows(validation, flow.base.dtype)
    given = _Weights(rows, weights, judged, validation_weights)
    if not resume and not flow.transform.domain.event_dim:  # on a manifold, columns depend on each other
        check_rows(rows, quiet=not fabric.is_global_zero)
    if not any(parameter.requires_grad for parameter in flow.parameters()):
        return _only_initialized(flow, rows, config, given)
    path = None if folder is None else Path(folder) / "checkpoint.safetensors"
    if path is not None and path.exists() and not resume:
        raise FileExistsError(f"{path.parent} holds a checkpoint: give resume=True to go on, or another folder")
    if resume and path is None:
        raise ValueError("resume=True needs the folder that the run was written to")
    if path is not None:
        remove_leftovers(path.parent)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        run = _Run(fabric, flow, _phases(flow, objective, config), rows, judged, given, config, path, resume)
        with interruption_noted() as interrupted:
            return run.go(interrupted)


class _Weights:
    """Weights of the data and of the validation rows, by row number, in float64; None for all alike."""

    def __init__(self, rows: Rows, weights: Any, validation: Rows | None, validation_weights: Any) -> None:
        if validation is None and validation_weights is not None:
            raise ValueError("validation_weights are given, but no validation rows")
        self.data = None if weights is None else row_weights(rows, weights)
        self.validation = (
            None if validation is None or validation_weights is None else row_weights(validation, validation_weights)
        )


def _only_initialized(flow: Flow, rows: Rows, config: FitConfig, given: _Weights) -> FitResult:
    if given.data is not None:
        raise ValueError("a flow without parameters is fitted by its data-dependent start, which takes no weights")
    begun = time.perf_counter()
    _initialize(flow, rows, config.seed)
    return FitResult(flow, [], 0, time.perf_counter() - begun, None, 0, "initialized")


def _engine(config: FitConfig) -> Fabric:
    """The engine that the config asks for, launched; under `torchrun` with as many processes as that started."""
    launch = find_launch(config.devices, config.num_nodes)
    from lightning_fabric import Fabric  # after that check, for it reads the launcher's variables while it is imported

    if launch.several:
        os.environ[MARK] = "1"
    try:
        fabric = Fabric(
            accelerator=config.accelerator, devices=launch.devices, num_nodes=launch.nodes,
            strategy="ddp_find_unused_parameters_true" if launch.several else "auto",
            precision=config.precision,  # type: ignore[arg-type]
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"cannot train with accelerator={config.accelerator!r}, devices={launch.devices}, "
            f"num_nodes={launch.nodes}: {error}"
        ) from error
    fabric.launch()
    return fabric


class _Example:
    """Rows on their way into the engine, which would round bare tensors to the precision of matrix products."""

    def __init__(self, x: Tensor, context: Tensor | None, weights: Tensor | None) -> None:
        self.x, self.context, self.weights = x, context, weights


class _Minimand(nn.Module):
    """The objectives of all phases as a module, so that its forward pass is what the engine wraps and synchronises.

    Each phase has a flow of its own settings; all of them share their weights.
    """

    def __init__(self, flow: Flow, phases: Sequence[Phase]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(_with_settings(flow, phase.solver, phase.divergence) for phase in phases)
        self.objectives = [phase.objective for phase in phases]
        self.trained = nn.ModuleList(part for part in self.objectives if isinstance(part, nn.Module))

    def forward(self, example: _Example, phase: int) -> Loss:
        loss = as_loss(self.objectives[phase](cast(Flow, self.flows[phase]), example.x, example.context))
        return loss if example.weights is None else weighted(loss, example.weights)


class _Run:
    """One run of `fit`."""

    def __init__(
        self,
        fabric: Fabric,
        flow: Flow,
        phases: Sequence[Phase],
        rows: Rows,
        validation: Rows | None,
        weights: _Weights,
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
        flow.to(fabric.device)
        for name, part in (("data", rows), ("validation", validation)):
            if part is not None:
                _check_fit(flow, name, fabric.to_device(part.read([0])))
        self.minimised = _Minimand(flow, phases)
        self.identity = self._identity()
        self.at = Progress()
        begun = time.perf_counter()
        if not resume:
            _initialize(flow, rows, config.seed)
        self.at.seconds = time.perf_counter() - begun
        self.average = AveragedModel(flow, multi_avg_fn=_moving_average(config.ema), use_buffers=True)
        judge, solver = without_costs(cast(Flow, self.average.module)), _judging(flow)
        self.judges = [_with_settings(judge, solver, phase.divergence) for phase in phases]
        self.minimand = fabric.setup_module(self.minimised)
        self.best: dict[str, Tensor] = {}
        self.sums: dict[str, float] = {}
        if resume:
            self._read()
        else:
            self._make_optimizers()

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
        except OSError:
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
            while (self._fraction() < 1 or not at.step) and not halt:
                if at.step and self._phase_is_over():
                    if at.phase + 1 == len(self.phases):
                        return "patience"
                    if self.sums:
                        self._check()  # its last steps are judged before they are left
                    self._next_phase()
                self._step(next(batches))
                at.step += 1
                at.seconds, halt = self._agree(time.perf_counter() - begun, interrupted.seen)
                if self._checks_due() > at.checks:
                    self._check()
                bar.show(at, self.sums)
        if halt:
            self._write()
        return "interrupted" if halt else "budget"

    def _keep_good(self) -> None:
        """Give the flow its best weights, or the averaged ones of the last good step if nothing judged."""
        self.flow.load_state_dict(self.best or self.average.module.state_dict())

    def _phase_is_over(self) -> bool:
        """Whether patience is lost, or the share of the phase is used up."""
        impatient = self.config.patience is not None and self.at.stale >= self.config.patience
        return impatient or self._fraction() >= self._end_of_phase()

    def _end_of_phase(self) -> float:
        """The part of the budget at which the phase ends at the latest."""
        shares = [phase.share for phase in self.phases]
        return sum(shares[: self.at.phase + 1]) / sum(shares)

    def _next_phase(self) -> None:
        """Go on from the best weights, the averaged ones if nothing judges, with a fresh optimizer and average."""
        at = self.at
        at.phase, at.phase_step, at.phase_begun, at.stale = at.phase + 1, at.step, self._fraction(), 0
        self._keep_good()
        self._make_optimizers()
        self.average.n_averaged.zero_()

    def _fraction(self) -> float:
        """How much of the budget is used up."""
        config, at = self.config, self.at
        spent = [
            (at.step, config.steps),
            (at.step / self.batches.per_epoch, config.epochs),
            (at.seconds, config.seconds_allowed),
        ]
        return max(used / allowed for used, allowed in spent if allowed is not None)

    def _checks_due(self) -> int:
        """Checks that should have been by now: equally spaced, and some within the first space."""
        spaces = self._fraction() * self.config.checks
        return math.floor(spaces) + sum(spaces >= early for early in EARLY_CHECKS)

    def _make_optimizers(self) -> None:
        """Fresh ones, for the phase."""
        name, scaler = self.phases[self.at.phase].optimizer, getattr(self.fabric.strategy.precision, "scaler", None)
        self.optimizers = Optimizers(self.minimised, name, self.config.weight_decay, scaler)

    def _learning_rate(self) -> float:
        """Linear warm-up, over before `LONGEST_WARMUP` of the phase, and a cosine to zero over all of it."""
        at, peak = self.at, self.phases[self.at.phase].learning_rate
        passed = (self._fraction() - at.phase_begun) / (self._end_of_phase() - at.phase_begun)
        rise = min(1.0, max((at.step - at.phase_step + 1) / max(self.config.warmup, 1), passed / LONGEST_WARMUP))
        return peak * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))

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
            loss = self._differentiated(_Example(x, context, weights), rows)
        try:
            self.optimizers.step(self._learning_rate(), self.config.clip)
        except FloatingPointError as error:
            raise self._failure(str(error), rows[:0]) from error
        self.average.update_parameters(self.flow)
        self._tally(loss, count.evaluations / max(count.solves, 1))

    def _differentiated(self, example: _Example, rows: Tensor) -> Loss:
        """The loss, after its backward pass."""
        try:
            loss: Loss = self.minimand(example, self.at.phase)
        except SampleError as error:
            raise self._failure(str(error), _named(rows, error)) from error
        if not loss.value.isfinite():
            known = loss.rows is not None and loss.rows.shape == rows.shape
            bad = rows[~loss.rows.isfinite()] if loss.rows is not None and known else rows
            raise self._failure(f"the loss is {loss.value.item()}", bad)
        try:
            self.fabric.backward(loss.value)
        except (AssertionError, SampleError) as error:  # of an adjoint's backward solve
            named = _named(rows, error) if isinstance(error, SampleError) else rows[:0]
            raise self._failure(f"the gradient's solve failed: {error}", named) from error
        return loss

    def _tally(self, loss: Loss, evaluations: float) -> None:
        values = {"loss": loss.value.item(), "evaluations": evaluations, "batches": 1.0}
        for name, value in {**{name: float(value) for name, value in loss.metrics.items()}, **values}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def _check(self) -> None:
        """Judge the averaged weights, keep the best, write everything down."""
        at = self.at
        at.checks = self._checks_due()
        names, sums = list(self.sums), torch.tensor(list(self.sums.values()), dtype=torch.float64)
        totals = dict(zip(names, self._mean_over_processes(sums).tolist(), strict=True))
        batches = totals.pop("batches")
        self.sums = {}
        row = {"step": at.step, "epoch": at.step / self.batches.per_epoch, "seconds": at.seconds}
        row |= {"learning_rate": self._learning_rate(), **{name: total / batches for name, total in totals.items()}}
        if self.validation is not None:
            row["validation_nll"] = nll = self._validate(self.validation)
            at.stale += 1
            if nll < at.best:
                at.best, at.best_step, at.stale = nll, at.step, 0
                self.best = {name: value.clone() for name, value in self.average.module.state_dict().items()}
        at.history.append(row)
        self._write()

    @torch.no_grad()
    def _validate(self, rows: Rows) -> float:
        """The mean negative log-likelihood of the averaged weights in nats, infinite where a solve fails; the same
        noise at every check."""
        torch.manual_seed(self.config.seed)
        judge = self.judges[self.at.phase]
        total = torch.zeros((), dtype=torch.float64)
        share = range(self.batches.rank, len(rows), self.batches.world)
        for first in range(0, len(share), VALIDATION_ROWS):
            x, context, numbers = self.fabric.to_device(rows.read(share[first : first + VALIDATION_ROWS]))
            try:
                log_prob = judge.log_prob(x, context).double().cpu()
            except SampleError:
                total += math.inf
                continue
            weights = self.weights.validation
            total -= (log_prob if weights is None else _product(weights[numbers.cpu()], log_prob)).sum()
        nll = self._mean_over_processes(total).item() * self.batches.world / len(rows)
        return nll if math.isfinite(nll) else math.inf

    def _mean_over_processes(self, values: Tensor) -> Tensor:
        if self.batches.world == 1:
            return values
        mean = self.fabric.all_reduce(values.to(self.fabric.device), reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean.cpu()

    def _agree(self, seconds: float, interrupted: bool) -> tuple[float, bool]:
        """The same clock and the same end for all processes."""
        seconds, interruptions = self._mean_over_processes(torch.tensor([seconds, interrupted])).tolist()
        return seconds, interruptions > 0

    def _failure(self, reason: str, rows: Tensor) -> TrainingError:
        self._keep_good()
        if self.path is not None and not self.at.checks and self.fabric.is_global_zero:
            self.path.unlink(missing_ok=True)  # a start is nothing to go on from: the folder is free for another try
        culprits = f" Rows of the data: {rows[:8].tolist()} ({len(rows)} in all)." if len(rows) else ""
        kept = "the best weights so far" if self.best else "the averaged weights of the steps before"
        where = f", and {self.path} can be resumed" if self.path is not None and self.path.exists() else ""
        return TrainingError(
            f"step {self.at.step}: {reason}.{culprits} The flow holds {kept}{where}. Try: a smaller learning_rate "
            f"(now {self.phases[self.at.phase].learning_rate:g}) or clip (now {self.config.clip:g}), a longer warmup, "
            "looking at these rows for outliers, or float64."
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
            state = self.flow.state_dict()
            for tensors in (parts.get("flow", {}), self.best or state):
                check_state(state, tensors)
            self.average.load_state_dict(parts.get("average", {}))
            self.minimised.trained.load_state_dict(parts.get("objectives", {}))
            self.optimizers.load_state(parts.get("optimizers", {}))
            self.optimizers.load_scaling(parts.get("scaling", {}))
            self.flow.load_state_dict(parts["flow"])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.path} is of another flow: {error}") from error


def _phases(flow: Flow, objective: Objective | Sequence[Phase] | None, config: FitConfig) -> tuple[Phase, ...]:
    """What is asked for, with the config's settings in the place of the recipe's."""
    recipe = recipe_of(flow)
    if objective is None:
        phases = recipe
    elif isinstance(objective, Sequence):
        phases = tuple(objective)
    else:
        phases = (replace(recipe[-1], objective=objective),)
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise TypeError(f"objective must be a callable or a sequence of cnf.Phase, got {objective!r}")
    given = {"solver": config.solver, "divergence": config.divergence, "learning_rate": config.learning_rate}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return tuple(replace(phase, **changes) for phase in phases)


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


def _check_fit(flow: Flow, name: str, batch: Batch) -> None:
    """Try none of the rows: what does not fit the flow is an error now, not at the first check."""
    x, context, _ = batch
    try:
        with torch.no_grad():
            flow.log_prob(x[:0], None if context is None else context[:0])
    except ValueError as error:
        raise ValueError(f"{name} that does not fit the flow: {error}") from error


def _named(rows: Tensor, error: SampleError) -> Tensor:
    """The rows of the data that failed; none where the objective made points of its own."""
    return rows[error.samples] if all(sample < len(rows) for sample in error.samples) else rows[:0]


def _product(weights: Tensor, log_prob: Tensor) -> Tensor:
    """Weighted; a weight of 0 leaves a row out, whatever its density."""
    return torch.where(weights > 0, weights * log_prob, 0.0)


def _as_it_is(batch: Any) -> Batch:
    return cast(Batch, batch)


def _initialize(flow: Flow, rows: Rows, seed: int) -> None:
    """Take the data-dependent start from the first rows of a fixed permutation."""
    if flow.initialized or not flow.transform.data_dependent:
        return
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    x, context, numbers = rows.read(order[:INITIAL_ROWS].sort().values.tolist())
    device = flow.base.device
    try:
        flow.initialize(x.to(device), None if context is None else context.to(device))
    except SampleError as error:
        raise error.renumbered(numbers.tolist()) from error


def _judging(flow: Flow) -> Solver | None:
    """The flow's adaptive solver at the tolerance of a validation, which costs a third; None for any other."""
    solvers = [part.solver for part in cnfs_of(flow)]
    solver = next(iter(solvers), None)
    if not isinstance(solver, RungeKutta) or solver.steps is not None or any(other != solver for other in solvers):
        return None
    loose = VALIDATION_TOLERANCE
    return replace(solver, rtol=max(solver.rtol, loose), atol=max(solver.atol, loose))


def _with_settings(flow: Flow, solver: Solver | None, divergence: Divergence | None) -> Flow:
    """The flow with other settings in its CNFs, if it has any and others are asked for."""
    if (solver or divergence) and cnfs_of(flow):
        return reconfigure(flow, solver=solver, divergence=divergence)
    return flow
