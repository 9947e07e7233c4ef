"""Convolutional fields of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnf.arguments import Size, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.fields.interface import VectorField, context_of
from cnf.networks import ActivationName
from cnf.networks import activation as activation_by_name
from cnf.networks.residual import as_widths


@checked
class ConvField(VectorField):
    """A convolutional field for images, with FFJORD's ConcatSquash layers: one gate and one shift per channel.

    `ℓ(h, t) = conv(h) · sigmoid(g [t, context] + g_0) + s [t, context]`, with height and width kept.

    Args:
        event_shape: `(C, H, W)`.
        hidden: Channels of the hidden layers; an int is one layer.
        context_dim: Length of the context; 0 for none.
        activation: One of `cnf.networks.ACTIVATIONS`.
        kernel: Odd size of the kernels, in pixels.

    Raises:
        ValueError: `event_shape` is not `(C, H, W)`, or `kernel` is even.

    References:
        Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.

    Example:
        >>> import torch
        >>> field = ConvField((1, 4, 4), hidden=3)
        >>> field.extra_repr(), field(torch.tensor(0.5), torch.randn(5, 1, 4, 4)).shape
        ('event_shape=(1, 4, 4), context_dim=0', torch.Size([5, 1, 4, 4]))
    """

    def __init__(
        self,
        event_shape: Sizes,
        *,
        hidden: Widths = (64, 64, 64),
        context_dim: SizeOrZero = 0,
        activation: ActivationName = "softplus",
        kernel: Size = 3,
    ) -> None:
        super().__init__()
        if len(event_shape) != 3:
            raise ValueError(f"a convolutional field needs an event (C, H, W), got {tuple(event_shape)}")
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd to keep the resolution, got {kernel}")
        self.event_shape, self.context_dim = tuple(event_shape), context_dim
        self.activation = activation_by_name(activation)
        sizes = [event_shape[0], *as_widths(hidden), event_shape[0]]
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, kernel, padding=kernel // 2) for i, o in zip(sizes, sizes[1:], strict=False)
        )
        self.gates = nn.ModuleList(nn.Linear(1 + context_dim, o) for o in sizes[1:])
        self.shifts = nn.ModuleList(nn.Linear(1 + context_dim, o, bias=False) for o in sizes[1:])

    def extra_repr(self) -> str:
        return f"event_shape={self.event_shape}, context_dim={self.context_dim}"

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = context_of(self, context)
        time = t.reshape(-1, 1)
        read = time if context is None else torch.cat([time.expand(len(x), 1), context], 1)
        for i, (layer, gate, shift) in enumerate(zip(self.layers, self.gates, self.shifts, strict=True)):
            x = layer(self.activation.value(x) if i else x)
            x = x * gate(read).sigmoid()[..., None, None] + shift(read)[..., None, None]
        return x
