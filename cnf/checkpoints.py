"""Saving and loading: weights as safetensors, everything else as JSON that a person can read. No pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import DIVERGENCES
from cnf.continuous.regularizers import REGULARIZERS
from cnf.continuous.solvers import RandomEnd, RungeKutta, Torchdiffeq
from cnf.discrete.residual import ExactLogDet, FixedPoint, PowerSeries, RussianRoulette
from cnf.errors import CheckpointError
from cnf.files import read_json, read_state, read_tensors, write_bytes, write_json, write_pieces, write_state
from cnf.flows import Flow
from cnf.models import MODELS, build
from cnf.version import installed_version

__all__ = [
    "check_state", "load", "read_json", "read_state", "read_tensors", "save", "write_bytes", "write_json",
    "write_pieces", "write_state",
]  # fmt: skip

FORMAT = 1
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
}
NEEDED = ("model", "event_shape", "context_dim", "options", "dtype")
KNOWN = {*NEEDED, "format", "parameters", "versions", "weights_sha256", "description_sha256"}
MOST_STEPS = 1_000_000  # of a fixed grid in a file
SETTINGS = {
    setting.__name__: setting
    for setting in (
        RungeKutta, Torchdiffeq, RandomEnd, *DIVERGENCES.values(), *REGULARIZERS.values(),
        ExactLogDet, PowerSeries, RussianRoulette, FixedPoint,
    )
}  # fmt: skip

RENAMED = {
    "planar_cnf": {"width": "units"}, "planar": {"hyper": "hidden"}, "radial": {"hyper": "hidden"},
    "Bottleneck": {"width": "hidden"},
}  # fmt: skip
"""Options of models and fields of settings that 0.1 wrote under other names."""


def save(flow: Flow, folder: str | Path) -> Path:
    """Write a flow to `folder/model.json` and `folder/model.safetensors`.

    A flow that `cnf.build` made is described whole, and `load(folder)` makes it again. Of any other (put together by
    hand, or by `from_velocity`) the weights are written: build it again and give it to `load(folder, into=flow)`.
    Both files are written under temporary names and renamed, so a reader never sees half of one.

    Args:
        flow: What to save.
        folder: Where to; it is made if there is none.

    Returns:
        The folder.

    Raises:
        ValueError: Options that JSON cannot hold, or a state that is not made of tensors.
        OSError: A file cannot be written; the message names it.

    Example:
        >>> import tempfile, cnf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cnf.load(cnf.save(cnf.build("realnvp", 2), folder)).event_shape
        torch.Size([2])
    """
    folder = Path(folder)
    weights = dump_tensors(_state(flow))
    spec = flow.spec or {"name": None, "event_shape": flow.event_shape, "context_dim": None, "options": {}}
    description = {
        "format": FORMAT,
        "model": spec["name"],
        "event_shape": list(spec["event_shape"]),
        "context_dim": spec["context_dim"],
        "options": {} if flow.spec is None else {k: _to_json(v) for k, v in _options(flow, flow.spec).items()},
        "dtype": str(flow.base.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "versions": {"cnf": installed_version(), "torch": torch.__version__},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_bytes(folder / "model.safetensors", weights)
    write_json(folder / "model.json", {**description, "description_sha256": _digest(description)})
    return folder


def load(folder: str | Path, into: Flow | None = None) -> Flow:
    """Read a flow that `save` wrote, on the CPU.

    Sizes, kinds and values of the weights are compared with the description before memory is taken for it.

    Args:
        folder: What `save` left.
        into: A flow that takes the weights, on its device; needed for one that was built by hand.

    Raises:
        CheckpointError: Files are missing, truncated, damaged, or not of this format, or they do not fit `into`, which
            is then left as it was.
    """
    folder = Path(folder)
    path = folder / "model.json"
    description = _description(path)
    tensors = read_tensors(folder / "model.safetensors", description["weights_sha256"])
    if description["model"] is None and into is None:
        raise CheckpointError(
            f"{folder} holds the weights of a flow that cnf.build did not make: build it again and give it to "
            "cnf.load(folder, into=flow)"
        )
    try:
        flow = _built(description, tensors) if into is None else into
        check_state(flow.state_dict(), tensors)
        flow.load_state_dict(tensors)
    except Exception as error:  # a description may be wrong in any way, and fail anywhere
        whole = "the flow that is given" if into is not None else "the model that its model.json describes"
        raise CheckpointError(f"{folder} does not hold {whole}: {error}") from error
    if into is None and description.get("description_sha256", digest := _digest(description)) != digest:
        raise CheckpointError(
            f"{path} is not as cnf wrote it: restore it, or remove its description_sha256 if you changed it on purpose"
        )
    return flow


def check_state(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Hold tensors that were read against those of a module: names, shapes, kinds of numbers, and finite values.

    Raises:
        ValueError: They differ; the message names the first that does.
    """
    _check_shapes(expected, tensors)
    for name, old in expected.items():
        new = tensors[name]
        if not new.isfinite().all() and (new.isnan().any() or old.isfinite().all()):
            raise ValueError(f"{name} has NaN or infinite values")
        if name.rpartition(".")[2] == "scale" and (new == 0).any() and (old != 0).all():
            raise ValueError(f"{name} has a scale of 0")


def _check_shapes(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for what, names in (("missing", expected.keys() - tensors.keys()), ("unknown", tensors.keys() - expected.keys())):
        if names:
            raise ValueError(f"{what} weights {', '.join(sorted(names)[:5])} ({len(names)} in all)")
    for name, old in expected.items():
        new = tensors[name]
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"{name} must be {tuple(old.shape)} of {old.dtype}, the file has {tuple(new.shape)} of {new.dtype}"
            )


def _state(flow: Flow) -> dict[str, Tensor]:
    """The weights, each in memory of its own: networks may share some."""
    state = flow.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(f"only tensors can be saved, but {', '.join(strange)} of the state are none")
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _description(path: Path) -> dict[str, Any]:
    description = read_json(path)
    missing = [key for key in NEEDED if key not in description]
    if missing:
        raise CheckpointError(f"{path} is not a cnf model: it has no {', '.join(missing)}")
    version = description.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(f"{path} was written by a newer cnf (format {version!r}): upgrade cnf")
    if not isinstance(description.get("weights_sha256"), str):
        raise CheckpointError(f"{path} has no checksum of the weights (weights_sha256): restore it, or train again")
    unknown = description.keys() - KNOWN
    if unknown:
        raise CheckpointError(f"{path} is damaged: it has unknown entries {', '.join(sorted(unknown))}")
    return description


def _digest(description: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in description.items() if key != "description_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _built(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Flow:
    """The flow that is described, after its sizes were compared with those of the weights without taking memory."""
    if description["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {description['dtype']!r}")
    names = RENAMED.get(description["model"], {})
    options = {names.get(name, name): _from_json(value) for name, value in description["options"].items()}
    make = partial(build, description["model"], description["event_shape"], description["context_dim"], **options)
    with torch.device("meta"), _no_more_parameters_than(len(tensors)):
        empty = make()
    _check_shapes(empty.to(DTYPES[description["dtype"]]).state_dict(), tensors)
    return make().to(DTYPES[description["dtype"]])


@contextmanager
def _no_more_parameters_than(number: int) -> Iterator[None]:
    """Stop the building of a flow that has more parameters than there are weights, for it may have any number."""
    built = itertools.count(1)

    def count(module: nn.Module, name: str, parameter: Tensor) -> None:
        if next(built) > 2 * number + 10:  # a parameter may be registered again in another form
            raise ValueError("the model is larger than its weights")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _options(flow: Flow, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options it was built with; settings of its CNFs as they are now, for `reconfigure` may have changed them."""
    options = dict(spec["options"])
    known = MODELS[spec["name"]].options
    for module in flow.modules():
        if isinstance(module, CNF):
            now = {"solver": module.solver, "divergence": module.divergence, "regularizers": module.regularizers}
            options |= {name: value for name, value in now.items() if name in known}
    return options


def _to_json(value: Any) -> Any:
    """Settings as `{"type": name, field: value}`, mappings and sequences by their items, the rest as it is."""
    if dataclasses.is_dataclass(value) and type(value).__name__ in SETTINGS:
        fields = {field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"cannot write {value!r} as JSON: options must be numbers, strings, lists or settings of cnf")


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    items = {key: _from_json(item) for key, item in value.items() if key != "type"}
    if "type" not in value:
        return items
    if value["type"] not in SETTINGS:
        raise CheckpointError(f"unknown setting {value['type']!r}: known ones are {', '.join(SETTINGS)}")
    steps = items.get("steps")
    if isinstance(steps, int) and steps > MOST_STEPS:
        raise CheckpointError(f"steps must be at most {MOST_STEPS:,} in a file, got {steps:,}")
    names = RENAMED.get(value["type"], {})
    return SETTINGS[value["type"]](**{names.get(name, name): item for name, item in items.items()})
