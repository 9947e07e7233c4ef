"""Multilayer perceptrons as fields, with closed-form derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from cnf.arguments import Size, SizeOrZero, Widths, checked, one_of
from cnf.continuous.chains import ChainLinearization, Probed, TraceForm, probed, trace_form
from cnf.continuous.fields.interface import VectorField, context_of
from cnf.continuous.fields.layers import GatedLayer, Layer, LinearInTime, TimedLayer, linears
from cnf.networks import ActivationName
from cnf.networks import activation as activation_by_name
from cnf.networks.residual import as_widths

TimeName = Annotated[str, one_of(("concat", "concatsquash"))]


class Prepared(NamedTuple):
    """What an `MLPField` computes once per solve."""

    layers: Sequence[Layer]
    form: TraceForm | None
    probed: Probed | None


@checked
class MLPField(VectorField):
    """A multilayer perceptron of `x`, time and context, with closed-form derivatives.

    `h_1 = σ(ℓ_0(x, t))`, `h_{i+1} = [h_i +] σ(ℓ_i(h_i, t))`, `f = ℓ_L(h_L, t)`. With `time="concat"` the first
    layer reads `[x, t, context]`; with `time="concatsquash"` every layer is FFJORD's
    `ℓ(h, t) = (W h + b) · sigmoid(g t + g_0) + s t`. There the context is an input of all gates and shifts, as time
    is, except for the gate of the last layer: this keeps the closed form of the trace cheap with a context.

    Args:
        dim: Dimension of x.
        hidden: Widths of the hidden layers; an int is one layer.
        context_dim: Length of the context; 0 for none.
        activation: One of `cnf.networks.ACTIVATIONS`.
        time: "concat" or "concatsquash".
        residual: Whether hidden layers after the first add their result to their input; needs equal widths.

    Raises:
        ValueError: A size is below 1, an option is unknown, or `residual` is set with different widths.

    References:
        Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.

    Example:
        >>> import torch
        >>> field = MLPField(2, hidden=(8, 8), context_dim=1)
        >>> t, x, context = torch.tensor(0.5), torch.randn(5, 2), torch.randn(5, 1)
        >>> field(t, x, context).shape, field.linearize(t, x, context).trace().shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    dim: int

    def __init__(
        self,
        dim: Size,
        *,
        hidden: Widths = (64, 64),
        context_dim: SizeOrZero = 0,
        activation: ActivationName = "tanh",
        time: TimeName = "concat",
        residual: bool = False,
    ) -> None:
        super().__init__()
        hidden = as_widths(hidden)
        if residual and len(set(hidden)) > 1:
            raise ValueError(f"a residual field needs hidden layers of one width, got {hidden}")
        self.dim, self.context_dim, self.residual = dim, context_dim, residual
        self.activation = activation_by_name(activation)
        squash = time == "concatsquash"
        read = dim if squash else dim + 1 + context_dim
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip([read, *hidden], [*hidden, dim], strict=True))
        widths = [*hidden, dim] if squash else []
        self.shifts = nn.ModuleList(nn.Linear(1 + context_dim, width, bias=False) for width in widths)
        self.gates = nn.ModuleList(
            nn.Linear(1 + context_dim * (i < len(hidden)), width) for i, width in enumerate(widths)
        )

    def extra_repr(self) -> str:
        return f"dim={self.dim}, context_dim={self.context_dim}, residual={self.residual}"

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """False for a gated network with two hidden layers in more than 3 dimensions, whose trace would cost more.

        Where each row has a gate of its own behind the last layer, no closed form costs less than D products.
        """
        return not self.gates or self.dim <= 3 or len(self.layers) != 3

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Prepared | None = None) -> Tensor:
        layers = (prepared or self.prepare(context)).layers
        h = self.activation.value(layers[0].output(t, x)[0])
        for layer in layers[1:-1]:
            step = self.activation.value(layer.output(t, h)[0])
            h = h + step if self.residual else step
        return layers[-1].output(t, h)[0]

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Prepared:
        layers = self._layers(context)
        if self.gates:  # the last one moves with time, and closed forms with it
            return Prepared(layers, None, None)
        weights = [layer.weight for layer in layers]
        form = trace_form(weights, residual=self.residual) if trace else None
        return Prepared(layers, form, None if probe is None else probed(weights, probe))

    def linearize(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Prepared | None = None
    ) -> ChainLinearization:
        prepared = prepared or self.prepare(context)
        layers = prepared.layers
        h, scales = x, []
        for i, layer in enumerate(layers[:-1]):
            a, gate = layer.output(t, h)
            step, slope = self.activation.with_slope(a)
            scales.append(slope if gate is None else slope * gate)
            h = h + step if self.residual and i else step
        velocity, gate = layers[-1].output(t, h)
        weights = [layer.weight for layer in layers]
        return ChainLinearization(
            x, velocity, weights, scales, gate=gate, residual=self.residual, form=prepared.form, probed=prepared.probed
        )

    def along(
        self, t: Tensor, x: Tensor, v: Tensor, context: Tensor | None = None, prepared: Prepared | None = None
    ) -> Tensor:
        h, layers = x, (prepared or self.prepare(context)).layers
        for i, layer in enumerate(layers[:-1]):
            a, rate = layer.along(t, h, v)
            step, slope = self.activation.with_slope(a)
            h, v = (h + step, v + slope * rate) if self.residual and i else (step, slope * rate)
        return layers[-1].along(t, h, v)[1]

    def _layers(self, context: Tensor | None) -> Sequence[Layer]:
        context = context_of(self, context)
        if self.gates:
            return self._gated(context)
        first, *rest = linears(self.layers)
        head = LinearInTime.of(first.weight[:, self.dim :], first.bias, context)
        return [
            TimedLayer(first.weight[:, : self.dim], *head),
            *(TimedLayer(layer.weight, layer.bias) for layer in rest),
        ]

    def _gated(self, context: Tensor | None) -> list[GatedLayer]:
        made = []
        for linear, gate, shift in zip(linears(self.layers), linears(self.gates), linears(self.shifts), strict=True):
            moving = LinearInTime.of(gate.weight, gate.bias, context)
            zeros = torch.zeros_like(linear.bias)
            made.append(GatedLayer(linear.weight, linear.bias, moving, LinearInTime.of(shift.weight, zeros, context)))
        return made
