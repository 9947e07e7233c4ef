"""A second device for machines that have none: tensors that compute on the CPU, but say that they are elsewhere.

Within `elsewhere()`, `torch.zeros(3, device=DEVICE)` and `module.to(DEVICE)` give such tensors. An operation that mixes
them with tensors of the CPU fails as it does on a GPU: only numbers (tensors without dimensions) may come from the CPU,
and only copies move data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

DEVICE = torch.device("meta")  # a name without a library behind it; no tensor of torch's own is made there
ATEN = torch.ops.aten
MIXING = {ATEN._to_copy.default, ATEN.copy_.default, ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default}


class There(Tensor):
    """A tensor of the CPU that says it is elsewhere."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        there = Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )
        there.here = torch.zeros(here.shape, dtype=here.dtype) if here._is_zerotensor() else here
        return there

    def __repr__(self) -> str:
        return f"There({self.here})"

    def tolist(self) -> Any:
        return self.here.tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> There:
        return There(torch.tensor(data, dtype=dtype or self.dtype))

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(function, args, kwargs or {})


def carried_out(function: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU, its result where its operands are."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(tensor, There) for tensor in tensors)
    strangers = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.dim()]
    if there and strangers and function not in MIXING:
        raise RuntimeError(f"{function} mixes devices: {[tuple(tensor.shape) for tensor in strangers]} are on the CPU")
    device = kwargs.get("device")
    goal = there if device is None else torch.device(device) == DEVICE
    generator = kwargs.get("generator")
    if generator is not None and goal:
        raise RuntimeError(f"{function} takes a generator of the CPU to another device")
    if goal and device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args_here, kwargs_here = tree_map_only(There, lambda tensor: tensor.here, (args, kwargs))
    result = function(*args_here, **kwargs_here)
    result = tree_map_only(Tensor, There, result) if goal else result
    return return_and_correct_aliasing(function, args, kwargs, result) if goal and there else result


class Operations(TorchDispatchMode):
    """Tensors that an operation makes on `DEVICE` are `There`."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(function, args, kwargs or {})


class Constructors(TorchFunctionMode):
    """What torch makes of numbers is no operation: tensors on `DEVICE` are `There`, lists that index on the CPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            made = function(*args, **{**kwargs, "device": None})
            return made if isinstance(made, There) else There(made)
        if function is Tensor.__getitem__:
            args = tree_map(lambda part: torch.tensor(part).long() if is_list(part) else part, args, is_leaf=is_list)
        return function(*args, **kwargs)


def is_list(part: object) -> bool:
    return isinstance(part, list)


@contextmanager
def elsewhere() -> Iterator[None]:
    """What is made on `DEVICE` within the block is elsewhere."""
    with Operations(), Constructors():
        yield


def moved(module: nn.Module) -> nn.Module:
    """The module with its parameters and buffers elsewhere."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(There(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = There(buffer)
    return module
