"""Writing a flow: its description and its weights."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as dump_tensors
from torch import Tensor

from cnf.checkpoints.settings import to_json
from cnf.continuous.cnf import CNF
from cnf.files import write_bytes, write_json
from cnf.flows import Flow
from cnf.models import MODELS
from cnf.version import installed_version

FORMAT = 2


def save(flow: Flow, folder: str | Path) -> Path:
    """Write a flow to `folder/model.json` and `folder/model.safetensors`.

    A flow that `cnf.build` made is described whole, and `load(folder)` makes it again. Of any other (put together by
    hand, or by `from_velocity`) the weights are written: build it again and give it to `load(folder, into=flow)`.
    Both files are written under temporary names and renamed, so a reader never sees half of one.

    Args:
        flow: What to save. A recipe of its own is written where it consists of settings of cnf; a warning says if not.
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
    description = {
        "format": FORMAT,
        **_origin(flow),
        "dtype": str(flow.base.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "versions": {"cnf": installed_version(), "torch": torch.__version__},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_bytes(folder / "model.safetensors", weights)
    write_json(folder / "model.json", {**description, "description_sha256": digest_of(description)})
    return folder


def digest_of(description: Mapping[str, Any]) -> str:
    """The checksum of a description, without the entry for the checksum itself.

    Example:
        >>> digest_of({"model": "cnf"}) == digest_of({"model": "cnf", "description_sha256": "?"})
        True
    """
    rest = {key: value for key, value in description.items() if key != "description_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _origin(flow: Flow) -> dict[str, Any]:
    """How the flow was made, as far as that is known."""
    spec = flow.spec
    if spec is None:
        return {"model": None, "event_shape": list(flow.event_shape), "context_dim": None, "options": {}}
    return {
        "model": spec["name"],
        "event_shape": list(spec["event_shape"]),
        "context_dim": spec["context_dim"],
        "options": {name: to_json(value) for name, value in _options(flow, spec).items()},
        **_recipe(flow, spec["name"]),
    }


def _options(flow: Flow, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options it was built with; settings of its CNFs as they are now, for `reconfigure` may have changed them."""
    options = dict(spec["options"])
    known = MODELS[spec["name"]].options
    for module in flow.modules():
        if isinstance(module, CNF):
            now = {"solver": module.solver, "divergence": module.divergence, "regularizers": module.regularizers}
            options |= {name: value for name, value in now.items() if name in known}
    return options


def _recipe(flow: Flow, name: str) -> dict[str, Any]:
    """Its recipe, unless it is that of the model."""
    if flow.recipe == MODELS[name].recipe(flow):
        return {}
    try:
        return {"recipe": to_json(flow.recipe)}
    except ValueError as error:
        warnings.warn(f"flow.recipe is not saved, set it after loading: {error}", stacklevel=4)
        return {}


def _state(flow: Flow) -> dict[str, Tensor]:
    """The weights, each in memory of its own: networks may share some."""
    state = flow.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(f"only tensors can be saved, but {', '.join(strange)} of the state are none")
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
