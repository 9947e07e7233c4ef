"""Saving and loading: weights as safetensors, everything else as JSON that a person can read. No pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import DIVERGENCES
from cnf.continuous.regularizers import REGULARIZERS
from cnf.continuous.solvers import RandomEnd, RungeKutta, Torchdiffeq
from cnf.discrete.residual import ExactLogDet, FixedPoint, PowerSeries, RussianRoulette
from cnf.errors import CheckpointError
from cnf.flows import Flow
from cnf.models import MODELS, build

FORMAT = 1
SETTINGS = {
    setting.__name__: setting
    for setting in (
        RungeKutta, Torchdiffeq, RandomEnd, *DIVERGENCES.values(), *REGULARIZERS.values(),
        ExactLogDet, PowerSeries, RussianRoulette, FixedPoint,
    )
}  # fmt: skip


def save(flow: Flow, folder: str | Path) -> Path:
    """Write a flow that `cnf.build` made to `folder/model.json` and `folder/model.safetensors`.

    Both files are written under temporary names and renamed, so a reader never sees half of one.

    Returns:
        The folder.

    Raises:
        ValueError: The flow was not made by `cnf.build`, so nothing says how to make it again.
    """
    if flow.spec is None:
        raise ValueError(
            "only flows made by cnf.build can be saved, for nothing else says how to make them again: "
            "add your builder to cnf.MODELS and build by its name, or save flow.state_dict()"
        )
    folder = Path(folder)
    weights = dump_tensors({name: tensor.contiguous() for name, tensor in flow.state_dict().items()})
    description = {
        "format": FORMAT,
        "model": flow.spec["name"],
        "event_shape": list(flow.spec["event_shape"]),
        "context_dim": flow.spec["context_dim"],
        "options": {name: _to_json(value) for name, value in _options(flow, flow.spec).items()},
        "dtype": str(flow.base.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "versions": {"cnf": _version(), "torch": torch.__version__},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_bytes(folder / "model.safetensors", weights)
    write_json(folder / "model.json", description)
    return folder


def load(folder: str | Path) -> Flow:
    """Read a flow that `save` wrote, on the CPU.

    Raises:
        CheckpointError: Files are missing, truncated, damaged, or not of this format.
    """
    folder = Path(folder)
    description = read_json(folder / "model.json")
    missing = [key for key in ("model", "event_shape", "context_dim", "options", "dtype") if key not in description]
    if missing:
        raise CheckpointError(f"{folder / 'model.json'} is not a cnf model: it has no {', '.join(missing)}")
    try:
        if description.get("format", 0) > FORMAT:
            raise CheckpointError(f"{folder} was written by a newer cnf (format {description['format']}): upgrade cnf")
        options = {name: _from_json(value) for name, value in description["options"].items()}
        flow = build(description["model"], description["event_shape"], description["context_dim"], **options)
        flow = flow.to(getattr(torch, description["dtype"]))
        flow.load_state_dict(read_tensors(folder / "model.safetensors", description.get("weights_sha256")))
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder} does not hold the model that its model.json describes: {error}") from error
    return flow


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    data = _read(path)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{path} is not the file that model.json was written with: truncated, or of another run")
    try:
        return load_tensors(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: The file is missing, damaged or no object.
    """
    try:
        value = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged, it is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return value


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"there is no {path.name} in {path.parent}: is it a folder that cnf wrote?")
    return path.read_bytes()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    write_pieces(path, [data])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file piece by piece, whole or not at all: under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all; numbers that are not finite become null."""
    write_bytes(path, (json.dumps(_finite(value), indent=2, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file, whole or not at all."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, dump_tensors(ready, metadata={"facts": json.dumps(facts)}))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_state` wrote.

    Raises:
        CheckpointError: The file is missing, damaged or of another origin.
    """
    tensors = read_tensors(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "facts" not in metadata:
        raise CheckpointError(f"{path} is no checkpoint of a training run")
    return tensors, json.loads(metadata["facts"])


def _options(flow: Flow, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options it was built with; settings of its CNFs as they are now, for `reconfigure` may have changed them."""
    options = dict(spec["options"])
    known = inspect.signature(MODELS[spec["name"]]).parameters
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
    return SETTINGS[value["type"]](**items)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cnf")
    except PackageNotFoundError:
        return "unknown"
