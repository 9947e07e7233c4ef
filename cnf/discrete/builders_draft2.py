"""Builders of planar, radial, residual and Glow flows: transforms in the order of `encode`, without preprocessing."""

from __future__ import annotations

from collections.abc import Sequence

from cnf.discrete.glow import glow_step, multiscale_glow
from cnf.discrete.maps import AffineMap
from cnf.discrete.normalization import ActNorm
from cnf.discrete.planar import Planar, Radial
from cnf.discrete.residual import ExactLogDet, FixedPoint, LogDet, Residual, RussianRoulette
from cnf.distributions import as_event_shape
from cnf.networks import Conditioner, ConvResNet, ResidualMLP
from cnf.transforms import Inverse, Transform


def planar(
    event_shape: Sequence[int], context_dim: int = 0, *, layers: int = 32, hyper: int = 0, closed: str = "decode"
) -> list[Transform]:
    """Planar flow: layers that each push along one direction.

    As published: tanh, û for invertibility, K = 2, 8 or 32 layers. Deviations: layers start near the identity (the
    paper does not say how); a context moves the parameters. Events are flattened vectors.

    Args:
        layers: K.
        hyper: Hidden units of the map from the context to the parameters; 0 for a linear one.
        closed: The direction in closed form: "decode", as published, for variational inference; "encode" makes
            training by maximum likelihood about three times faster, and leaves the solve to sampling.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.
    """
    members = [Planar(_size(event_shape), context_dim=context_dim, hyper=hyper) for _ in range(layers)]
    return _closed_in(closed, members)


def radial(
    event_shape: Sequence[int], context_dim: int = 0, *, layers: int = 32, hyper: int = 0, closed: str = "decode"
) -> list[Transform]:
    """Radial flow: layers that each expand or contract around one point.

    As published, with the invertible α and β̂. Deviations: centres start at standard normal points and layers near the
    identity (the paper does not say how); a context moves the parameters. Events are flattened vectors.

    Args:
        layers: Number of layers.
        hyper: Hidden units of the map from the context to the parameters; 0 for a linear one.
        closed: Which direction is the paper's formula, "decode" or "encode"; both are in closed form.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.
    """
    members = [Radial(_size(event_shape), context_dim=context_dim, hyper=hyper) for _ in range(layers)]
    return _closed_in(closed, members)


def residual(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    blocks: int = 10,
    hidden: Sequence[int] = (64, 64),
    lipschitz: float = 0.97,
    log_det: LogDet | None = None,
    inverse: FixedPoint = FixedPoint(),
) -> list[Transform]:
    """Residual flow: `x + g(x)` with LipSwish networks and exact spectral norms, an ActNorm after each.

    As published: spectral normalisation, LipSwish, the last layer of g at zero, the unbiased estimator of the
    log-determinant with 2 exact terms and p = ½. Deviations: 10 blocks of 2 × 64 instead of the toys' 100 of 4 × 128;
    LipSwish starts sharper (β = 10, not 1), which makes shallow blocks count; the bound is that of a whole g (theirs
    is 0.9 for each layer, 0.59 in all); spectral norms are exact, not from power iterations; g does not begin with an
    activation; the log-determinant is exact up to 16 dimensions (theirs: up to 2, in evaluation only), and its gradient
    is that of the series, not the Neumann one; the number of terms is drawn for each row, not for a batch; fully
    connected, so images are flattened. Events are flattened vectors.

    Args:
        blocks: Number of blocks.
        hidden: Widths of the hidden layers of each g.
        lipschitz: Bound of the Lipschitz constant of each g.
        log_det: How log-determinants are computed; by default exact up to 16 dimensions, `RussianRoulette()` above.
        inverse: The iteration of decode.

    References:
        Behrmann et al. 2019, arXiv 1811.00995; Chen et al. 2019, arXiv 1906.02735.
    """
    dim = _size(event_shape)
    log_det = log_det or (ExactLogDet() if dim <= 16 else RussianRoulette())
    members: list[Transform] = []
    for _ in range(blocks):
        block = Residual(
            dim, hidden=hidden, context_dim=context_dim, lipschitz=lipschitz, log_det=log_det, inverse=inverse
        )
        members += [block, ActNorm(dim)]
    return members


def glow(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    steps: int = 8,
    hidden: int = 64,
    blocks: int = 2,
    scales: int | None = None,
    bound: float = 3.0,
    lu: bool = True,
) -> list[Transform]:
    """Glow: ActNorm, invertible 1×1 convolution (an LU linear layer for vectors) and affine coupling; multi-scale for
    images `(C, H, W)`.

    As published: ActNorm started from the data, matrices started at random rotations, the first half of the features
    moving the second, last layers at zero, 3 scales with half of the channels leaving under a learned prior.
    Deviations: 8 steps a scale of width 64, residual, instead of 32 of width 512 without skips and with ActNorm inside;
    log-scales are `bound · tanh`, not a sigmoid; fewer scales where height or width cannot be halved so often.

    Args:
        steps: Steps, of each scale for images.
        hidden: Width of the conditioners.
        blocks: Residual blocks of the conditioners.
        scales: Scales of images; by default up to 3, as often as height and width can be halved.
        bound: Bound of a coupling's log-scale.
        lu: Whether the matrices are LU-parametrised, or free.

    References:
        Kingma and Dhariwal 2018, arXiv 1807.03039.
    """
    kind = ConvResNet if len(event_shape) == 3 else ResidualMLP

    def net(inputs: int, outputs: int) -> Conditioner:
        return kind(inputs, outputs, hidden=hidden, blocks=blocks, context_dim=context_dim)

    elementwise = AffineMap(bound=bound)
    if len(event_shape) == 3:
        scales = max(_halvings(event_shape), 1) if scales is None else scales
        return [multiscale_glow(event_shape, net, scales=scales, steps=steps, elementwise=elementwise, lu=lu)]
    return [glow_step(_size(event_shape), net, elementwise=elementwise, lu=lu) for _ in range(steps)]


def _closed_in(direction: str, members: Sequence[Transform]) -> list[Transform]:
    if direction not in ("decode", "encode"):
        raise ValueError(f"closed must be 'decode' or 'encode', got {direction!r}")
    return [Inverse(member) for member in members] if direction == "encode" else list(members)


def _halvings(event_shape: Sequence[int]) -> int:
    """How often height and width can be halved, at most 3 times."""
    return max(n for n in range(4) if all(size % 2**n == 0 for size in event_shape[1:]))


def _size(event_shape: Sequence[int]) -> int:
    return as_event_shape(event_shape).numel()
