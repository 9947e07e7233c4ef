"""The state of a run as files: the checkpoint it can be taken up from, and the log of its curves."""

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

from cnf.checkpoints import read_state, write_bytes, write_state
from cnf.errors import CheckpointError
from cnf.training.settings import FitConfig

Parts = dict[str, dict[str, Tensor]]  # state dicts of what a run consists of


@dataclass
class Progress:
    """The part of a run's state that is numbers."""

    step: int = 0
    seconds: float = 0.0
    checks: int = 0
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    phase: int = 0
    phase_step: int = 0
    phase_begun: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def write(path: Path, parts: Parts, progress: Progress, config: FitConfig) -> None:
    """Write the checkpoint, and the log beside it."""
    tensors = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    write_state(path, tensors, {"progress": dataclasses.asdict(progress), "settings": _repeatable(config)})
    write_bytes(path.parent / "log.csv", _csv(progress.history))


def read(path: Path, config: FitConfig) -> tuple[Parts, Progress]:
    """What `write` wrote.

    Raises:
        CheckpointError: The file is missing or damaged, or of a run with other settings.
    """
    tensors, facts = read_state(path)
    here, there = _repeatable(config), facts.get("settings", {})
    differing = [f"{key} {there.get(key)!r} → {here[key]!r}" for key in here if there.get(key) != here[key]]
    if differing:
        raise CheckpointError(
            f"{path} was written with other settings ({', '.join(differing)}): "
            "resume with the same ones, or start in another folder"
        )
    parts: Parts = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = tensor
    return parts, Progress(**facts["progress"])


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
