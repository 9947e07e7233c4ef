"""A small U-Net as a field of images."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from cnf.arguments import Size, SizeOrZero, Sizes, checked
from cnf.continuous.fields.interface import VectorField, context_of
from cnf.networks import ActivationName
from cnf.networks import activation as activation_by_name

FREQUENCIES = 4  # of time, from half a wave over [0, 1] to four
GROUPS = 8  # of channels that are normalised together


@checked
class UNetField(VectorField):
    """A U-Net: residual convolutions at several resolutions, which read the time and the context in every block.

    `h + conv(a(norm(conv(a(norm(h)))) · (1 + γ(e)) + β(e)))`, with `e` an embedding of time and context. On the way
    down height and width are halved between resolutions, on the way up the blocks also read what was there on the way
    down. With `halvings=0` it is a residual network. The last layer starts at zero, so that nothing moves.

    Args:
        event_shape: `(C, H, W)`, with H and W divisible by `2**halvings`.
        hidden: Channels at the highest resolution; twice as many at the others.
        halvings: How often height and width are halved.
        blocks: Residual blocks at each resolution, on either way.
        context_dim: Length of the context; 0 for none.
        activation: One of `cnf.networks.ACTIVATIONS`.

    Raises:
        ValueError: `event_shape` is not `(C, H, W)`, or its sides cannot be halved so often.

    References:
        Ronneberger et al. 2015, arXiv 1505.04597; Ho et al. 2020, arXiv 2006.11239.

    Example:
        >>> import torch
        >>> field = UNetField((1, 4, 4), hidden=4)
        >>> field.extra_repr(), field(torch.tensor(0.5), torch.randn(5, 1, 4, 4)).shape
        ('event_shape=(1, 4, 4), context_dim=0', torch.Size([5, 1, 4, 4]))
    """

    def __init__(
        self,
        event_shape: Sizes,
        *,
        hidden: Size = 32,
        halvings: SizeOrZero = 1,
        blocks: Size = 1,
        context_dim: SizeOrZero = 0,
        activation: ActivationName = "silu",
    ) -> None:
        super().__init__()
        if len(event_shape) != 3:
            raise ValueError(f"a U-Net needs an event (C, H, W), got {tuple(event_shape)}")
        if any(side % 2**halvings for side in event_shape[1:]):
            raise ValueError(
                f"{halvings} halvings need height and width divisible by {2**halvings}, got {tuple(event_shape)}"
            )
        self.event_shape, self.context_dim = tuple(event_shape), context_dim
        self.activation = activation_by_name(activation)
        widths = [hidden] + [2 * hidden] * halvings
        embedded = 4 * hidden
        self.embedding = nn.ModuleList(
            [nn.Linear(2 * FREQUENCIES + context_dim, embedded), nn.Linear(embedded, embedded)]
        )
        stage = partial(_Stage, blocks=blocks, embedded=embedded, activation=activation)
        self.entry = nn.Conv2d(event_shape[0], hidden, 3, padding=1)
        self.down = nn.ModuleList(stage(i, o) for i, o in pairwise([hidden, *widths]))
        self.up = nn.ModuleList(stage(i + o, o) for i, o in pairwise(widths[::-1]))
        self.exit = nn.Conv2d(hidden, event_shape[0], 3, padding=1)
        for parameter in self.exit.parameters():
            nn.init.zeros_(parameter)

    def extra_repr(self) -> str:
        return f"event_shape={self.event_shape}, context_dim={self.context_dim}"

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        embedding = self._embedding(t, context_of(self, context))
        h, kept = self.entry(x), []
        for place, stage in enumerate(self.down):
            h = stage(avg_pool2d(h, 2) if place else h, embedding)
            kept.append(h)
        for stage, beside in zip(self.up, kept[-2::-1], strict=True):
            h = stage(torch.cat([interpolate(h, scale_factor=2.0), beside], 1), embedding)
        velocity: Tensor = self.exit(self.activation.value(h))
        return velocity

    def _embedding(self, t: Tensor, context: Tensor | None) -> Tensor:
        """Time and context for the blocks, `(N, E)`, or `(1, E)` where all rows have the same."""
        waves = math.pi * 2.0 ** torch.arange(FREQUENCIES, dtype=t.dtype, device=t.device) * t.reshape(-1, 1)
        read = torch.cat([waves.sin(), waves.cos()], 1)
        if context is not None:
            read = torch.cat([read.expand(len(context), -1), context], 1)
        first, second = self.embedding
        return self.activation.value(second(self.activation.value(first(read))))


class _Stage(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, inputs: int, outputs: int, *, blocks: int, embedded: int, activation: str) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.blocks = nn.ModuleList(_Block(i, o, embedded, activation) for i, o in pairwise(widths))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h, embedding)
        return h


class _Block(nn.Module):
    """Two convolutions beside the identity, scaled and shifted between them by an embedding."""

    def __init__(self, inputs: int, outputs: int, embedded: int, activation: str) -> None:
        super().__init__()
        self.activation = activation_by_name(activation)
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(GROUPS, width), width) for width in (inputs, outputs))
        self.convs = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1) for width in (inputs, outputs))
        self.modulation = nn.Linear(embedded, 2 * outputs)
        self.beside = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[..., None, None].chunk(2, 1)
        h = self.convs[0](self.activation.value(self.norms[0](x)))
        h = self.norms[1](h) * (1 + scale) + shift
        out: Tensor = self.beside(x) + self.convs[1](self.activation.value(h))
        return out
