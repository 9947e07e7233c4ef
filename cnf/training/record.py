"""The state of a run as files: the checkpoint to resume from, and the log of its curves."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from cnf.errors import CheckpointError
from cnf.files import read_state, write_bytes, write_state
from cnf.training.identity import differences
from cnf.training.settings import FitConfig

Parts = dict[str, dict[str, Tensor]]  # state dicts of the parts of a run


@dataclass
class Progress:
    """The part of a run's state that is numbers.

    Attributes:
        step: Steps done.
        seconds: Seconds of training.
        checks: Checks done.
        best: Lowest validation NLL.
        best_step: The step at which it was reached.
        best_evaluations: Evaluations of a solve of training before it.
        slowing: Factor on the learning rate of the phase.
        stale: Checks since then.
        phase: Number of the phase, from 0.
        phase_step: Step at which it began.
        phase_begun: Part of the budget that was used up then.
        history: One mapping for each check.
    """

    step: int = 0
    seconds: float = 0.0
    checks: int = 0
    best: float = math.inf
    best_step: int = 0
    best_evaluations: float = 0.0
    slowing: float = 1.0
    stale: int = 0
    phase: int = 0
    phase_step: int = 0
    phase_begun: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def write(path: Path, parts: Parts, progress: Progress, config: FitConfig, identity: Mapping[str, str]) -> None:
    """Write the checkpoint, and the log beside it."""
    tensors = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    facts = {"progress": dataclasses.asdict(progress), "settings": _repeatable(config), "identity": dict(identity)}
    write_state(path, tensors, facts)
    if progress.history:
        write_bytes(path.parent / "log.csv", _csv(progress.history))


def read(path: Path, config: FitConfig, identity: Mapping[str, str]) -> tuple[Parts, Progress]:
    """Read what `write` wrote.

    Raises:
        CheckpointError: The file is missing or damaged, or of a run with other settings, another objective or data.
    """
    tensors, facts = read_state(path)
    there = [facts.get(key) for key in ("settings", "identity", "progress")]
    if facts.keys() != {"settings", "identity", "progress"} or not all(isinstance(part, dict) for part in there):
        raise CheckpointError(f"{path} is damaged, or no checkpoint of a training run: it has {_short(facts)}")
    for what, before, now in (("settings", there[0], _repeatable(config)), ("objective or data", there[1], identity)):
        differing = differences(before or {}, now)
        if differing:
            raise CheckpointError(
                f"{path} was written with other {what} ({', '.join(differing)}): "
                "resume with the same ones, or start in another folder"
            )
    try:
        progress = _progress(there[2] or {})
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    parts: Parts = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = tensor
    return parts, progress


def _progress(values: Mapping[str, Any]) -> Progress:
    """Numbers as `Progress`, each of its kind."""
    known = {entry.name: entry.type for entry in dataclasses.fields(Progress)}
    if values.keys() != known.keys():
        raise ValueError(f"its progress must have {', '.join(known)}, got {_short(values)}")
    for name, kind in known.items():
        value = values[name]
        if kind == "int" and (type(value) is not int or value < 0):
            raise ValueError(f"{name} must be a whole number, got {_short(value)}")
        if kind == "float" and (type(value) not in (int, float) or math.isnan(value)):
            raise ValueError(f"{name} must be a number, got {_short(value)}")
    history = values["history"]
    rows = history if isinstance(history, list) else [None]
    if not all(isinstance(row, dict) and all(type(x) in (int, float) for x in row.values()) for row in rows):
        raise ValueError(f"history must be a list of numbers by name, got {_short(history)}")
    return Progress(**values)


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _repeatable(config: FitConfig) -> dict[str, Any]:
    """The settings that change the result of a run, as JSON knows them."""
    aside = ("accelerator", "devices", "num_nodes", "workers", "progress")
    values = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(config)}
    plain = (int, float, str, type(None))
    return {k: v if isinstance(v, plain) else repr(v) for k, v in values.items() if k not in aside}


def _csv(history: Sequence[Mapping[str, float]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in history for name in row)))
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
    return text.getvalue().encode()
