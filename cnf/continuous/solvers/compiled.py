"""Steps of solvers as compiled graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

import torch


@cache
def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of a solver through `torch.compile`: a graph for the first batch size, and one for all others.

    Raises:
        RuntimeError: When called, where there is no C++ compiler, or the field is not to be captured as a graph.
    """
    from torch._dynamo.exc import TorchDynamoException  # a second of imports that only this needs

    _fill_zero_tangents()
    many: dict[str, Any] = (
        {"recompile_limit": 1_000} if "recompile_limit" in signature(torch.compile).parameters else {}
    )
    fast = torch.compile(step, fullgraph=True, **many)  # many, since all fields with this solver share it

    def run(*arguments: Any) -> Any:
        try:
            return fast(*arguments)
        except TorchDynamoException as error:
            raise RuntimeError(
                "compile=True needs a C++ compiler (g++, clang++ or $CXX) and a field that torch.compile "
                f"captures in one graph: provide them, or take compile=False. torch said: {error}"
            ) from error

    return run


def _fill_zero_tangents() -> None:
    """Let compiled graphs hold plain zeros for the zeros of forward mode, whose tensors have no memory.

    Kernels refuse those, in the gradients of fields without closed forms.
    """
    from torch._inductor.decomposition import decompositions

    def zeros(size: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> torch.Tensor:
        return torch.zeros(size, dtype=dtype, device=device)

    decompositions.setdefault(torch.ops.aten._efficientzerotensor.default, zeros)
