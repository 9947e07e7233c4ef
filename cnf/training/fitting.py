"""Training a flow, on one processor or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cnf.arguments import conform
from cnf.data.columns import check_rows
from cnf.data.rows import as_rows
from cnf.files import remove_leftovers
from cnf.flows import Flow
from cnf.inputs import require_precision
from cnf.objectives.interface import Objective, has_latents
from cnf.objectives.matching import FlowMatching
from cnf.objectives.phases import Phase
from cnf.training.engine import engine
from cnf.training.interruption import interruption_noted
from cnf.training.judge import Weights
from cnf.training.plan import learns_rows, phases_of, rows_of
from cnf.training.run import Run, Task
from cnf.training.settings import FitConfig, FitResult
from cnf.training.start import initialize

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fit(
    flow: Flow,
    data: Any = None,
    objective: Objective | Phase | Sequence[Phase] | None = None,
    validation: Any = None,
    config: FitConfig = FitConfig(),
    *,
    weights: Any = None,
    validation_weights: Any = None,
    folder: str | Path | None = None,
    resume: bool = False,
    fabric: Fabric | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> FitResult:
    """Train a flow in place.

    First comes the data-dependent start (standardisation and the like), unless the run is resumed or the flow was
    initialised before. It may take half of a budget in seconds; the layers that are left then start without the data,
    and a warning says so. A start that takes more than a second is shown on a bar. A flow without parameters (`rbig`)
    is only initialised: its start may take the whole budget in seconds, and it has the layers that there was time for.

    Ctrl-C or SIGTERM ends the run after the current step, with everything saved. A second one ends it at once, and so
    does one during the data-dependent start. The global random state is left as it was.

    Args:
        flow: What to train.
        data: Rows `(N, *event)` as a tensor, an array, a memory-mapped `.npy` or a map-style `Dataset`; a pair
            `(x, context)` for conditional flows. None where all objectives draw their own samples (`cnf.ReverseKL`):
            then `batch_size` is the number of samples a step. With such objectives, and where the flow is a density of
            latent variables (`cnf.ELBO`), there is no data-dependent start.
        objective: What to minimise, or one or several phases. The default is `flow.recipe`, the phases of the model, or
            maximum likelihood if the flow has none. One objective replaces that of the recipe's last phase, with the
            other settings of that phase.
        validation: Rows to judge the averaged weights by, at most 10,000 of them. Without them there
            is no early stopping, and the last averaged weights are kept.
        config: Budget and settings. Its solver, divergence and learning rate, if given, replace those of every phase.
        weights: `(N,)`, not negative. The loss of each row is multiplied by its weight over the mean weight, so that a
            weight of 2 counts like two equal rows. The data-dependent start does not use them.
        validation_weights: Weights of the validation rows; all count alike by default.
        folder: Where to keep `checkpoint.safetensors` and `log.csv`, written at every check.
        resume: Go on from the checkpoint in the folder, to the same result as an uninterrupted run (on a CPU, with a
            budget in steps or epochs).
        fabric: An engine (`lightning_fabric.Fabric`) of your own, launched; by default one is made from the config.
        clock: Gives the seconds that the budget counts; `time.process_time` counts those of the processor.

    Raises:
        TrainingError: The loss, the gradient or the weights are not finite, or a solve fails; names the step and the
            rows. The flow holds the best weights, or the averaged ones of the last good step.
        CheckpointError: There is nothing to resume from, or it is of other settings, another objective or other data.
        DataError: Data or weights that cannot be used, or columns that have no density, see
            `cnf.data.columns.check_rows`, which warns of others.
        TypeError: No data where an objective needs them, or a flow or a config that is none.
        ValueError: No data where contexts or epochs need them, or validation rows for a flow that they cannot judge.
        OSError: The checkpoint cannot be written; the flow holds what it holds after a TrainingError.
        FileExistsError: The folder holds a checkpoint already and `resume` is not given.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("realnvp", 2, hidden=(8, 8))
        >>> config = cnf.FitConfig(steps=3, batch_size=32, progress=False)
        >>> result = cnf.fit(flow, torch.randn(100, 2), config=config)
        >>> result.steps, result.stopped
        (3, 'budget')
    """
    conform("flow", Flow, flow)
    conform("config", FitConfig, config)
    require_precision(flow.base)
    phases = phases_of(flow, objective, config)
    rows = rows_of(data, flow, phases, config)
    judged = None if validation is None else as_rows(validation, flow.base.dtype)
    given = Weights(rows, weights, judged, validation_weights)
    if judged is not None:
        _require_judgeable(phases)
    if fabric is None:
        fabric = engine(config)
    domain = flow.transform.domain  # on a manifold columns depend on each other, and whole numbers may repeat
    if not resume and learns_rows(phases) and not domain.event_dim and not domain.is_discrete:
        check_rows(rows, quiet=not fabric.is_global_zero)
    task = Task(
        flow,
        phases,
        rows,
        judged,
        given,
        config,
        _path(folder, resume=resume),
        clock,
        data is not None and learns_rows(phases),
    )
    if not any(parameter.requires_grad for parameter in flow.parameters()):
        return _only_initialized(task, shown=config.progress and fabric.is_global_zero)
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        run = Run(fabric, task, resume=resume)
        with interruption_noted() as interrupted:
            return run.go(interrupted)


def _require_judgeable(phases: Sequence[Phase]) -> None:
    """Refuse validation rows where the flow's densities at them mean nothing."""
    for objective in (phase.objective for phase in phases):
        if isinstance(objective, FlowMatching) and objective.source is not None:
            raise ValueError(
                "an objective with a source of its own trains a flow whose densities mean nothing, so validation rows "
                "cannot judge it: leave validation out"
            )
        if has_latents(objective):
            raise ValueError(
                "the flow is a density of latent variables, so validation rows cannot judge it: leave validation out, "
                "and evaluate the objective on them"
            )


def _path(folder: str | Path | None, *, resume: bool) -> Path | None:
    """The checkpoint in the folder, which is free for it, or holds the one to resume from."""
    if folder is None:
        if resume:
            raise ValueError("resume=True needs the folder that the run was written to")
        return None
    path = Path(folder) / "checkpoint.safetensors"
    if path.exists() and not resume:
        raise FileExistsError(f"{path.parent} holds a checkpoint: give resume=True to go on, or another folder")
    remove_leftovers(path.parent)
    return path


def _only_initialized(task: Task, *, shown: bool) -> FitResult:
    if task.weights.data is not None:
        raise ValueError("a flow without parameters is fitted by its data-dependent start, which takes no weights")
    if not task.started:
        raise ValueError("a flow without parameters is fitted by its data-dependent start, which needs data")
    flow, config, begun = task.flow, task.config, task.clock()
    seconds = config.seconds_allowed
    whole = initialize(flow, task.rows, config.seed, trained=False, seconds=seconds, shown=shown, clock=task.clock)
    return FitResult(flow, [], 0, task.clock() - begun, None, 0, "initialized" if whole else "budget")
