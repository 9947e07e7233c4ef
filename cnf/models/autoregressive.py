"""Autoregressive flows as published."""

from __future__ import annotations

from cnf.arguments import Ambient, Positive, Size, SizeOrZero, Sizes, Widths, checked
from cnf.discrete import AffineMap, RationalQuadratic
from cnf.flows import Flow
from cnf.models.assembly import Preprocess, assemble, size
from cnf.models.conditioners import Net, mixed
from cnf.networks import ConditionerActivation
from cnf.transforms import Inverse, Transform


@checked
def maf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """MAF: affine autoregressive layers, the order reversed from one to the next. Sampling takes D steps a layer.

    As published: 5 layers of a MADE with two hidden layers (1 or 2 of 100 to 1024 units there). Deviations: no batch
    norm between layers, which would make rows depend on each other; log-scales are `bound · tanh`; layers start at the
    identity. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bound: Bound of the log-scale of a layer.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Papamakarios et al. 2017, arXiv 1705.07057.

    Example:
        >>> import cnf
        >>> cnf.build("maf", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    members = _masked(size(event_shape), Net(context_dim, hidden, blocks, activation), layers, bound)
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def iaf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """IAF: the MAF with the two directions exchanged. Sampling is one pass a layer, densities take D steps.

    As published: affine layers with the order reversed from one to the next, near the identity at the start.
    Deviations: the scale is `exp(bound · tanh)` instead of a sigmoid gate. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bound: Bound of the log-scale of a layer.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Kingma et al. 2016, arXiv 1606.04934.

    Example:
        >>> import cnf
        >>> cnf.build("iaf", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    members = _masked(size(event_shape), Net(context_dim, hidden, blocks, activation), layers, bound)
    return assemble(event_shape, context_dim, [Inverse(member) for member in members], preprocess, flat=True)


@checked
def nsf_autoregressive(
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
    """NSF with autoregressive layers, the strongest of these on tables. Sampling takes D steps a layer.

    As published: 8 bins on [−3, 3], residual MADEs of 2 blocks, a random permutation and an LU layer before each layer
    and after the last. Deviations: 5 layers of width 128 (theirs 10 of 64 to 512, by data set); no dropout; a
    context shifts and scales the data first. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
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
        >>> cnf.build("nsf_autoregressive", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    spline = RationalQuadratic(bins, bound)
    members = net.centred(dim) + mixed([net.autoregressive(spline, dim, reverse=False) for _ in range(layers)], dim)
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


def _masked(dim: int, net: Net, layers: int, bound: float) -> list[Transform]:
    """Affine autoregressive layers, the order reversed from one to the next."""
    return [net.autoregressive(AffineMap(bound=bound), dim, reverse=i % 2 == 1) for i in range(layers)]
