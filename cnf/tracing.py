"""Whether the values of tensors are known: they are not while a function is exported, compiled or run by `vmap`."""

from __future__ import annotations

import torch
from torch import Tensor

BATCH = "call the flow on a batch, for which it gives each row its own value"
FIXED = f"take a fixed grid, cnf.reconfigure(flow, solver=cnf.RungeKutta('rk4', steps=16)), or {BATCH}"


def visible(*tensors: Tensor) -> bool:
    """Whether Python may branch on values; if not, checks of values are skipped.

    Example:
        >>> import torch
        >>> visible(torch.zeros(2))
        True
        >>> torch.func.vmap(lambda x: x + visible(x))(torch.zeros(2))
        tensor([0., 0.])
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not traced and not any(map(_batched, tensors))


def rows_with(bad: Tensor) -> list[int]:
    """The rows of `(N, …)` in which an element is true; none if values are not known.

    Example:
        >>> import torch
        >>> rows_with(torch.tensor([[1.0, 2.0], [3.0, float("nan")]]).isnan())
        [1]
    """
    if not visible(bad) or not bad.any():
        return []
    rows: list[int] = (bad if bad.dim() == 1 else bad.flatten(1).any(1)).nonzero().flatten().tolist()
    return rows


def require_visible(*tensors: Tensor, what: str, remedy: str) -> None:
    """Refuse an algorithm that branches on values if they are not known.

    Args:
        tensors: The tensors whose values it needs.
        what: The algorithm, as the subject of "needs the values of tensors".
        remedy: What to do instead.

    Raises:
        TypeError: The values are not known.
    """
    if not visible(*tensors):
        raise TypeError(f"{what} needs the values of tensors, which vmap and torch.export hide: {remedy}")


def _batched(x: Tensor) -> bool:
    """Whether `vmap` has taken away a dimension, on any level of `torch.func`."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False
