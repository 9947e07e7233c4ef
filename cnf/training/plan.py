"""What a run is asked for: its phases, and the rows that it reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from cnf.data.rows import Rows, as_rows
from cnf.flows import Flow
from cnf.objectives.interface import Objective, draws_samples, has_latents
from cnf.objectives.phases import Phase
from cnf.training.settings import FitConfig


def phases_of(
    flow: Flow, objective: Objective | Phase | Sequence[Phase] | None, config: FitConfig
) -> tuple[Phase, ...]:
    """The phases that are asked for, with the settings of the config in the place of theirs.

    Without an objective they are those of `flow.recipe`; one objective replaces that of its last phase.

    Raises:
        TypeError: An objective, or a recipe, that is neither a callable nor made of phases.

    Example:
        >>> import cnf
        >>> (phase,) = phases_of(cnf.build("ffjord", 2), None, cnf.FitConfig(learning_rate=0.5))
        >>> phase.learning_rate, phase.divergence
        (0.5, Exact())
    """
    phases = _phases("flow.recipe", flow.recipe or Phase())
    if callable(objective):
        phases = (replace(phases[-1], objective=objective),)
    elif objective is not None:
        phases = _phases("objective", objective)
    names = ("solver", "divergence", "learning_rate", "weight_decay", "clip")
    given = {name: getattr(config, name) for name in names}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    _tell_of(changes, phases)
    return tuple(replace(phase, **changes) for phase in phases)


def _phases(name: str, given: object) -> tuple[Phase, ...]:
    """One phase or several as a tuple."""
    phases = tuple(given) if isinstance(given, Sequence) else (given,)
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise TypeError(f"{name} must be a callable, a cnf.Phase or a sequence of cnf.Phase, got {given!r}")
    return phases


def _tell_of(changes: dict[str, Any], phases: Sequence[Phase]) -> None:
    """Warn of a setting of the config that replaces several phases' own: that is rarely what is meant."""
    changed = [name for name, value in changes.items() if any(getattr(phase, name) != value for phase in phases)]
    if changed and len(phases) > 1:
        warnings.warn(
            f"FitConfig({', '.join(f'{name}={changes[name]!r}' for name in changed)}) replaces the settings of all "
            f"{len(phases)} phases: to set them apart, give cnf.fit a sequence of cnf.Phase",
            stacklevel=4,
        )


def without_data(phases: Sequence[Phase]) -> bool:
    """Whether no phase looks at the values of the rows."""
    return all(draws_samples(phase.objective) for phase in phases)


def learns_rows(phases: Sequence[Phase]) -> bool:
    """Whether the flow is to become the density of the rows, so that they must fit it and can give it a start."""
    return not without_data(phases) and not any(has_latents(phase.objective) for phase in phases)


def rows_of(data: Any, flow: Flow, phases: Sequence[Phase], config: FitConfig) -> Rows:
    """The data as rows; without data a batch of zeros, which says how many samples an objective draws a step.

    Raises:
        TypeError: There are no data, and an objective needs them.
        ValueError: There are none, and a context or a budget in epochs needs them.
    """
    if data is not None:
        return as_rows(data, flow.base.dtype)
    if not without_data(phases):
        needy = next(phase.objective for phase in phases if not draws_samples(phase.objective))
        raise TypeError(
            f"data=None is for objectives that draw their own samples (cnf.ReverseKL), but {needy!r} needs rows: "
            "give data (N, *event)"
        )
    if flow.transform.context_dim:
        raise ValueError(
            "this flow is conditional, so samples need contexts: give data=(x, context), where the values of x do not "
            "matter"
        )
    if config.epochs is not None:
        raise ValueError("without data there are no epochs: give FitConfig steps or seconds")
    return Rows(torch.zeros(()).expand(config.batch_size, *flow.event_shape), flow.base.dtype)
