"""Fields of continuous models: for vectors or images, and at rest at the start of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from cnf.continuous.fields import ConvField, MLPField, PotentialField
from cnf.models.assembly import is_image, size

Hidden = int | Sequence[int]
Field = TypeVar("Field", bound=MLPField | ConvField)
START = 0.1  # size of a potential that begins near zero: not at zero itself, where a quadratic form has no gradient


def smooth_field(
    dim: int, hidden: Hidden | None, *, context_dim: int, activation: str, time: str, residual: bool
) -> MLPField:
    """The field of the default model, at rest: up to three dimensions three layers of 64, beyond two of 128."""
    hidden = hidden or ((64, 64, 64) if dim <= 3 else (128, 128))
    field = MLPField(dim, hidden=hidden, context_dim=context_dim, activation=activation, time=time, residual=residual)
    return at_rest(field)


def field_of_events(
    event_shape: Sequence[int], hidden: Hidden, *, context_dim: int, activation: str | None, time: str
) -> MLPField | ConvField:
    """FFJORD's network: of convolutions and softplus for images, a multilayer perceptron with tanh for all else."""
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


def nearly_flat(field: PotentialField) -> PotentialField:
    """The potential with small weights: the published ones, 1 each, are a push of hundreds of nats."""
    with torch.no_grad():
        field.weight.mul_(START / len(field.weight))
        field.quadratic.mul_(START)
    return field
