"""Flows on manifolds, on the uniform density there."""

from __future__ import annotations

from collections.abc import Sequence

from cnf.discrete.splines import CircularSpline
from cnf.distributions import TorusUniform
from cnf.flows import Flow
from cnf.models.assembly import assemble, size
from cnf.models.couplings import Hidden, Net


def torus_nsf(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    layers: int = 4,
    hidden: Hidden = 64,
    blocks: int = 2,
    activation: str = "silu",
    bins: int = 8,
) -> Flow:
    """NSF on the torus: autoregressive circular splines on a uniform base, for data that are angles in [0, 2π).

    As published: circular splines with a rotation, conditioners that see cosines and sines. The order is reversed from
    one layer to the next. Deviations: residual conditioners, 4 layers of width 64 with 8 bins. Densities are with
    respect to the Riemannian volume, the product of the angles' differentials. Sampling takes D steps a layer.

    Args:
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bins: Bins of a spline.

    References:
        Rezende et al. 2020, arXiv 2002.02428.
    """
    net = Net(context_dim, hidden, blocks, activation, angles=True)
    spline = CircularSpline(bins)
    members = [net.autoregressive(spline, size(event_shape), reverse=i % 2 == 1) for i in range(layers)]
    return assemble(event_shape, context_dim, members, "none", flat=True, base=TorusUniform(event_shape))
