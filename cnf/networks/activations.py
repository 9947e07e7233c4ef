"""Activations by name, with their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.arguments import checked, one_of


class Activation(NamedTuple):
    """A scalar function `σ` and the pair `(σ(a), σ'(a))`, with the derivative in closed form.

    Attributes:
        value: Computes `σ(a)`.
        with_slope: Computes the pair `(σ(a), σ'(a))`.

    Example:
        >>> import torch
        >>> square = Activation(torch.square, lambda a: (a * a, 2 * a))
        >>> square.with_slope(torch.tensor([3.0]))
        (tensor([9.]), tensor([6.]))
    """

    value: Callable[[Tensor], Tensor]
    with_slope: Callable[[Tensor], tuple[Tensor, Tensor]]


def _tanh(a: Tensor) -> tuple[Tensor, Tensor]:
    h = a.tanh()
    return h, 1 - h * h


def softplus(a: Tensor) -> Tensor:
    """`log(1 + eᵃ)` to the precision of float64; `torch.nn.functional.softplus` has errors up to 2e-9.

    Args:
        a: Argument, of any shape.

    Example:
        >>> import torch
        >>> softplus(torch.zeros(1))
        tensor([0.6931])
    """
    return F.softplus(a, threshold=40.0)


def _softplus(a: Tensor) -> tuple[Tensor, Tensor]:
    return softplus(a), a.sigmoid()


def _silu(a: Tensor) -> tuple[Tensor, Tensor]:
    gate = a.sigmoid()
    h = a * gate
    return h, torch.addcmul(gate, h, 1 - gate)


def _elu(a: Tensor) -> tuple[Tensor, Tensor]:
    h = F.elu(a)
    return h, 1 + h.clamp(max=0)


def _relu(a: Tensor) -> tuple[Tensor, Tensor]:
    return a.relu(), (a > 0).to(a.dtype)


ACTIVATIONS = {
    "tanh": Activation(torch.tanh, _tanh),
    "softplus": Activation(softplus, _softplus),
    "silu": Activation(F.silu, _silu),
    "elu": Activation(F.elu, _elu),
}

CONDITIONER_ACTIVATIONS = {**ACTIVATIONS, "relu": Activation(torch.relu, _relu)}  # a field has to be smooth, these not

ActivationName = Annotated[str, one_of(ACTIVATIONS)]
ConditionerActivation = Annotated[str, one_of(CONDITIONER_ACTIVATIONS)]


@checked
def activation(name: str, known: Mapping[str, Activation] = ACTIVATIONS) -> Activation:
    """The activation with this name.

    Args:
        name: One of the known names.
        known: Activations by name.

    Raises:
        ValueError: The name is not among the known ones.

    Example:
        >>> import torch
        >>> activation("tanh").with_slope(torch.zeros(1))
        (tensor([0.]), tensor([1.]))
    """
    if name not in known:
        raise ValueError(f"unknown activation {name!r}: known ones are {', '.join(known)}")
    return known[name]
