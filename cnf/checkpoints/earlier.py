"""What has changed since earlier versions: names of weights, options and settings, and defaults of models."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

WEIGHTS = ((re.compile(r"(^|\.)rest\."), r"\1transform."),)  # format 1, cnf 0.1
OPTIONS: dict[str, dict[str, str]] = {
    "planar": {"hyper": "hidden"},
    "radial": {"hyper": "hidden"},
    "planar_cnf": {"width": "units"},
}
FIELDS: dict[str, dict[str, str]] = {"Bottleneck": {"width": "hidden"}}


def with_current_names(tensors: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Weights under the names that the module expects; those that it knows under no name stay as they are.

    Example:
        >>> import torch
        >>> list(with_current_names({"0.rest.weight": torch.zeros(1)}, ["0.transform.weight"]))
        ['0.transform.weight']
    """
    return {_current(name, expected): tensor for name, tensor in tensors.items()}


def _current(name: str, expected: Collection[str]) -> str:
    names = (pattern.sub(new, name) for pattern, new in WEIGHTS)
    return name if name in expected else next((new for new in names if new in expected), name)


def current_options(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a model under their present names.

    Example:
        >>> current_options("planar", {"layers": 8, "hyper": 16})
        {'layers': 8, 'hidden': 16}
    """
    return _renamed(OPTIONS.get(model, {}), options)


def earlier_defaults(
    model: str, event_shape: Sequence[int], options: Mapping[str, Any], weights: Collection[str]
) -> dict[str, Any]:
    """Options whose defaults were others when the weights were written.

    The default model of cnf 0.1 made more than three columns normal one by one, and did not whiten them.

    Example:
        >>> earlier_defaults("cnf", (5,), {}, ["transform.transforms.1.knots"])
        {'preprocess': 'gaussianize'}
        >>> earlier_defaults("cnf", (5,), {}, ["transform.transforms.2.log_abs_det"])
        {}
    """
    table = len(event_shape) < 3 and math.prod(event_shape) > 3
    default = model == "cnf" and options.get("preprocess") is None and table
    whitened = any(name.endswith(".log_abs_det") for name in weights)
    return {"preprocess": "gaussianize"} if default and not whitened else {}


def current_fields(setting: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a setting, such as a solver, under their present names.

    Example:
        >>> current_fields("Bottleneck", {"width": 16, "probes": 1})
        {'hidden': 16, 'probes': 1}
    """
    return _renamed(FIELDS.get(setting, {}), fields)


def _renamed(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
