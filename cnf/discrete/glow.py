"""Glow: activation normalisation, a free mixing of the features, and an affine coupling, again and again."""

from __future__ import annotations

from collections.abc import Sequence

from cnf.arguments import Size, Sizes, checked
from cnf.discrete.coupling import CouplingLayer, NetOfSizes, half
from cnf.discrete.linear import invertible_conv1x1
from cnf.discrete.maps import AffineMap, ElementwiseMap
from cnf.discrete.multiscale import multiscale
from cnf.discrete.normalization import ActNorm
from cnf.transforms import Compose, Transform


@checked
def glow_step(
    features: Size, net: NetOfSizes, *, elementwise: ElementwiseMap = AffineMap(), lu: bool = True
) -> Transform:
    """`ActNorm`, a linear layer started at a rotation, and a coupling in which the first half moves the second.

    On images `(N, C, H, W)` the linear layer is the invertible 1×1 convolution, and the net is convolutional.

    Args:
        features: D of vectors, C of images; at least 2, since a coupling has two parts.
        net: Makes the conditioner of the coupling from its numbers of inputs and outputs.
        elementwise: The map of the coupling.
        lu: Whether the matrix of the linear layer is LU-parametrised, or free.

    Raises:
        ValueError: A single feature.

    References:
        Kingma and Dhariwal 2018, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> def net(inputs, outputs):
        ...     return cnf.networks.ResidualMLP(inputs, outputs, hidden=8)
        >>> step = cnf.discrete.glow_step(4, net)
        >>> step.encode(torch.zeros(3, 4)).value.shape
        torch.Size([3, 4])
    """
    if features < 2:
        raise ValueError(f"a coupling needs at least 2 features, got {features}: use another flow in one dimension")
    mixing = invertible_conv1x1(features, lu=lu)
    return Compose([ActNorm(features), mixing, CouplingLayer.sized(elementwise, net, half(features))])


@checked
def multiscale_glow(
    event_shape: Sizes,
    net: NetOfSizes,
    *,
    scales: Size,
    steps: Size,
    elementwise: ElementwiseMap = AffineMap(),
    lu: bool = True,
) -> Transform:
    """Glow for images: `steps` steps at each of `scales` scales; half of the channels leave after each but the last.

    Those that leave have a normal prior given those that go on, with mean and scale from a net. Here that is one more
    coupling, which standardises them, so that the base stays the standard normal.

    Args:
        event_shape: `(C, H, W)`, H and W divisible by 2 to the number of scales.
        net: Makes the conditioner of each coupling from its numbers of inputs and outputs.
        scales: Number of scales, at least 1.
        steps: Steps of each scale.
        elementwise: The map of the couplings.
        lu: Whether the matrices of the 1×1 convolutions are LU-parametrised, or free.

    Raises:
        ValueError: Not an image, or one that cannot be halved that often.

    References:
        Kingma and Dhariwal 2018, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> def net(inputs, outputs):
        ...     return cnf.networks.ConvResNet(inputs, outputs, hidden=4, blocks=1)
        >>> layer = cnf.discrete.multiscale_glow((1, 4, 4), net, scales=2, steps=1)
        >>> layer.encode(torch.rand(2, 1, 4, 4)).value.shape
        torch.Size([2, 1, 4, 4])
    """
    _check_image(event_shape, scales)
    parts: list[Transform] = []
    for scale in range(scales):
        channels = event_shape[0] * 4 * 2**scale
        members = [glow_step(channels, net, elementwise=elementwise, lu=lu) for _ in range(steps)]
        prior = [] if scale == scales - 1 else [CouplingLayer.sized(AffineMap(), net, half(channels, flip=True))]
        parts.append(Compose([*members, *prior]))
    return multiscale(parts, channels=event_shape[0])


def _check_image(event_shape: Sequence[int], scales: int) -> None:
    """Each scale halves height and width once."""
    if len(event_shape) != 3:
        raise ValueError(f"scales need images (C, H, W), got event_shape={tuple(event_shape)}")
    height, width = event_shape[1:]
    possible = max(n for n in range(scales + 1) if height % 2**n == width % 2**n == 0)
    if possible == scales:
        return
    step = 2**scales
    sizes = [f"{_multiple(height, step, up)} × {_multiple(width, step, up)}" for up in (False, True)]
    remedy = f"take scales={possible}" if possible else "use a model that takes them as vectors, such as maf or cnf"
    raise ValueError(
        f"Glow with {scales} scale{'s' * (scales > 1)} halves height and width {scales} time{'s' * (scales > 1)}, so "
        f"they must be divisible by {step}; images of {height} × {width} are not: crop or resize them to "
        f"{' or '.join(dict.fromkeys(sizes))}, or {remedy}"
    )


def _multiple(size: int, step: int, up: bool) -> int:
    """The next multiple of `step`, at least one of it."""
    return max(-(-size // step) if up else size // step, 1) * step
