"""Flows on sphere and torus, on the uniform density there."""

from __future__ import annotations

from collections.abc import Mapping

from cnf.arguments import Ambient, Size, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import FourierField, Frequency
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import Solver
from cnf.discrete import CircularSpline
from cnf.distributions import SphereUniform, TorusUniform
from cnf.flows import Flow
from cnf.manifolds.geometry import Torus
from cnf.models.assembly import EVALUATION, assemble, size, sphere_of
from cnf.models.conditioners import Net
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
        event_shape: Shape of one sample, all of whose elements are angles.
        context_dim: Length of the context; 0 for none.
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bins: Bins of a spline.

    References:
        Rezende et al. 2020, arXiv 2002.02428.

    Example:
        >>> torus_nsf((2,), layers=2, hidden=8).sample(5).shape
        torch.Size([5, 2])
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
    solver: Solver = EVALUATION,
) -> Flow:
    """A continuous flow on the unit sphere of ℝⁿ: the tangent part of a residual network on sines (`FourierField`).

    For data `(n,)` of length one. It starts at the uniform density. Densities are with respect to the Riemannian
    volume.

    Args:
        event_shape: `(n,)`, n at least 2.
        context_dim: Length of the context; 0 for none.
        hidden: Width of the network.
        depth: Its residual layers.
        frequency: Standard deviation of the frequencies of the sines.
        activation: Of the network.
        divergence: How the trace is found in evaluation.
        regularizers: Path costs by name.
        solver: Solver of evaluation.

    Raises:
        ValueError: Points that are no vectors, or of length 1.

    References:
        Mathieu and Nickel 2020, arXiv 2006.10605; Chen and Lipman 2024, arXiv 2302.03660.

    Example:
        >>> import torch
        >>> flow = sphere_cnf((3,), hidden=8)
        >>> flow.log_prob(torch.tensor([[0.0, 0.0, 1.0]])).detach()  # −log 4π at the start
        tensor([-2.5310])
    """
    sphere = sphere_of(event_shape)
    field = FourierField(
        sphere.n, hidden=hidden, depth=depth, context_dim=context_dim, frequency=frequency, activation=activation
    )
    member = CNF(field, divergence, regularizers, solver, manifold=sphere)
    return assemble(event_shape, context_dim, [member], "none", flat=False, base=SphereUniform(sphere.n))


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
    solver: Solver = EVALUATION,
) -> Flow:
    """A continuous flow of angles: the tangent part of a residual network on cosines and sines (`FourierField`).

    For data in [0, 2π). It starts at the uniform density. Densities are with respect to the Riemannian volume, the
    product of the angles' differentials.

    Args:
        event_shape: Shape of one sample, all of whose elements are angles.
        context_dim: Length of the context; 0 for none.
        hidden: Width of the network.
        depth: Its residual layers.
        frequency: Standard deviation of the frequencies of the sines.
        activation: Of the network.
        divergence: How the trace is found in evaluation.
        regularizers: Path costs by name.
        solver: Solver of evaluation.

    References:
        Chen and Lipman 2024, arXiv 2302.03660.

    Example:
        >>> import torch
        >>> flow = torus_cnf((2,), hidden=8)
        >>> flow.log_prob(torch.zeros(1, 2)).detach()  # −2 log 2π at the start
        tensor([-3.6758])
    """
    torus = Torus(size(event_shape))
    field = FourierField(
        2 * torus.d, hidden=hidden, depth=depth, context_dim=context_dim, frequency=frequency, activation=activation
    )
    member = CNF(field, divergence, regularizers, solver, manifold=torus)
    return assemble(event_shape, context_dim, [member], "none", flat=True, base=TorusUniform(event_shape))
