"""Coupling flows as published."""

from __future__ import annotations

from cnf.arguments import Ambient, Positive, Size, SizeOrZero, Sizes, Widths, checked
from cnf.discrete import ActNorm, AffineMap, RationalQuadratic, Shift
from cnf.flows import Flow
from cnf.models.assembly import Preprocess, assemble, size
from cnf.models.conditioners import Net, mixed
from cnf.networks import ConditionerActivation


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
    layers: Size = 5,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """RealNVP on vectors: affine couplings of alternating halves.

    As published: log-scales through a tanh; 5 couplings, as in the tables of the MAF paper (which have 10 as well).
    Deviations: no batch norm, which would make rows depend on each other; the scale of the tanh is fixed; one network
    gives shift and scale. Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of couplings.
        hidden: Widths of the hidden layers of the conditioners, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bound: Bound of the log-scale of a layer.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Dinh et al. 2017, arXiv 1605.08803.

    Example:
        >>> import cnf
        >>> cnf.build("realnvp", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    members = [net.coupling(AffineMap(bound=bound), dim, flip=i % 2 == 1) for i in range(layers)]
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


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
