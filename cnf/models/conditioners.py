"""What coupling and autoregressive models are made of: layers with conditioners, and mixing between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cnf.discrete import (
    ActNorm,
    AffineMap,
    Autoregressive,
    Conditional,
    CouplingLayer,
    ElementwiseMap,
    LULinear,
    Permutation,
    Regression,
    alternating,
    checkerboard,
    half,
)
from cnf.models.fields import Hidden
from cnf.networks import MADE, Conditioner, ConvResNet, ResidualMLP
from cnf.transforms import Transform


class Net(NamedTuple):
    """The settings of the conditioners of a flow."""

    context_dim: int
    hidden: Hidden
    blocks: int
    activation: str
    angles: bool = False

    def coupling(self, elementwise: ElementwiseMap, dim: int, *, flip: bool) -> Transform:
        """A coupling of alternating halves; in one dimension there is only the context to see."""
        if dim == 1:
            return self.autoregressive(elementwise, dim, reverse=flip)

        def net(inputs: int, outputs: int) -> Conditioner:
            return ResidualMLP(inputs, outputs, **self._asdict())

        return CouplingLayer.sized(elementwise, net, alternating(dim, flip=flip))

    def centred(self, dim: int) -> list[Transform]:
        """With a context, a layer that shifts and scales by it.

        Splines end at a bound: without it, what a condition moves beyond the bound would be left as it is.
        """
        if not self.context_dim:
            return []
        options = {name: value for name, value in self._asdict().items() if name != "context_dim"}
        elementwise = AffineMap()
        net = ResidualMLP(self.context_dim, dim * elementwise.size, **options)
        return [Regression(dim, self.context_dim), Conditional(elementwise, net, self.context_dim)]

    def autoregressive(self, elementwise: ElementwiseMap, dim: int, *, reverse: bool) -> Transform:
        """An autoregressive layer in the order of the dimensions, or against it."""
        order = range(dim)[::-1] if reverse else range(dim)
        return Autoregressive(elementwise, MADE(dim, elementwise.size, order=order, **self._asdict()))


class ImageNet(NamedTuple):
    """The settings of the convolutional conditioners of a flow of images."""

    context_dim: int
    hidden: int
    blocks: int
    activation: str

    def sized(self, inputs: int, outputs: int) -> Conditioner:
        """The network of these numbers of channels."""
        return ConvResNet(inputs, outputs, **self._asdict())

    def by_pixels(self, elementwise: ElementwiseMap, shape: Sequence[int], *, flip: bool) -> list[Transform]:
        """A coupling of every other pixel with the rest, after an ActNorm."""
        channels, height, width = shape
        if height * width == 1:
            return []  # a single pixel has no other
        net = self.sized(channels, channels * elementwise.size)
        return [ActNorm(channels), CouplingLayer(elementwise, net, checkerboard(height, width, flip=flip))]

    def by_channels(self, elementwise: ElementwiseMap, channels: int, *, flip: bool) -> list[Transform]:
        """A coupling of half of the channels with the others, after an ActNorm."""
        return [ActNorm(channels), CouplingLayer.sized(elementwise, self.sized, half(channels, flip=flip))]


def mixed(members: Sequence[Transform], dim: int) -> list[Transform]:
    """A random permutation and an LU layer before each member and after the last."""
    mixed: list[Transform] = []
    for member in members:
        mixed += [Permutation.random(dim), LULinear(dim), member]
    return [*mixed, Permutation.random(dim), LULinear(dim)]
