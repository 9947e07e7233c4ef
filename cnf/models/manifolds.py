"""Flows on sphere and torus, on the uniform density there."""

from __future__ import annotations

from collections.abc import Mapping

from cnf.arguments import Ambient, Size, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import FourierField, Frequency
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.discrete import CircularSpline
from cnf.distributions import SphereUniform, TorusUniform
from cnf.flows import Flow
from cnf.manifolds.continuous import ManifoldCNF
from cnf.manifolds.geometry import Sphere, Torus
from cnf.models.assembly import assemble, size
from cnf.models.couplings import Net
from cnf.networks import ActivationName, ConditionerActivation


@checked
def torus_nsf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 4,
    hidden: Widths = 64,
    blocks: SizeOrZero = 2,
    activation: ConditionerActivation = "silu",
    bins: Ambient = 8,
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


@checked
def sphere_cnf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Size = 128,
    depth: Size = 2,
    frequency: Frequency = 8.0,
    activation: ActivationName = "silu",
    divergence: Divergence = Exact(),
    regularizers: Mapping[str, Regularizer] = {},
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
) -> Flow:
    """A continuous flow on the unit sphere of ℝⁿ: the tangent part of a residual network on sines (`FourierField`).

    For data `(n,)` of length one. It starts at the uniform density. Densities are in the Riemannian volume.

    Options are those of `FourierField` and `ManifoldCNF`.

    Raises:
        ValueError: Points that are no vectors, or of length 1.

    References:
        Mathieu and Nickel 2020, arXiv 2006.10605; Chen and Lipman 2024, arXiv 2302.03660.
    """
    if len(event_shape) != 1:
        raise ValueError(f"points on a sphere are vectors (n,), got event_shape {tuple(event_shape)}")
    manifold = Sphere(event_shape[0])
    field = FourierField(
        manifold.n, hidden=hidden, depth=depth, context_dim=context_dim, frequency=frequency, activation=activation
    )
    member = ManifoldCNF(manifold, field, divergence, regularizers, solver)
    return assemble(event_shape, context_dim, [member], "none", flat=False, base=SphereUniform(manifold.n))


@checked
def torus_cnf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Size = 128,
    depth: Size = 2,
    frequency: Frequency = 4.0,
    activation: ActivationName = "silu",
    divergence: Divergence = Exact(),
    regularizers: Mapping[str, Regularizer] = {},
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
) -> Flow:
    """A continuous flow of angles: the tangent part of a residual network on cosines and sines (`FourierField`).

    For data in [0, 2π). It starts at the uniform density. Densities are with respect to the Riemannian volume, the
    product of the angles' differentials.

    Options are those of `FourierField` and `ManifoldCNF`.

    References:
        Chen and Lipman 2024, arXiv 2302.03660.
    """
    manifold = Torus(size(event_shape))
    field = FourierField(
        2 * manifold.d, hidden=hidden, depth=depth, context_dim=context_dim, frequency=frequency, activation=activation
    )
    member = ManifoldCNF(manifold, field, divergence, regularizers, solver)
    return assemble(event_shape, context_dim, [member], "none", flat=True, base=TorusUniform(event_shape))
