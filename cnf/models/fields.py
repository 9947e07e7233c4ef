"""Fields of continuous models: for vectors or images, and at rest at the start of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from cnf.arguments import Size, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.fields import ConvField, MLPField, PotentialField, TimeName
from cnf.models.assembly import is_image, size
from cnf.networks import ActivationName

Hidden = int | Sequence[int]
Field = TypeVar("Field", bound=MLPField | ConvField)
START = 0.1  # size of a potential that begins near zero: not at zero itself, where a quadratic form has no gradient


@checked
def smooth_field(
    dim: Size,
    hidden: Widths | None = None,
    *,
    context_dim: SizeOrZero = 0,
    activation: ActivationName = "silu",
    time: TimeName = "concat",
    residual: bool = False,
) -> MLPField:
    """The field of the default model, at rest: up to three dimensions three layers of 64, beyond two of 128.

    Example:
        >>> import torch
        >>> field = smooth_field(5)
        >>> len(field.layers), field(torch.tensor(0.5), torch.ones(1, 5)).detach().abs()
        (3, tensor([[0., 0., 0., 0., 0.]]))
    """
    hidden = hidden or ((64, 64, 64) if dim <= 3 else (128, 128))
    field = MLPField(dim, hidden=hidden, context_dim=context_dim, activation=activation, time=time, residual=residual)
    return at_rest(field)


@checked
def field_of_events(
    event_shape: Sizes,
    hidden: Widths = (64, 64, 64),
    *,
    context_dim: SizeOrZero = 0,
    activation: ActivationName | None = None,
    time: TimeName = "concat",
) -> MLPField | ConvField:
    """FFJORD's network: of convolutions and softplus for images, a multilayer perceptron with tanh for all else.

    Example:
        >>> type(field_of_events((1, 4, 4), (8,))).__name__, type(field_of_events((2,))).__name__
        ('ConvField', 'MLPField')
    """
    if is_image(event_shape):
        return ConvField(event_shape, hidden=hidden, context_dim=context_dim, activation=activation or "softplus")
    dim, activation = size(event_shape), activation or "tanh"
    return MLPField(dim, hidden=hidden, context_dim=context_dim, activation=activation, time=time)


def at_rest(field: Field) -> Field:
    """The field with the last layer's weights, bias and, where it has one, shift at zero, so that nothing moves."""
    for module in (field.layers[-1], *field.shifts[-1:]):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    return field


@checked
def nearly_flat(field: PotentialField) -> PotentialField:
    """The potential with small weights: the published ones, 1 each, are a push of hundreds of nats."""
    with torch.no_grad():
        field.weight.mul_(START / len(field.weight))
        field.quadratic.mul_(START)
    return field
