"""Builders of published models, and of our own default."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact, Hutchinson
from cnf.continuous.fields import ConvField, MLPField, PlanarField, PotentialField, VectorField
from cnf.continuous.regularizers import HamiltonJacobi, JacobianFrobenius, KineticEnergy, Regularizer
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.discrete.elementwise import Logit, Standardize, StandardizeContext
from cnf.distributions import StandardNormal, as_event_shape
from cnf.flows import Flow
from cnf.objectives.likelihood import MaximumLikelihood, Objective
from cnf.transforms import Compose, Flatten, Transform


def build(name: str, event_shape: int | Sequence[int], context_dim: int = 0, **options: Any) -> Flow:
    """Build a model by name; `cnf.save` writes down how.

    Every model standardises its data and its context: `flow.initialize(x, context)`, or `cnf.fit`, sets the constants.

    Args:
        name: A key of `MODELS`.
        event_shape: Shape of one sample; an int is a vector of that length.
        context_dim: Length of the context; 0 for an unconditional flow.
        options: What the builder takes, see its docstring.

    Raises:
        ValueError: An unknown model or option; the message lists the known ones.

    Example:
        >>> flow = build("ffjord", 2, hidden=(64, 64, 64))
        >>> flow.event_shape
        torch.Size([2])
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: known ones are {', '.join(MODELS)}")
    shape = as_event_shape(event_shape)
    known = [key for key in inspect.signature(MODELS[name]).parameters if key not in ("event_shape", "context_dim")]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}: its options are {', '.join(known)}")
    if context_dim < 0:
        raise ValueError(f"context_dim must not be negative, got {context_dim}")
    flow = MODELS[name](shape, context_dim, **options)
    flow.spec = {"name": name, "event_shape": tuple(shape), "context_dim": context_dim, "options": options}
    return flow


@dataclass(frozen=True)
class Recipe:
    """How a model is trained unless told otherwise. The flow itself keeps the settings that it is evaluated with.

    Attributes:
        objective: What is minimised.
        solver: The solver of training; None for the flow's own.
        divergence: The divergence of training; None for the flow's own.
        learning_rate: Peak of the learning rate.
    """

    objective: Objective = MaximumLikelihood()
    solver: Solver | None = None
    divergence: Divergence | None = None
    learning_rate: float = 2e-3


def recipe_of(flow: Flow) -> Recipe:
    """The recipe of a built model; plain maximum likelihood with its own settings for any other flow."""
    name = flow.spec["name"] if flow.spec else ""
    return RECIPES[name](flow) if name in RECIPES else Recipe()


PREPROCESSING: dict[str, Callable[[Sequence[int]], list[Transform]]] = {
    "standardize": lambda shape: [Standardize(shape)],
    "logit": lambda shape: [Logit(1e-6)],
    "none": lambda shape: [],
}


def _assemble(
    event_shape: Sequence[int], context_dim: int, cnfs: Sequence[CNF], preprocess: str, *, flat: bool
) -> Flow:
    """Preprocessing, then the CNFs in the order of `encode`, on a standard normal base."""
    if preprocess not in PREPROCESSING:
        raise ValueError(f"unknown preprocessing {preprocess!r}: known ones are {', '.join(PREPROCESSING)}")
    body: Transform = cnfs[0] if len(cnfs) == 1 else Compose(cnfs)
    if flat and len(event_shape) > 1:
        body = Flatten(body, event_shape)
    if context_dim:
        body = StandardizeContext(body, context_dim)
    return Flow(Compose([*PREPROCESSING[preprocess](event_shape), body]), StandardNormal(event_shape))


def _size(event_shape: Sequence[int]) -> int:
    return as_event_shape(event_shape).numel()


def _zero_last(field: MLPField | ConvField) -> MLPField | ConvField:
    """Begin at the identity: the last layer's weights, bias and, where it has one, shift at zero."""
    for module in (field.layers[-1], *field.shifts[-1:]):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    return field


def cnf(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    hidden: Sequence[int] | None = None,
    activation: str = "silu",
    time: str = "concat",
    residual: bool = False,
    divergence: Divergence = Exact(),
    regularizers: Mapping[str, Regularizer] = {},
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: str | None = None,
) -> Flow:
    """Our recommended default: a smooth field whose exact trace is cheap, trained with it at a tolerance of 0.01.

    Up to three dimensions it has three hidden layers of 64, whose trace takes a few tangents; beyond, two of 128,
    whose trace has a closed form at the cost of one product, whatever the dimension. Images `(C, H, W)` pass a logit
    first. The training tolerance is loose but kept for every sample: on a fixed grid the likelihood can be pushed
    above the truth by making the solver err.

    Options are those of `MLPField` and `CNF`.
    """
    dim = _size(event_shape)
    hidden = hidden or ((64, 64, 64) if dim <= 3 else (128, 128))
    field = MLPField(dim, hidden, context_dim, activation, time, residual=residual)
    transform = CNF(_zero_last(field), divergence, regularizers, solver)
    preprocess = preprocess or ("logit" if len(event_shape) == 3 else "standardize")
    return _assemble(event_shape, context_dim, [transform], preprocess, flat=True)


def ffjord(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    hidden: Sequence[int] = (64, 64, 64),
    activation: str | None = None,
    time: str = "concatsquash",
    blocks: int = 1,
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: str | None = None,
) -> Flow:
    """FFJORD: a free-form field of ConcatSquash layers; convolutional, after a logit, for images `(C, H, W)`.

    As published: three hidden layers of 64, tanh (softplus for images), dopri5 at 1e-5; trained with the exact trace
    in two dimensions and one Gaussian Hutchinson probe in more, evaluated with the exact trace. Deviations: the
    end time is 1 and not learned (the field's scale stands for it); data are standardised; gradients go through the
    solver's steps, not the adjoint (`solver=Torchdiffeq()` has it); every sample meets the tolerance, not the
    batch's mean.

    Args:
        blocks: CNFs in a row (tables: 1 to 10, as published).

    References:
        Grathwohl et al. 2019, arXiv 1810.01367.
    """
    image = len(event_shape) == 3

    def field() -> VectorField:
        if image:
            return ConvField(event_shape, hidden, context_dim, activation or "softplus")
        return MLPField(_size(event_shape), hidden, context_dim, activation or "tanh", time)

    cnfs = [CNF(field(), divergence, {}, solver) for _ in range(blocks)]
    return _assemble(
        event_shape, context_dim, cnfs, preprocess or ("logit" if image else "standardize"), flat=not image
    )


def rnode(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    hidden: Sequence[int] = (64, 64, 64),
    activation: str | None = None,
    time: str = "concat",
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: str | None = None,
) -> Flow:
    """RNODE: FFJORD with kinetic and Jacobian penalties, which allow a fixed grid in training.

    As published: trained by RK4 with step ¼, one Gaussian probe shared by trace and Frobenius norm, last layer started
    at zero, both λ = 0.01 (in `RECIPES`, converted to nats); evaluated by dopri5 at 1e-5. Deviations: the network is
    FFJORD's for tables; data are standardised.

    References:
        Finlay et al. 2020, arXiv 2002.02798.
    """
    image = len(event_shape) == 3
    field: VectorField
    if image:
        field = ConvField(event_shape, hidden, context_dim, activation or "softplus")
    else:
        field = MLPField(_size(event_shape), hidden, context_dim, activation or "tanh", time)
    costs = {"kinetic": KineticEnergy(), "frobenius": JacobianFrobenius()}
    transform = CNF(_zero_last(field), divergence, costs, solver)
    return _assemble(
        event_shape, context_dim, [transform], preprocess or ("logit" if image else "standardize"), flat=not image
    )


def ot_flow(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    hidden: int = 32,
    depth: int = 1,
    rank: int | None = None,
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: str = "standardize",
) -> Flow:
    """OT-Flow: the gradient of a potential, its exact trace in closed form, transport and HJB penalties.

    As published for toys: width 32 and one residual layer (1,229 parameters in two dimensions), trained by RK4 with 8
    steps. Deviations: data are standardised; evaluated by dopri5; the weights in `RECIPES` are the paper's for POWER,
    α = (1, 500, 5), divided by that of the likelihood. The paper tunes them for each set:
    `MaximumLikelihood(weights=...)` takes others.

    References:
        Onken et al. 2021, arXiv 2006.00104.
    """
    field = PotentialField(_size(event_shape), hidden, depth=depth, rank=rank, context_dim=context_dim)
    costs = {"kinetic": KineticEnergy(), "hjb": HamiltonJacobi()}
    return _assemble(event_shape, context_dim, [CNF(field, divergence, costs, solver)], preprocess, flat=True)


def planar_cnf(
    event_shape: Sequence[int],
    context_dim: int = 0,
    *,
    width: int = 64,
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: str = "standardize",
) -> Flow:
    """The planar CNF of Chen et al.: gated planar units whose weights a hypernetwork of time gives.

    As published: width 64, dopri5 at 1e-5. Deviations from the authors' code: end time 1 instead of 10 and a unit
    normal base instead of variance 0.1; data are standardised.

    References:
        Chen et al. 2018, arXiv 1806.07366.
    """
    field = PlanarField(_size(event_shape), width, context_dim=context_dim)
    return _assemble(event_shape, context_dim, [CNF(field, divergence, {}, solver)], preprocess, flat=True)


MODELS: dict[str, Callable[..., Flow]] = {
    "cnf": cnf,
    "ffjord": ffjord,
    "rnode": rnode,
    "ot_flow": ot_flow,
    "planar_cnf": planar_cnf,
}

RECIPES: dict[str, Callable[[Flow], Recipe]] = {
    "cnf": lambda flow: Recipe(solver=RungeKutta("dopri5", rtol=1e-2, atol=1e-2), learning_rate=1e-2),
    "ffjord": lambda flow: Recipe(
        divergence=Exact() if flow.event_shape.numel() <= 2 else Hutchinson(noise="gaussian"), learning_rate=1e-3
    ),
    "rnode": lambda flow: Recipe(
        MaximumLikelihood({"kinetic": 0.01 * math.log(2) / 2, "frobenius": 0.01 * math.log(2)}),
        RungeKutta("rk4", steps=4),
        Hutchinson(noise="gaussian"),
        learning_rate=1e-3,
    ),
    "ot_flow": lambda flow: Recipe(
        MaximumLikelihood({"kinetic": 0.5 / 500, "hjb": 5 / 500}), RungeKutta("rk4", steps=8), learning_rate=1e-2
    ),
    "planar_cnf": lambda flow: Recipe(learning_rate=1e-3),
}
