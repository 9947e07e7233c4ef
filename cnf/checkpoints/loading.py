"""Reading a flow: what a file says is compared with something else before it is used."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cnf.checkpoints.checking import check_shapes, check_state
from cnf.checkpoints.earlier import current_options, earlier_defaults, with_current_names
from cnf.checkpoints.saving import FORMAT, digest_of
from cnf.checkpoints.settings import from_json
from cnf.errors import CheckpointError
from cnf.files import read_json, read_tensors
from cnf.flows import Flow
from cnf.models import build

DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
}
NEEDED = ("model", "event_shape", "context_dim", "options", "dtype")
KNOWN = {*NEEDED, "format", "recipe", "parameters", "versions", "weights_sha256", "description_sha256"}


def load(folder: str | Path, into: Flow | None = None) -> Flow:
    """Read a flow that `save` wrote, in this version or an earlier one, on the CPU.

    Sizes, kinds and values of the weights are compared with the description before memory is taken for it.

    Args:
        folder: What `save` left.
        into: A flow that takes the weights, on its device; needed for one that was built by hand.

    Returns:
        The flow, with the recipe that it had; or `into`, which keeps its own.

    Raises:
        CheckpointError: Files are missing, truncated, damaged, or not of this format, or they do not fit `into`, which
            is then left as it was.

    Example:
        >>> import tempfile, torch, cnf
        >>> def by_hand():
        ...     return cnf.Flow(cnf.CNF(cnf.MLPField(2)), cnf.StandardNormal(2))
        >>> flow = by_hand()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     twin = cnf.load(cnf.save(flow, folder), into=by_hand())
        >>> bool((twin.log_prob(torch.zeros(1, 2)) == flow.log_prob(torch.zeros(1, 2))).all())
        True
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
        tensors = with_current_names(tensors, flow.state_dict())
        check_state(flow.state_dict(), tensors)
        flow.load_state_dict(tensors)
    except Exception as error:  # a description may be wrong in any way, and fail anywhere
        whole = "the flow that is given" if into is not None else "the model that its model.json describes"
        raise CheckpointError(f"{folder} does not hold {whole}: {error}") from error
    if into is None and description.get("description_sha256", digest := digest_of(description)) != digest:
        raise CheckpointError(
            f"{path} is not as cnf wrote it: restore it, or remove its description_sha256 if you changed it on purpose"
        )
    return flow


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


def _built(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Flow:
    """The flow that is described, after its sizes were compared with those of the weights without taking memory."""
    if description["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {description['dtype']!r}")
    name, dtype = description["model"], DTYPES[description["dtype"]]
    options = from_json(current_options(name, description["options"]))
    shape = description["event_shape"]
    options |= earlier_defaults(name, shape, options, tensors)
    make = partial(build, name, shape, description["context_dim"], **options)
    with torch.device("meta"), _no_more_parameters_than(len(tensors)):
        empty = make().to(dtype).state_dict()
    check_shapes(empty, with_current_names(tensors, empty))
    flow = make().to(dtype)
    if "recipe" in description:
        flow.recipe = from_json(description["recipe"])
    return flow


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
