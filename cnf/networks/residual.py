"""Conditioners: networks that compute the parameters of a transform."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from cnf.arguments import Rule, Size, SizeOrZero, Widths, checked
from cnf.inputs import require_context
from cnf.networks.activations import CONDITIONER_ACTIVATIONS, ConditionerActivation
from cnf.networks.activations import activation as activation_by_name

Layer = nn.Linear | nn.Conv2d


class Conditioner(nn.Module, ABC):
    """A network that computes the parameters of a transform from an input and, optionally, a context.

    To write one, define `forward(x, context=None)`; set `context_dim` if it uses a context.

    Attributes:
        context_dim: Length of the context; 0 for none.

    Example:
        >>> import torch, cnf
        >>> class Powers(cnf.networks.Conditioner):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(2, 2)
        ...
        ...     def forward(self, x, context=None):
        ...         return self.layer(torch.cat((x, x**2), 1))
        >>> from cnf.discrete import AffineMap, CouplingLayer, half
        >>> CouplingLayer(AffineMap(), Powers(), half(2)).encode(torch.zeros(3, 2)).value.shape
        torch.Size([3, 2])
    """

    context_dim: int = 0

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The parameters, `(N, outputs, …)`.

        Args:
            x: `(N, inputs, …)`.
            context: `(N, C)` or None.
        """


@checked
class ResidualNet(Conditioner, ABC):
    """Hidden layers, then residual blocks, with an activation before every layer except the first.

    `h = W₀ x + V c + b₀`, `h ← W σ(h) + b` for further hidden layers, `h ← h + W₂ σ(W₁ σ(h) + b₁) + b₂` for each block,
    `y = W σ(h) + b`. The last layer starts at zero, so that a flow starts at the identity.

    Args:
        layers: The hidden layers, at least one.
        blocks: For each block its two layers.
        last: The output layer.
        context_dim: Length of the context c; 0 for none.
        activation: σ, one of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        angles: Whether x are angles in radians; the first layer then reads `circular(x)`, so that the network is a
            continuous function on the torus.

    Raises:
        ValueError: `layers` is empty, or `activation` is unknown; in use, the context is missing.

    Example:
        >>> import torch
        >>> first, last = torch.nn.Linear(3, 8), torch.nn.Linear(8, 2)
        >>> block = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)]
        >>> net = ResidualNet([first], [block], last, context_dim=0, activation="relu")
        >>> net(torch.ones(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        layers: Annotated[Sequence[Layer], Rule("", len)],
        blocks: Sequence[Sequence[Layer]],
        last: Layer,
        *,
        context_dim: SizeOrZero,
        activation: ConditionerActivation,
        angles: bool = False,
    ) -> None:
        super().__init__()
        self.context_dim, self.angles = context_dim, angles
        self.activation = activation_by_name(activation, CONDITIONER_ACTIVATIONS).value
        self.layers = nn.ModuleList(layers)
        self.blocks = nn.ModuleList(nn.ModuleList(block) for block in blocks)
        self.context = nn.Linear(context_dim, len(layers[0].weight), bias=False) if context_dim else None
        self.last: nn.Module = last
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        first, *hidden = self.layers
        h: Tensor = first(circular(x) if self.angles else x)
        if self.context is not None:
            shown = self.shown(context)
            h = h + shown.reshape(*shown.shape, *[1] * (h.dim() - 2))
        for layer in hidden:
            h = layer(self.activation(h))
        for inner, outer in self.pairs:
            h = h + outer(self.activation(inner(self.activation(h))))
        y: Tensor = self.last(self.activation(h))
        return y

    @property
    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """The layers of the blocks."""
        return [cast("tuple[nn.Module, nn.Module]", tuple(cast(nn.ModuleList, block))) for block in self.blocks]

    def shown(self, context: Tensor | None) -> Tensor:
        """The term `V c` of the first layer, `(N, H)`.

        Raises:
            ValueError: The context is missing.
        """
        added: Tensor = cast(nn.Linear, self.context)(require_context(context, "network", self.context_dim))
        return added


@checked
class ResidualMLP(ResidualNet):
    """A residual network from vectors `(N, inputs)` to vectors `(N, outputs)`; see `ResidualNet`.

    Args:
        inputs: Length of x.
        outputs: Length of y.
        hidden: Widths of the hidden layers; an int is one layer. The blocks have the last width.
        blocks: Number of residual blocks; 0 makes a plain MLP.
        context_dim: Length of the context; 0 for none.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        angles: Whether x are angles in radians; the first layer then reads their cosines and sines.

    Raises:
        ValueError: A size is below 1, or `activation` is unknown; in use, the context is missing.

    Example:
        >>> import torch, cnf
        >>> net = cnf.networks.ResidualMLP(3, 2, hidden=16, context_dim=4)
        >>> net(torch.zeros(5, 3), torch.zeros(5, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        inputs: Size,
        outputs: Size,
        *,
        hidden: Widths = 64,
        blocks: SizeOrZero = 2,
        context_dim: SizeOrZero = 0,
        activation: ConditionerActivation = "relu",
        angles: bool = False,
    ) -> None:
        widths = as_widths(hidden)
        width, seen = widths[-1], 2 * inputs if angles else inputs
        super().__init__(
            [nn.Linear(a, b) for a, b in zip((seen, *widths), widths, strict=False)],
            [[nn.Linear(width, width) for _ in range(2)] for _ in range(blocks)],
            nn.Linear(width, outputs),
            context_dim=context_dim,
            activation=activation,
            angles=angles,
        )


@checked
class ConvResNet(ResidualNet):
    """A residual network of 3×3 convolutions that keeps height and width; see `ResidualNet`.

    In each hidden channel of the first layer, the context adds the same number at every pixel.

    Args:
        inputs: Channels of x, `(N, inputs, H, W)`.
        outputs: Channels of y, `(N, outputs, H, W)`.
        hidden: Channels of the hidden layers.
        blocks: Number of residual blocks, each of two convolutions.
        context_dim: Length of the context; 0 for none.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.

    Raises:
        ValueError: A size is below 1, or `activation` is unknown; in use, the context is missing.

    Example:
        >>> import torch, cnf
        >>> cnf.networks.ConvResNet(3, 6, hidden=8)(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 6, 4, 4])
    """

    def __init__(
        self,
        inputs: Size,
        outputs: Size,
        *,
        hidden: Size = 64,
        blocks: SizeOrZero = 2,
        context_dim: SizeOrZero = 0,
        activation: ConditionerActivation = "relu",
    ) -> None:
        super().__init__(
            [_conv(inputs, hidden)],
            [[_conv(hidden, hidden) for _ in range(2)] for _ in range(blocks)],
            _conv(hidden, outputs),
            context_dim=context_dim,
            activation=activation,
        )


@checked
class Skip(Conditioner):
    """`x + h(x)`, the identity as long as `h = 0`.

    Args:
        net: h, a conditioner with as many outputs as inputs.

    Example:
        >>> import torch, cnf
        >>> net = cnf.networks.Skip(cnf.networks.ResidualMLP(2, 2))
        >>> net(torch.ones(1, 2)).detach()
        tensor([[1., 1.]])
    """

    def __init__(self, net: Conditioner) -> None:
        super().__init__()
        self.net, self.context_dim = net, net.context_dim

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        moved: Tensor = x + self.net(x, context)
        return moved


def circular(x: Tensor) -> Tensor:
    """The cosine and sine of each angle, `(cos x_1, sin x_1, cos x_2, …)`.

    Args:
        x: Angles in radians, `(N, D)`.

    Returns:
        `(N, 2D)`.

    Example:
        >>> import torch
        >>> circular(torch.zeros(1, 2))
        tensor([[1., 0., 1., 0.]])
    """
    return torch.stack((x.cos(), x.sin()), 2).flatten(1)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


@checked
def as_widths(hidden: Widths) -> tuple[int, ...]:
    """The widths of hidden layers as a tuple; an int is one layer.

    Raises:
        ValueError: There is no layer, or a width is not positive.
    """
    return (hidden,) if isinstance(hidden, int) else tuple(hidden)
