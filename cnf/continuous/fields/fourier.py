"""Residual networks on sines of many frequencies."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from cnf.arguments import Size, SizeOrZero, between, checked
from cnf.continuous.chains import ChainLinearization
from cnf.continuous.fields.interface import VectorField, context_of
from cnf.continuous.fields.layers import LinearInTime, TimedLayer, linears
from cnf.networks import ActivationName
from cnf.networks import activation as activation_by_name

Frequency = Annotated[float, between(1, 1e6)]  # float32 knows no phase of faster waves


@checked
class FourierField(VectorField):
    """A residual network on sines of many frequencies.

    `h_0 = sin(Bx + β)`, `h_i = h_{i−1} + σ(W_i h_{i−1} + b_i + U_i [t, context])`, `g = V h_L + v`.

    Initially the rows of B have random directions and lengths from 1 to `frequency`, evenly spaced on a logarithmic
    scale. They are trained. Concentrated densities need high frequencies. V and v start at zero, and so does the field.

    Args:
        dim: Dimension of x.
        hidden: Width of all layers.
        depth: Number L of residual layers.
        context_dim: Length of the context; 0 for none.
        frequency: Initial length of the longest row of B, in radians per unit of x; from 1 to 1e6.
        activation: One of `cnf.networks.ACTIVATIONS`.

    Raises:
        ValueError: A size is below 1, `frequency` is outside [1, 1e6], or `activation` is unknown.

    References:
        Tancik et al. 2020, Fourier features, arXiv 2006.10739.

    Example:
        >>> import torch
        >>> field = FourierField(3, hidden=16)
        >>> field(torch.tensor(0.5), torch.randn(5, 3)).abs().max().item()
        0.0
    """

    def __init__(
        self,
        dim: Size,
        *,
        hidden: Size = 128,
        depth: Size = 2,
        context_dim: SizeOrZero = 0,
        frequency: Frequency = 8.0,
        activation: ActivationName = "silu",
    ) -> None:
        super().__init__()
        self.dim, self.context_dim = dim, context_dim
        self.activation = activation_by_name(activation)
        self.waves = nn.Linear(dim, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        self.shifts = nn.ModuleList(nn.Linear(1 + context_dim, hidden, bias=False) for _ in range(depth))
        self.last = nn.Linear(hidden, dim)
        self._start(frequency)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, context_dim={self.context_dim}"

    @torch.no_grad()
    def _start(self, frequency: float) -> None:
        rows = torch.randn_like(self.waves.weight)
        lengths = torch.logspace(0, math.log10(frequency), len(rows)).unsqueeze(1)
        self.waves.weight.copy_(lengths * rows / rows.norm(dim=1, keepdim=True))
        self.waves.bias.uniform_(-math.pi, math.pi)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def prepare(
        self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None
    ) -> list[TimedLayer]:
        context = context_of(self, context)
        return [
            TimedLayer(layer.weight, *LinearInTime.of(shift.weight, layer.bias, context))
            for layer, shift in zip(linears(self.layers), linears(self.shifts), strict=True)
        ]

    def velocity(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: list[TimedLayer] | None = None
    ) -> Tensor:
        h = self.waves(x).sin()
        for layer in prepared or self.prepare(context):
            h = h + self.activation.value(layer.output(t, h)[0])
        velocity: Tensor = self.last(h)
        return velocity

    def linearize(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: list[TimedLayer] | None = None
    ) -> ChainLinearization:
        prepared = prepared or self.prepare(context)
        phase = self.waves(x)
        h, scales = phase.sin(), [phase.cos()]
        for layer in prepared:
            step, slope = self.activation.with_slope(layer.output(t, h)[0])
            h = h + step
            scales.append(slope)
        weights = [self.waves.weight, *(layer.weight for layer in prepared), self.last.weight]
        return ChainLinearization(x, self.last(h), weights, scales, residual=True)
