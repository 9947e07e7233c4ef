"""Guidance: samples that are more clearly of their condition than the data are."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from cnf.arguments import NonNegative, checked
from cnf.continuous.cnf import CNF
from cnf.continuous.fields import VectorField
from cnf.twin import parts_of, twin

Module = TypeVar("Module", bound=nn.Module)


@checked
class GuidedField(VectorField):
    """A field pushed away from what it is without context: `f(t, x, c) + w (f(t, x, c) − f(t, x, 0))`.

    Args:
        field: A field with a context that was trained with some contexts left out, see `cnf.FlowMatching`.
        weight: w; 0 leaves the field as it is, 1 to 4 are usual.

    Raises:
        ValueError: The field has no context.

    References:
        Ho and Salimans 2022, Classifier-free guidance, arXiv 2207.12598.

    Example:
        >>> import torch, cnf
        >>> field = cnf.MLPField(2, context_dim=1)
        >>> GuidedField(field, weight=2.0)(torch.tensor(0.5), torch.zeros(3, 2), torch.ones(3, 1)).shape
        torch.Size([3, 2])
    """

    def __init__(self, field: VectorField, weight: NonNegative) -> None:
        super().__init__()
        if not field.context_dim:
            raise ValueError("guidance compares a field with its context to the same without, and this one has none")
        self.field, self.weight = field, weight
        self.context_dim, self.dim = field.context_dim, field.dim

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        given: Tensor = self.field(t, x, context)
        free: Tensor = self.field(t, x, None if context is None else torch.zeros_like(context))
        return given + self.weight * (given - free)


@checked
def guided(flow: Module, weight: NonNegative) -> Module:
    """A copy of a conditional flow that is guided, for sampling; it shares all parameters with the original.

    Samples are more clearly of their condition, and less diverse. They are no samples of the model: `log_prob` of the
    copy is the density of what it draws, and not a likelihood of the data.

    Args:
        flow: A flow with a context, trained by `cnf.FlowMatching(forget=0.1)`.
        weight: w of `GuidedField`.

    Raises:
        ValueError: The flow has no CNF, or no context.

    References:
        Ho and Salimans 2022, arXiv 2207.12598.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2, context_dim=1)
        >>> guided(flow, 2.0).sample(5, torch.ones(1)).shape
        torch.Size([5, 2])
    """
    if not parts_of(flow, CNF):
        raise ValueError(f"{type(flow).__name__} holds no CNF, so there is nothing to guide")
    return twin(flow, CNF, lambda part: {"field": GuidedField(part.field, weight)})
