"""Whether tensors that were read are those of a module."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def check_state(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Hold tensors that were read against those of a module: names, shapes, kinds of numbers, and finite values.

    Args:
        expected: State of the module.
        tensors: What was read.

    Raises:
        ValueError: They differ; the message names the first that does.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> check_state(layer.state_dict(), {"weight": torch.zeros(1, 3), "bias": torch.zeros(1)})
        Traceback (most recent call last):
        ValueError: weight must be (1, 2) of torch.float32, the file has (1, 3) of torch.float32
    """
    check_shapes(expected, tensors)
    for name, old in expected.items():
        new = tensors[name]
        if not new.isfinite().all() and (new.isnan().any() or old.isfinite().all()):
            raise ValueError(f"{name} has NaN or infinite values")
        if name.rpartition(".")[2] == "scale" and (new == 0).any() and (old != 0).all():
            raise ValueError(f"{name} has a scale of 0")


def check_shapes(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Hold names, shapes and kinds of numbers of tensors against those that are expected, whatever their values.

    Raises:
        ValueError: They differ; the message names the first that does.

    Example:
        >>> import torch
        >>> check_shapes({"weight": torch.zeros(2)}, {"bias": torch.zeros(2)})
        Traceback (most recent call last):
        ValueError: missing weights weight (1 in all)
    """
    for what, names in (("missing", expected.keys() - tensors.keys()), ("unknown", tensors.keys() - expected.keys())):
        if names:
            raise ValueError(f"{what} weights {', '.join(sorted(names)[:5])} ({len(names)} in all)")
    for name, old in expected.items():
        new = tensors[name]
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"{name} must be {tuple(old.shape)} of {old.dtype}, the file has {tuple(new.shape)} of {new.dtype}"
            )
