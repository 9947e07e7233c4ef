"""How models are trained unless told otherwise: the phases that a builder's flow carries as `flow.recipe`."""

from __future__ import annotations

import math
from dataclasses import replace

from cnf.continuous.divergences import Exact, Hutchinson
from cnf.continuous.solvers import RungeKutta
from cnf.continuous.twins import cnfs_of
from cnf.flows import Flow
from cnf.manifolds.geometry import Sphere, Torus
from cnf.manifolds.manifold import Manifold
from cnf.models.assembly import is_image
from cnf.objectives.couplings import IndependentCoupling, OptimalTransport
from cnf.objectives.free_form import FreeForm
from cnf.objectives.geodesic import GeodesicPath
from cnf.objectives.likelihood import MaximumLikelihood
from cnf.objectives.matching import FlowMatching
from cnf.objectives.partial import AnyGiven
from cnf.objectives.phases import Phase

# Loose, but kept for every row; at so few steps one grid for all takes the fewest evaluations.
TRAINING = RungeKutta("dopri5", rtol=1e-2, atol=1e-2, rows="together")
# Of the default. As loose as this, a method of third order takes half the evaluations of one of fifth.
QUICK = RungeKutta("bosh3", rtol=5e-2, atol=5e-2, rows="together")
LOOSE = RungeKutta("bosh3", rtol=0.1, atol=0.1, rows="together")  # of tables
KINETIC = 0.02  # weight of the kinetic energy, in nats: too small to cost likelihood, enough to keep paths short
FEW_ROWS = 0.1  # that of tables and images: short, smooth paths generalise
CLIP = 1.0  # norm of the gradient: rare rows pull so hard that the field would take seconds to recover
FORGETTING = 0.5  # weight decay of images, which a field would learn by heart in seconds
FEW_ROWS_FOR_MANY_COLUMNS = 0.1  # weight decay of tables, whose rows the field would learn by heart


def by_likelihood(flow: Flow) -> tuple[Phase, ...]:
    """Maximum likelihood with the flow's own solver and divergence."""
    return (Phase(),)


def default(flow: Flow) -> tuple[Phase, ...]:
    """The exact likelihood at a tolerance of 0.05, by Muon, with a small weight on the kinetic energy, if it is there.

    The norm of the gradient is clipped at 1. More than three columns are trained faster, at a tolerance of 0.1, and
    have larger weights on kinetic energy and weight decay. Images have a recipe of their own, see `images`.

    Example:
        >>> import cnf
        >>> for dim in (2, 8):
        ...     (phase,) = default(cnf.build("cnf", dim))
        ...     phase.solver.rtol, phase.learning_rate, phase.clip, phase.objective.weights
        (0.05, 0.04, 1.0, {'kinetic': 0.02})
        (0.1, 0.06, 1.0, {'kinetic': 0.1})
    """
    if is_image(flow.event_shape):
        return images(flow)
    if flow.event_shape.numel() <= 3:
        likelihood = _with_kinetic_energy(flow, KINETIC)
        return (Phase(likelihood, solver=QUICK, learning_rate=4e-2, clip=CLIP, optimizer="muon"),)
    likelihood, decay = _with_kinetic_energy(flow, FEW_ROWS), FEW_ROWS_FOR_MANY_COLUMNS
    return (Phase(likelihood, solver=LOOSE, learning_rate=6e-2, weight_decay=decay, clip=CLIP, optimizer="muon"),)


def images(flow: Flow) -> tuple[Phase, ...]:
    """The exact likelihood with a weight of 0.1 on the kinetic energy, and a large weight decay.

    Example:
        >>> import cnf
        >>> (phase,) = images(cnf.build("cnf", (1, 4, 4), levels=16))
        >>> phase.objective.weights, phase.weight_decay
        ({'kinetic': 0.1}, 0.5)
    """
    objective = _with_kinetic_energy(flow, FEW_ROWS)
    return (Phase(objective, solver=QUICK, learning_rate=2e-2, weight_decay=FORGETTING, optimizer="muon"),)


def _with_kinetic_energy(flow: Flow, weight: float) -> MaximumLikelihood:
    """The likelihood with a weight on the kinetic energy, if the flow has it."""
    costs = {name for part in cnfs_of(flow) for name in part.regularizers}
    return MaximumLikelihood({"kinetic": weight} if "kinetic" in costs else {})


def any_given(flow: Flow) -> tuple[Phase, ...]:
    """The default's, on random cells given random others.

    Example:
        >>> import cnf
        >>> (phase,) = any_given(cnf.build("any_cnf", 3))
        >>> phase.objective.joint, phase.optimizer
        (0.5, 'muon')
    """
    return tuple(replace(phase, objective=AnyGiven(phase.objective)) for phase in default(flow))


def flow_matching(flow: Flow) -> tuple[Phase, ...]:
    """Flow matching with points paired by optimal transport, and a tenth of the conditions left out.

    Example:
        >>> import cnf
        >>> (phase,) = flow_matching(cnf.build("flow_matching", 2, context_dim=3))
        >>> phase.objective.forget, phase.objective.coupling
        (0.1, IndependentCoupling())
    """
    if flow.transform.context_dim:  # pairs over all conditions would give each a base of its own
        objective = FlowMatching(coupling=IndependentCoupling(), forget=0.1)
    else:
        objective = FlowMatching(coupling=OptimalTransport())
    return (Phase(objective, learning_rate=5e-3, optimizer="muon"),)


def augmented(flow: Flow) -> tuple[Phase, ...]:
    """The lower bound at a tolerance of 0.01."""
    return (Phase(solver=TRAINING, learning_rate=1e-2),)


def ffjord(flow: Flow) -> tuple[Phase, ...]:
    """The exact trace in two dimensions, one Gaussian probe in more, as published."""
    plane = flow.event_shape.numel() <= 2
    phase = Phase(divergence=Exact() if plane else Hutchinson(noise="gaussian"), learning_rate=1e-3)
    return (_for_minutes(phase, flow),)


def rnode(flow: Flow) -> tuple[Phase, ...]:
    """RK4 with step ¼, one Gaussian probe, both λ = 0.01 as published: from bits and half energies to nats."""
    weights = {"kinetic": 0.01 * math.log(2) / 2, "frobenius": 0.01 * math.log(2)}
    solver, divergence = RungeKutta("rk4", steps=4), Hutchinson(noise="gaussian")
    phase = Phase(MaximumLikelihood(weights), solver=solver, divergence=divergence, learning_rate=1e-3)
    return (_for_minutes(phase, flow),)


def _for_minutes(phase: Phase, flow: Flow) -> Phase:
    """Of images at a larger rate, with squares averaged over a hundred steps: a minute of a core is tens of them."""
    return replace(phase, learning_rate=2e-2, optimizer="muon") if is_image(flow.event_shape) else phase


def ot_flow(flow: Flow) -> tuple[Phase, ...]:
    """RK4 with 8 steps; the paper's weights for POWER, α = (1, 500, 5), divided by that of the likelihood."""
    likelihood = MaximumLikelihood({"kinetic": 0.5 / 500, "hjb": 5 / 500})
    return (Phase(likelihood, solver=RungeKutta("rk4", steps=8), learning_rate=1e-2),)


def planar_cnf(flow: Flow) -> tuple[Phase, ...]:
    """Maximum likelihood at a learning rate of 0.001."""
    return (Phase(learning_rate=1e-3),)


def free_form(flow: Flow) -> tuple[Phase, ...]:
    """The surrogate of the likelihood and the reconstruction."""
    return (Phase(FreeForm(), learning_rate=1e-2),)


def sphere_cnf(flow: Flow) -> tuple[Phase, ...]:
    """Geodesics, then the likelihood."""
    return _on_manifold(Sphere(flow.event_shape.numel()))


def torus_cnf(flow: Flow) -> tuple[Phase, ...]:
    """Geodesics, then the likelihood."""
    return _on_manifold(Torus(flow.event_shape.numel()))


def _on_manifold(manifold: Manifold) -> tuple[Phase, ...]:
    """Flow matching first, which solves no equation, then the likelihood itself for as long."""
    return (
        Phase(FlowMatching(GeodesicPath(manifold)), learning_rate=5e-3, optimizer="muon"),
        Phase(solver=TRAINING, learning_rate=2e-3, optimizer="muon"),
    )
