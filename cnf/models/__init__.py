"""Models by name: builders of published flows, and of our own default."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cnf.continuous.divergences import Divergence, Exact, Hutchinson
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.distributions import as_event_shape
from cnf.flows import Flow
from cnf.models.continuous import cnf, ffjord, ot_flow, planar_cnf, rnode
from cnf.models.couplings import iaf, maf, nice, nsf_autoregressive, nsf_coupling, realnvp
from cnf.models.layers import gaussianization, glow, planar, radial, rbig, residual
from cnf.objectives.likelihood import MaximumLikelihood, Objective


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


MODELS: dict[str, Callable[..., Flow]] = {
    "cnf": cnf,
    "ffjord": ffjord,
    "rnode": rnode,
    "ot_flow": ot_flow,
    "planar_cnf": planar_cnf,
    "nice": nice,
    "realnvp": realnvp,
    "glow": glow,
    "maf": maf,
    "iaf": iaf,
    "nsf_coupling": nsf_coupling,
    "nsf_autoregressive": nsf_autoregressive,
    "residual": residual,
    "planar": planar,
    "radial": radial,
    "gaussianization": gaussianization,
    "rbig": rbig,
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
