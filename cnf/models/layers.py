"""Flows of many simple layers as published: planar, radial, residual, Glow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cnf.arguments import Ambient, Fraction, Positive, Size, SizeOrZero, Sizes, Widths, checked, one_of
from cnf.discrete import (
    ActNorm,
    AffineMap,
    ExactLogDet,
    FixedPoint,
    LogDet,
    Planar,
    Radial,
    Residual,
    RussianRoulette,
    glow_step,
    multiscale_glow,
)
from cnf.flows import Flow
from cnf.models.assembly import Preprocess, assemble, halvings, is_image, size
from cnf.networks import Conditioner, ConvResNet, ResidualMLP
from cnf.transforms import Inverse, Transform

Direction = Annotated[str, one_of(("decode", "encode"))]


@checked
def planar(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 32,
    hidden: SizeOrZero = 0,
    closed: Direction = "decode",
    preprocess: Preprocess | None = None,
) -> Flow:
    """Planar flow: layers that each push along one direction.

    As published: tanh, û for invertibility, K = 2, 8 or 32 layers. Deviations: layers start near the identity (the
    paper does not say how); a context moves the parameters. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: K.
        hidden: Hidden units of the map from the context to the parameters; 0 for a linear one.
        closed: The direction in closed form: "decode", as published, for variational inference; "encode" makes
            training by maximum likelihood about three times faster, and leaves the solve to sampling.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.

    Example:
        >>> import cnf
        >>> cnf.build("planar", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    members = _closed_in(
        closed, [Planar(size(event_shape), context_dim=context_dim, hidden=hidden) for _ in range(layers)]
    )
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def radial(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 32,
    hidden: SizeOrZero = 0,
    closed: Direction = "decode",
    preprocess: Preprocess | None = None,
) -> Flow:
    """Radial flow: layers that each expand or contract around one point.

    As published, with the invertible α and β̂. Deviations: centres start at standard normal points and layers near the
    identity (the paper does not say how); a context moves the parameters. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of layers.
        hidden: Hidden units of the map from the context to the parameters; 0 for a linear one.
        closed: Which direction is the paper's formula, "decode" or "encode"; both are in closed form.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.

    Example:
        >>> import cnf
        >>> cnf.build("radial", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    members = _closed_in(
        closed, [Radial(size(event_shape), context_dim=context_dim, hidden=hidden) for _ in range(layers)]
    )
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def residual(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    blocks: Size = 10,
    hidden: Widths = (64, 64),
    lipschitz: Fraction = 0.97,
    log_det: LogDet | None = None,
    inverse: FixedPoint = FixedPoint(),
    preprocess: Preprocess | None = None,
) -> Flow:
    """Residual flow: `x + g(x)` with LipSwish networks and exact spectral norms, an ActNorm after each.

    As published: spectral normalisation, LipSwish, the last layer of g at zero, the unbiased estimator of the
    log-determinant with 2 exact terms and p = ½. Deviations: 10 blocks of 2 × 64 instead of the toys' 100 of 4 × 128;
    LipSwish starts sharper (β = 10, not 1), which makes shallow blocks count; the bound is that of a whole g (theirs
    is 0.9 for each layer, 0.59 in all); spectral norms are exact, not from power iterations; g does not begin with an
    activation; the log-determinant is exact up to 16 dimensions (theirs: up to 2, in evaluation only), and its gradient
    is that of the series, not the Neumann one; the number of terms is drawn for each row, not for a batch; fully
    connected, so images are flattened. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        blocks: Number of blocks.
        hidden: Widths of the hidden layers of each g.
        lipschitz: Bound of the Lipschitz constant of each g.
        log_det: How log-determinants are computed; by default exact up to 16 dimensions, `RussianRoulette()` above.
        inverse: The iteration of decode.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Behrmann et al. 2019, arXiv 1811.00995; Chen et al. 2019, arXiv 1906.02735.

    Example:
        >>> import cnf
        >>> cnf.build("residual", 2, blocks=2).sample(3).shape
        torch.Size([3, 2])
    """
    dim = size(event_shape)
    log_det = log_det or (ExactLogDet() if dim <= 16 else RussianRoulette())
    members: list[Transform] = []
    for _ in range(blocks):
        block = Residual(
            dim, hidden=hidden, context_dim=context_dim, lipschitz=lipschitz, log_det=log_det, inverse=inverse
        )
        members += [block, ActNorm(dim)]
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def glow(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    steps: Size = 8,
    hidden: Size = 64,
    blocks: SizeOrZero = 2,
    scales: Size | None = None,
    bound: Positive = 3.0,
    lu: bool = True,
    preprocess: Preprocess | None = None,
    levels: Ambient | None = None,
) -> Flow:
    """Glow: ActNorm, invertible 1×1 convolution (LU linear layer for vectors), affine coupling; images in scales.

    As published: ActNorm started from the data, matrices started at random rotations, the first half of the features
    moving the second, last layers at zero, 3 scales with half of the channels leaving under a learned prior.
    Deviations: 8 steps a scale of width 64, residual, instead of 32 of width 512 without skips and with ActNorm inside;
    log-scales are `bound · tanh`, not a sigmoid; fewer scales where height or width cannot be halved so often.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        steps: Steps, of each scale for images.
        hidden: Width of the conditioners.
        blocks: Residual blocks of the conditioners.
        scales: Scales of images; by default up to 3, as often as height and width can be halved.
        bound: Bound of a coupling's log-scale.
        lu: Whether the matrices are LU-parametrised, or free.
        preprocess: A key of `cnf.models.PREPROCESSING` or `cnf.models.OF_LEVELS`; None for a logit of images, or what
            `levels` needs, and to standardise the rest.
        levels: L, for whole numbers in {0, …, L − 1}, which are dequantised and, as pixels of images, made normal one
            by one; None for continuous data.

    References:
        Kingma and Dhariwal 2018, arXiv 1807.03039.

    Example:
        >>> import cnf
        >>> cnf.build("glow", (1, 4, 4), steps=1, hidden=4).sample(3).shape
        torch.Size([3, 1, 4, 4])
    """
    image = is_image(event_shape)
    kind, elementwise = ConvResNet if image else ResidualMLP, AffineMap(bound=bound)

    def net(inputs: int, outputs: int) -> Conditioner:
        return kind(inputs, outputs, hidden=hidden, blocks=blocks, context_dim=context_dim)

    members: list[Transform]
    if image:
        halved = max(halvings(event_shape, 3), 1) if scales is None else scales
        members = [multiscale_glow(event_shape, net, scales=halved, steps=steps, elementwise=elementwise, lu=lu)]
    else:
        members = [glow_step(size(event_shape), net, elementwise=elementwise, lu=lu) for _ in range(steps)]
    return assemble(event_shape, context_dim, members, preprocess, flat=not image, levels=levels)


def _closed_in(direction: str, members: Sequence[Transform]) -> list[Transform]:
    return [Inverse(member) for member in members] if direction == "encode" else list(members)
