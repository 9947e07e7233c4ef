"""A limit on what is built from a description that nobody has checked."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode


class NoLargerThan(TorchFunctionMode):
    """Within, modules much larger than given weights are refused before memory is taken for them.

    A tensor that a function is about to make is first made on the meta device, where only its shape is computed.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.numbers = 4 * sum(tensor.numel() for tensor in tensors.values()) + 2**20  # builders have use for some more
        self.parts = 10 * len(tensors) + 100  # the models here have three registrations a tensor
        self.hooks, self.thread = ExitStack(), threading.get_ident()

    def __enter__(self) -> NoLargerThan:
        for name in ("parameter", "buffer", "module"):
            register: Callable[..., Any] = getattr(registration, f"register_module_{name}_registration_hook")
            self.hooks.callback(register(self._count).remove)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.hooks.close()
        super().__exit__(*error)

    def _count(self, module: nn.Module, name: str, part: object) -> None:
        if threading.get_ident() != self.thread:
            return  # another thread builds something of its own
        self.parts -= 1
        self.numbers -= part.numel() if isinstance(part, Tensor) else 0
        if min(self.parts, self.numbers) < 0:
            raise ValueError("the model is larger than its weights")

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function in FACTORIES:
            plain = {name: value for name, value in kwargs.items() if name != "generator"}
            self._check(function(*args, **{**plain, "device": "meta"}))
        elif function in REPEATS:
            self._check(function(*(arg.to("meta") if isinstance(arg, Tensor) else arg for arg in args), **kwargs))
        shapes = [tensor.shape for tensor in args if isinstance(tensor, Tensor)]
        if len(shapes) > 1 and sum(map(math.prod, shapes)) ** 2 > self.numbers:
            self._check_shapes(shapes)
        return function(*args, **kwargs)

    def _check_shapes(self, shapes: Iterable[torch.Size]) -> None:
        try:
            shape = torch.broadcast_shapes(*shapes)
        except RuntimeError:  # no elementwise function
            return
        self._check(torch.empty(shape, device="meta"))

    def _check(self, tensor: Tensor) -> None:
        if tensor.numel() > self.numbers:
            raise ValueError(f"the model has tensors of shape {tuple(tensor.shape)}, more than all of its weights")


FACTORIES = {
    torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.randperm, torch.eye,
    torch.arange, torch.linspace,
}  # fmt: skip
REPEATS = {Tensor.repeat, Tensor.tile, torch.tile, Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full}
