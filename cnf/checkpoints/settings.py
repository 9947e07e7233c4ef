"""Settings as JSON and back: solvers, divergences, path costs, phases of training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from cnf.checkpoints.earlier import current_fields
from cnf.continuous.divergences import DIVERGENCES
from cnf.continuous.regularizers import REGULARIZERS
from cnf.continuous.solvers import RandomEnd, RungeKutta, Torchdiffeq
from cnf.discrete import ExactLogDet, FixedPoint, PowerSeries, RussianRoulette
from cnf.errors import CheckpointError
from cnf.manifolds.geometry import Simplex, Sphere, Torus
from cnf.objectives.couplings import COUPLINGS
from cnf.objectives.free_form import FreeForm
from cnf.objectives.geodesic import GeodesicPath
from cnf.objectives.likelihood import MaximumLikelihood
from cnf.objectives.matching import FlowMatching
from cnf.objectives.partial import AnyGiven
from cnf.objectives.paths import PATHS
from cnf.objectives.phases import Phase

MOST_STEPS = 1_000_000  # of a fixed grid in a file
SETTINGS: dict[str, type] = {
    setting.__name__: setting
    for setting in (
        RungeKutta, Torchdiffeq, RandomEnd, *DIVERGENCES.values(), *REGULARIZERS.values(),
        ExactLogDet, PowerSeries, RussianRoulette, FixedPoint, Sphere, Torus, Simplex,
        Phase, MaximumLikelihood, AnyGiven, FlowMatching, FreeForm, GeodesicPath, *PATHS.values(), *COUPLINGS.values(),
    )
}  # fmt: skip
"""What can be written; a frozen dataclass of your own can be added."""


def to_json(value: Any) -> Any:
    """Settings as `{"type": name, field: value}`, mappings and sequences by their items, the rest as it is.

    Raises:
        ValueError: A value that JSON cannot hold.

    Example:
        >>> import cnf
        >>> to_json(cnf.Hutchinson(probes=2))
        {'type': 'Hutchinson', 'probes': 2, 'noise': 'rademacher'}
    """
    if dataclasses.is_dataclass(value) and type(value).__name__ in SETTINGS:
        fields = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, float) and not math.isfinite(value):
        return {"type": "float", "value": str(value)}  # JSON has no word for it
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"cannot write {value!r} as JSON: options must be numbers, strings, lists or settings of cnf")


def from_json(value: Any) -> Any:
    """What `to_json` wrote; sequences come back as tuples.

    Raises:
        CheckpointError: A setting that is not known, or far too many steps.

    Example:
        >>> from_json({"type": "RungeKutta", "method": "rk4", "steps": 4}).steps
        4
    """
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    items = {key: from_json(item) for key, item in value.items() if key != "type"}
    if "type" not in value:
        return items
    if value["type"] == "float":
        return float(items["value"])
    if value["type"] not in SETTINGS:
        raise CheckpointError(f"unknown setting {value['type']!r}: known ones are {', '.join(SETTINGS)}")
    items = current_fields(value["type"], items)
    steps = items.get("steps")
    if isinstance(steps, int) and steps > MOST_STEPS:
        raise CheckpointError(f"steps must be at most {MOST_STEPS:,} in a file, got {steps:,}")
    return SETTINGS[value["type"]](**items)
