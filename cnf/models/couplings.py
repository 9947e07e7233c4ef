"""Coupling flows as published."""

from __future__ import annotations

from collections.abc import Sequence

from cnf.arguments import Ambient, Positive, Size, SizeOrZero, Sizes, Widths, checked
from cnf.discrete import ActNorm, AffineMap, ElementwiseMap, RationalQuadratic, Shift, multiscale_halves
from cnf.flows import Flow
from cnf.models.assembly import Preprocess, assemble, halvings, is_image, size
from cnf.models.conditioners import ImageNet, Net, mixed
from cnf.networks import ConditionerActivation
from cnf.networks.residual import as_widths
from cnf.transforms import Transform


@checked
def nice(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 4,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    preprocess: Preprocess | None = None,
) -> Flow:
    """NICE: additive couplings, which keep volumes, and one diagonal scaling at the end.

    As published: 4 couplings of alternating halves with plain ReLU networks (theirs have 5 layers of 1000 for images),
    a scaling `exp(s)` after the last. Deviations: the scaling has a shift beside it; a standard normal base instead of
    a logistic one. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of couplings.
        hidden: Widths of the hidden layers of the conditioners, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Dinh et al. 2014, arXiv 1410.8516.

    Example:
        >>> import cnf
        >>> cnf.build("nice", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    members = [*(net.coupling(Shift(), dim, flip=i % 2 == 1) for i in range(layers)), ActNorm(dim)]
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def realnvp(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size | None = None,
    hidden: Widths | None = None,
    blocks: SizeOrZero | None = None,
    activation: ConditionerActivation = "relu",
    bound: Positive = 3.0,
    scales: Size | None = None,
    preprocess: Preprocess | None = None,
    levels: Ambient | None = None,
) -> Flow:
    """RealNVP: affine couplings of alternating halves; for images of whole numbers, of pixels and channels in scales.

    As published: log-scales through a tanh; 5 couplings of vectors, as in the tables of the MAF paper (which have 10 as
    well). For images with `levels`, at each scale 3 couplings by a checkerboard, a squeeze, 3 couplings by channels,
    and half of the channels set aside; the last scale has 4 by a checkerboard. Deviations: `ActNorm` for images in the
    place of batch norm, which would make rows depend on each other; the scale of the tanh is fixed; one network gives
    shift and scale; residual networks of width 32; pixels are made normal one by one (theirs: a logit). Images without
    levels, and all other events, are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of couplings, of each kind and scale for images; 5 of vectors and 3 of images by default.
        hidden: Widths of the hidden layers of the conditioners, an int for one; (128, 128) by default. For images the
            channels, 32 by default.
        blocks: Residual blocks after them; none by default, and 2 for images.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bound: Bound of the log-scale of a layer.
        scales: Scales of images; by default up to 3, with height and width halved between them.
        preprocess: A key of `cnf.models.PREPROCESSING` or `cnf.models.OF_LEVELS`; None for a logit of images, or what
            `levels` needs, and to standardise the rest.
        levels: L, for whole numbers in {0, …, L − 1}; None for continuous data.

    References:
        Dinh et al. 2017, arXiv 1605.08803.

    Example:
        >>> import cnf
        >>> cnf.build("realnvp", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
        >>> cnf.build("realnvp", (1, 4, 4), levels=17, hidden=4).sample(3).shape
        torch.Size([3, 1, 4, 4])
    """
    elementwise = AffineMap(bound=bound)
    if is_image(event_shape) and levels is not None:
        channels = as_widths(hidden or 32)[-1]
        net = ImageNet(context_dim, channels, 2 if blocks is None else blocks, activation)
        count = halvings(event_shape, 2) + 1 if scales is None else scales
        members = [_scales(event_shape, net, elementwise, layers or 3, count)]
        return assemble(event_shape, context_dim, members, preprocess, flat=False, levels=levels)
    dim, settings = size(event_shape), Net(context_dim, hidden or (128, 128), blocks or 0, activation)
    couplings = [settings.coupling(elementwise, dim, flip=i % 2 == 1) for i in range(layers or 5)]
    return assemble(event_shape, context_dim, couplings, preprocess, flat=True, levels=levels)


def _scales(
    event_shape: Sequence[int], net: ImageNet, elementwise: ElementwiseMap, layers: int, scales: int
) -> Transform:
    """The couplings of images: by pixels, and by channels after a squeeze."""
    last = event_shape[0] * 2 ** (scales - 1), event_shape[1] >> scales - 1, event_shape[2] >> scales - 1

    def pixels(shape: Sequence[int]) -> list[Transform]:
        number = layers + (tuple(shape) == last)
        return [part for i in range(number) for part in net.by_pixels(elementwise, shape, flip=i % 2 == 1)]

    def channels(shape: Sequence[int]) -> list[Transform]:
        return [part for i in range(layers) for part in net.by_channels(elementwise, shape[0], flip=i % 2 == 1)]

    return multiscale_halves(event_shape, pixels, channels, scales=scales)


@checked
def nsf_coupling(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = 128,
    blocks: SizeOrZero = 2,
    activation: ConditionerActivation = "relu",
    bins: Ambient = 8,
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """NSF with couplings: rational-quadratic splines, a permutation and an LU linear layer before each.

    As published: 8 bins on [−3, 3], residual conditioners of 2 blocks, a random permutation and an LU layer before each
    coupling and after the last, alternating halves. Deviations: 5 couplings of width 128 (theirs 10 of 32 to 256, by
    data set); no dropout in the conditioners; a context shifts and scales
    the data first. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of couplings.
        hidden: Widths of the hidden layers of the conditioners, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bins: Bins of a spline.
        bound: Where the splines end and the identity begins, in standardised units.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Durkan et al. 2019, arXiv 1906.04032.

    Example:
        >>> import cnf
        >>> cnf.build("nsf_coupling", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    spline = RationalQuadratic(bins, bound)
    members = net.centred(dim) + mixed([net.coupling(spline, dim, flip=i % 2 == 1) for i in range(layers)], dim)
    return assemble(event_shape, context_dim, members, preprocess, flat=True)
