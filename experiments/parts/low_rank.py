"""FFJORD's amortised field: a multilayer perceptron whose weights a context moves by matrices of low rank."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

import cnf


class Moved(NamedTuple):
    """What the context adds to a layer: `U Vᵀ` to its weight, and to its bias."""

    left: Tensor  # (N, out, rank)
    right: Tensor  # (N, rank, in)
    bias: Tensor  # (N, out)


class LowRankLayer(nn.Module):
    """`(W + U(c) V(c)ᵀ) h + b(c)`; at the start U = 0."""

    def __init__(self, inputs: int, outputs: int, context_dim: int, rank: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.left, self.right = nn.Linear(context_dim, outputs * rank), nn.Linear(context_dim, rank * inputs)
        self.bias, self.rank = nn.Linear(context_dim, outputs), rank
        for parameter in (*self.left.parameters(), *self.bias.parameters()):
            nn.init.zeros_(parameter)
        nn.init.normal_(self.right.bias, std=inputs**-0.5)  # the gradient of U is not to wait for V

    def moved(self, context: Tensor) -> Moved:
        left = self.left(context).unflatten(1, (-1, self.rank))
        return Moved(left, self.right(context).unflatten(1, (self.rank, -1)), self.bias(context))

    def forward(self, h: Tensor, by: Moved) -> Tensor:
        turned = by.left @ (by.right @ h.unsqueeze(2))
        return linear(h, self.linear.weight, self.linear.bias) + turned.squeeze(2) + by.bias


class LowRankField(cnf.VectorField):
    """`f(t, x) = ℓ₂ σ(ℓ₁ σ(ℓ₀(x, t)))`, at rest at the start; traces by one product a dimension, or by probes."""

    def __init__(self, dim: int, hidden: int, context_dim: int, rank: int) -> None:
        super().__init__()
        self.dim, self.context_dim = dim, context_dim
        sizes = ((dim + 1, hidden), (hidden, hidden), (hidden, dim))
        self.layers = nn.ModuleList(LowRankLayer(i, o, context_dim, rank) for i, o in sizes)
        for parameter in self.layers[-1].linear.parameters():
            nn.init.zeros_(parameter)

    def prepare(
        self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None
    ) -> list[Moved]:
        if context is None:
            raise ValueError("the weights of this field are made from a context, and there is none")
        return [layer.moved(context) for layer in self.layers]

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def velocity(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: list[Moved] | None = None
    ) -> Tensor:
        moved = prepared or self.prepare(context)
        time = t.expand(len(x)).unsqueeze(1).to(x)
        h = torch.cat([x, time], 1)
        for layer, by in zip(self.layers[:-1], moved, strict=False):
            h = silu(layer(h, by))
        velocity: Tensor = self.layers[-1](h, moved[-1])
        return velocity
