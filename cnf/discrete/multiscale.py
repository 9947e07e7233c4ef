"""Multi-scale architecture: images squeezed into channels, half of which leave at each scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor

from cnf.arguments import Rule, Size, Sizes, checked
from cnf.transforms import Compose, Inverse, Mapped, Transform, Wrapper

LayersOfShape = Callable[[Sequence[int]], Sequence[Transform]]  # the shape of an image to transforms of it


class Squeeze(Transform):
    """Each 2×2 square of pixels becomes 4 channels, `(C, H, W)` to `(4C, H/2, W/2)`; log-determinant 0.

    Those of channel c are `4c … 4c + 3`, row by row. `Inverse(Squeeze())` undoes it.

    Raises:
        ValueError: An odd height or width.

    References:
        Dinh et al. 2017, RealNVP, arXiv 1605.08803.

    Example:
        >>> import torch, cnf
        >>> cnf.discrete.Squeeze().encode(torch.zeros(1, 3, 8, 8)).value.shape
        torch.Size([1, 12, 4, 4])
    """

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        channels, height, width = base_shape
        return torch.Size([channels // 4, 2 * height, 2 * width])

    def base_shape(self, data_shape: torch.Size) -> torch.Size:
        _require_even(data_shape)
        channels, height, width = data_shape
        return torch.Size([4 * channels, height // 2, width // 2])

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        _require_even(x.shape[1:])
        squares = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, C, H/2, 2, W/2, 2)
        return Mapped(squares.permute(0, 1, 3, 5, 2, 4).flatten(1, 3), x.new_zeros(len(x)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        if z.dim() != 4 or z.shape[1] % 4:
            raise ValueError(f"unsqueezing needs images (N, 4C, H, W), got {tuple(z.shape)}")
        squares = z.unflatten(1, (-1, 2, 2))  # (N, C, 2, 2, H/2, W/2)
        return Mapped(squares.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3), z.new_zeros(len(z)))


def _require_even(event: torch.Size) -> None:
    if len(event) != 3 or event[1] % 2 or event[2] % 2:
        raise ValueError(
            f"squeezing needs images (N, C, H, W) of even height and width, got {('N', *event)}: crop or resize them"
        )


@checked
class FactorOut(Wrapper):
    """The first features are latents already and stay as they are; the others go through a transform.

    Both remain in one tensor, in their places, so that the event keeps its shape.

    Args:
        rest: Acts on the features that go on.
        kept: How many of the first axis of the event stay.

    Raises:
        ValueError: `kept` is not positive, or leaves nothing to go on.

    References:
        Dinh et al. 2017, RealNVP, arXiv 1605.08803.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.FactorOut(cnf.discrete.Affine(2, scale=2.0), kept=1)
        >>> layer.encode(torch.tensor([[1.0, 2.0, 4.0]])).value
        tensor([[1., 1., 2.]])
    """

    def __init__(self, rest: Transform, *, kept: Size) -> None:
        super().__init__(rest)
        self.kept = kept

    def enter(self, x: Tensor) -> Tensor:
        if x.shape[1] <= self.kept:
            raise ValueError(f"more than {self.kept} features are needed to keep as many, got {tuple(x.shape)}")
        return x[:, self.kept :]

    def leave(self, value: Tensor, x: Tensor) -> Tensor:
        return torch.cat([x[:, : self.kept], value], 1)


@checked
def multiscale(scales: Annotated[Sequence[Transform], Rule("", len)], *, channels: Size) -> Transform:
    """Squeeze, transform, set half of the channels aside, and the same again with the other half.

    At the end nothing is set aside. The latents are put back in place: at each scale, those that were set aside and
    those that went on are joined and unsqueezed, so that `encode` gives the shape of the image and can be inverted.

    Args:
        scales: The transform of each scale, the finest first: scale i sees `(4C 2ⁱ, H/2^{i+1}, W/2^{i+1})`.
        channels: C of the image.

    Returns:
        A transform of `(N, C, H, W)`, with H and W divisible by 2 to the number of scales.

    Raises:
        ValueError: There are no scales.

    References:
        Dinh et al. 2017, RealNVP, arXiv 1605.08803; Kingma and Dhariwal 2018, Glow, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.multiscale([cnf.discrete.ActNorm(4), cnf.discrete.ActNorm(8)], channels=1)
        >>> layer.encode(torch.zeros(2, 1, 8, 8)).value.shape
        torch.Size([2, 1, 8, 8])
    """
    steps = [Squeeze(), scales[0]]
    if len(scales) > 1:
        steps.append(FactorOut(multiscale(scales[1:], channels=2 * channels), kept=2 * channels))
    return Compose([*steps, Inverse(Squeeze())])


@checked
def multiscale_halves(event_shape: Sizes, before: LayersOfShape, after: LayersOfShape, *, scales: Size) -> Transform:
    """At each scale transforms before and after a squeeze; then half of the channels are set aside.

    The last scale has those before a squeeze alone. The latents are put back in place, as by `multiscale`.

    Args:
        event_shape: `(C, H, W)`, H and W divisible by 2 to the number of scales less one.
        before: Makes the transforms before the squeeze from the shape of the images that they see.
        after: Makes those after it.
        scales: Number of scales, at least 1.

    Raises:
        ValueError: An image that cannot be halved that often.

    References:
        Dinh et al. 2017, RealNVP, arXiv 1605.08803; Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.

    Example:
        >>> import torch, cnf
        >>> def layers(shape):
        ...     return [cnf.discrete.ActNorm(shape[0])]
        >>> layer = cnf.discrete.multiscale_halves((1, 4, 4), layers, layers, scales=3)
        >>> layer.encode(torch.zeros(2, 1, 4, 4)).value.shape
        torch.Size([2, 1, 4, 4])
    """
    if scales == 1:
        return Compose(before(event_shape))
    channels, height, width = Squeeze().base_shape(torch.Size(event_shape))
    half = channels // 2
    rest = multiscale_halves((half, height, width), before, after, scales=scales - 1)
    squeezed = [*after((channels, height, width)), FactorOut(rest, kept=half)]
    return Compose([*before(event_shape), Squeeze(), *squeezed, Inverse(Squeeze())])
