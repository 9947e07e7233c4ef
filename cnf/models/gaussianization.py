"""Gaussianization flows as published: trained, and fitted layer by layer."""

from __future__ import annotations

from cnf.arguments import Ambient, Positive, Size, SizeOrZero, Sizes, checked
from cnf.discrete import RBIG, GaussianizationLayer
from cnf.discrete.interpolants import Knots
from cnf.discrete.rotations import RotationName
from cnf.flows import Flow
from cnf.models.assembly import Preprocess, assemble, size


@checked
def gaussianization(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 10,
    components: Ambient = 16,
    rotation: RotationName = "pca",
    preprocess: Preprocess | None = None,
) -> Flow:
    """Gaussianization flow: trainable mixtures of logistics and Householder rotations, started from the data.

    As published: mixtures followed by the normal quantile function, D reflections a rotation, a start from iterative
    Gaussianization. Deviations: 10 layers of 16 components (theirs 5 to 100 layers, by data set). Events are flattened
    vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Number of layers.
        components: Logistics of each mixture.
        rotation: Where the rotations start, one of `cnf.discrete.ROTATIONS`.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    References:
        Meng et al. 2020, arXiv 2003.01941.

    Example:
        >>> import cnf
        >>> cnf.build("gaussianization", 2, layers=2).sample(3).shape
        torch.Size([3, 2])
    """
    members = [
        GaussianizationLayer(size(event_shape), components=components, context_dim=context_dim, rotation=rotation)
        for _ in range(layers)
    ]
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def rbig(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 200,
    rotation: RotationName = "pca",
    knots: Knots = 32,
    significance: Positive = 1.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """RBIG: iterative Gaussianization, fitted by `flow.initialize(x)` and not trained. Takes no context.

    As published: marginal Gaussianization and a rotation, repeated. Deviations: marginals are splines through a
    cross-validated kernel estimate, not histograms; layers end when their gain falls below its sampling noise. Events
    are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        layers: Most layers there can be.
        rotation: One of `cnf.discrete.ROTATIONS`.
        knots: Of each marginal's spline.
        significance: Standard errors that a layer's gain must exceed.
        preprocess: A key of `cnf.models.assembly.PREPROCESSING`; None for a logit of images, and to standardise the
            rest.

    Raises:
        ValueError: A context is asked for.

    References:
        Laparra et al. 2011, arXiv 1602.00229.

    Example:
        >>> import cnf
        >>> cnf.build("rbig", 2, layers=5).sample(3).shape
        torch.Size([3, 2])
    """
    if context_dim:
        raise ValueError(f"rbig takes no context, got context_dim={context_dim}: use gaussianization")
    members = [RBIG(size(event_shape), layers=layers, rotation=rotation, knots=knots, significance=significance)]
    return assemble(event_shape, context_dim, members, preprocess, flat=True)
