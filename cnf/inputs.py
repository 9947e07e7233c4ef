"""Checks of what a flow is given: shapes, dtypes, devices and values."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor

from cnf.tracing import rows_with

ONE_WIDTH = "the base and all transforms of a flow must be of one width"
PRECISIONS = (torch.float32, torch.float64)


class Like(Protocol):
    """Something with the dtype and device that data must have, such as a base density."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...


def as_shape(shape: int | Sequence[int]) -> torch.Size:
    """An int as a shape of one dimension; a shape as it is.

    Raises:
        TypeError: It does not consist of whole numbers.
        ValueError: One of them is negative.

    Example:
        >>> as_shape(5), as_shape((4, 3))
        (torch.Size([5]), torch.Size([4, 3]))
    """
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else (shape,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) for size in sizes):
        raise TypeError(f"the number of samples must be an int or a shape, such as 5 or (4, 3), got {shape!r}")
    whole = torch.Size([int(size) for size in sizes])
    if any(size < 0 for size in whole):
        raise ValueError(f"the number of samples must not be negative, got {shape!r}")
    return whole


def batch_shape(name: str, x: Tensor, event: torch.Size, like: Like) -> torch.Size:
    """The batch shape of data `(*batch, *event)`.

    Raises:
        TypeError: It is not a tensor.
        ValueError: Another event shape, dtype or device.
    """
    require_kind(name, x, like)
    batch = x.dim() - len(event)
    if batch < 0 or x.shape[batch:] != event:
        raise ValueError(f"{name} must have shape (*batch, {', '.join(map(str, event))}), got {tuple(x.shape)}")
    return x.shape[:batch]


def context_rows(context: Tensor | None, batch: torch.Size, expected: int | None, like: Like) -> Tensor | None:
    """The context of a batch as transforms see it, `(N, C)` or None.

    Args:
        context: `(*batch, C)`, or a shape that broadcasts to it.
        batch: The batch shape of the data.
        expected: C; 0 for unconditional flows, None if it is not known.
        like: Has the right dtype and device.

    Raises:
        TypeError: It is not a tensor.
        ValueError: A missing or unexpected context; another shape, dtype or device; NaN or infinite values.
    """
    if context is None and not expected:
        return None
    context = require_context(context, "flow", expected, batch="*batch")
    require_kind("context", context, like)
    if expected == 0:
        raise ValueError(f"this flow takes no context, got one of shape {tuple(context.shape)}")
    width = expected or (context.shape[-1] if context.dim() else 1)
    try:
        if context.shape[-1:] != (width,):  # one column would broadcast to all
            raise ValueError
        rows = context.expand(*batch, width).reshape(-1, width)
    except (RuntimeError, ValueError) as error:
        wanted = f"({', '.join(map(str, (*batch, width)))})"
        raise ValueError(f"context must have shape {wanted} or broadcast to it, got {tuple(context.shape)}") from error
    require_values("context", rows)
    return rows


def sample_context_rows(context: Tensor | None, shape: torch.Size, expected: int | None, like: Like) -> Tensor | None:
    """The context of samples of a shape, `(N, C)` or None; see `context_rows`.

    Raises:
        ValueError: As there. If there are conditions for another number of samples, the message says what to call.
    """
    try:
        return context_rows(context, shape, expected, like)
    except ValueError as error:
        if context is None or context.dim() < 2 or context.shape[-1:] != (expected,):
            raise
        raise ValueError(
            f"{error}; for {tuple(shape)} samples of each of the {context.shape[:-1].numel()} conditions, call "
            f"flow.distribution(context).sample({tuple(shape)})"
        ) from error


def require_context(context: Tensor | None, owner: str, expected: int | None, batch: str = "N") -> Tensor:
    """The context, where there must be one.

    Args:
        context: `(N, C)`, or None.
        owner: The word for the object that reads it.
        expected: C; None if it is not known.
        batch: Its batch shape, in words.

    Raises:
        ValueError: There is none.
    """
    if context is None:
        raise ValueError(f"this {owner} is conditional: give a context of shape ({batch}, {expected or 'C'})")
    return context


def require_vectors(x: Tensor, dim: int) -> None:
    """Refuse what is not `(N, dim)`, as transforms of vectors see their points.

    Raises:
        ValueError: Another shape.
    """
    if x.dim() != 2 or x.shape[1] != dim:
        raise ValueError(
            f"expected vectors (N, {dim}), got {tuple(x.shape)}: {ONE_WIDTH}; to a Flow any batch shape can be given, "
            "and to a layer in Flatten events of any shape"
        )


def require_event(x: Tensor, event_shape: torch.Size) -> None:
    """Refuse what is not `(N, *event_shape)`.

    Raises:
        ValueError: Another shape.
    """
    if x.shape[1:] != event_shape:
        expected = ", ".join(map(str, event_shape))
        raise ValueError(f"expected events (N, {expected}), got {tuple(x.shape)}: {ONE_WIDTH}")


def require_features(x: Tensor, features: int) -> None:
    """Refuse what is not `(N, features, …)`, as transforms along the first axis of an event see their points.

    Raises:
        ValueError: Another shape.
    """
    if x.dim() < 2 or x.shape[1] != features:
        raise ValueError(
            f"expected events of {features} features, (N, {features}, ...), got {tuple(x.shape)}: {ONE_WIDTH}"
        )


def require_precision(like: Like) -> None:
    """Refuse all dtypes but float32 and float64.

    Raises:
        ValueError: 16-bit, complex or whole numbers.
    """
    if like.dtype not in PRECISIONS:
        raise ValueError(
            f"this flow is {like.dtype}, but densities are computed in float32 or float64: call flow.float() or "
            "flow.double(); to train with 16-bit matrix products, give cnf.FitConfig(precision='bf16-mixed')"
        )


def require_kind(name: str, tensor: Tensor, like: Like) -> None:
    """Refuse a tensor of another dtype or device than a flow.

    Raises:
        TypeError: It is not a tensor.
        ValueError: Another dtype or device.
    """
    require_precision(like)
    if not isinstance(tensor, Tensor):
        kind = f"torch.as_tensor({name}, dtype={like.dtype})"
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}: give {kind}")
    if tensor.is_complex():
        raise ValueError(
            f"{name} is {tensor.dtype}, but a flow is a density of real numbers: give real and imaginary parts as "
            f"dimensions of their own, torch.view_as_real({name})"
        )
    if tensor.dtype != like.dtype:
        other = f" or the flow with flow.to({tensor.dtype})" if tensor.dtype in PRECISIONS else ""
        raise ValueError(
            f"{name} is {tensor.dtype}, but the flow computes in {like.dtype}: "
            f"convert the data with {name}.to({like.dtype}){other}"
        )
    if tensor.device != like.device:
        raise ValueError(
            f"{name} is on {tensor.device}, but the flow is on {like.device}: move one of them with .to(device)"
        )


def require_values(name: str, rows: Tensor) -> None:
    """Refuse NaN and infinite values in rows `(N, …)`; the message names the rows.

    Raises:
        ValueError: There are such values, and values are known (see `cnf.tracing`).
    """
    bad = rows_with(~rows.isfinite())
    if bad:
        raise ValueError(
            f"{name} has NaN or infinite values in {len(bad)} of {len(rows)} rows, first in rows {bad[:5]}: "
            "remove or impute them"
        )
