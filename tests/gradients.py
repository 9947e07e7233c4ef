"""Gradients of transforms against finite differences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnf import Transform


class Call(nn.Module):
    """One direction of a transform as the `forward` of a module."""

    def __init__(self, transform: Transform, method: str) -> None:
        super().__init__()
        self.transform, self.method = transform, method

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        mapped = getattr(self.transform, self.method)(*inputs)
        return mapped.value, mapped.log_det


def gradcheck(transform: Transform, method: str, *inputs: Tensor, **tolerances: float) -> bool:
    """Whether gradients of value and log-determinant, in the inputs and all parameters, are those of differences."""
    call = Call(transform, method)
    names, values = zip(*call.named_parameters(), strict=True)
    inputs = tuple(x.detach().requires_grad_() for x in inputs)

    def run(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        parameters = dict(zip(names, arguments[len(inputs) :], strict=True))
        return torch.func.functional_call(call, parameters, arguments[: len(inputs)])

    return torch.autograd.gradcheck(run, (*inputs, *values), **tolerances)
