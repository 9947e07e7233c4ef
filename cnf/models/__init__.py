"""Models by name: builders of published flows, and of our own default."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from cnf.arguments import Shape, SizeOrZero, checked
from cnf.continuous.cnf import cnfs_of
from cnf.continuous.divergences import Divergence, Exact, Hutchinson
from cnf.continuous.solvers import RungeKutta
from cnf.distributions import as_event_shape
from cnf.flows import Flow
from cnf.manifolds.geometry import Manifold, Sphere, Torus
from cnf.models.assembly import is_image
from cnf.models.continuous import augmented_cnf, cnf, ffjord, ot_flow, planar_cnf, rnode
from cnf.models.couplings import iaf, maf, nice, nsf_autoregressive, nsf_coupling, realnvp
from cnf.models.freeform import free_form, sphere_free_form
from cnf.models.layers import gaussianization, glow, planar, radial, rbig, residual
from cnf.models.manifolds import sphere_cnf, torus_cnf, torus_nsf
from cnf.objectives.freeform import FreeForm
from cnf.objectives.geodesic import GeodesicPath
from cnf.objectives.likelihood import MaximumLikelihood
from cnf.objectives.matching import FlowMatching
from cnf.objectives.phases import Phase


@checked
def build(name: str, event_shape: Shape, context_dim: SizeOrZero = 0, **options: Any) -> Flow:
    """Build a model by name; `cnf.save` writes down how.

    Every model standardises its context, and its data unless they are angles or directions: `flow.initialize(x,
    context)`, or `cnf.fit`, sets the constants. Events `(C, H, W)` are images with values in [0, 1], which pass a logit
    first; for other values give `preprocess="standardize"`.

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
    flow = MODELS[name](shape, context_dim, **options)
    flow.spec = {"name": name, "event_shape": tuple(shape), "context_dim": context_dim, "options": options}
    return flow


def recipe_of(flow: Flow) -> tuple[Phase, ...]:
    """How a built model is trained unless told otherwise; any other flow by plain likelihood and its own settings."""
    name = flow.spec["name"] if flow.spec else ""
    return RECIPES[name](flow) if name in RECIPES else (Phase(),)


MODELS: dict[str, Callable[..., Flow]] = {
    "cnf": cnf,
    "ffjord": ffjord,
    "rnode": rnode,
    "ot_flow": ot_flow,
    "planar_cnf": planar_cnf,
    "augmented_cnf": augmented_cnf,
    "nice": nice,
    "realnvp": realnvp,
    "glow": glow,
    "maf": maf,
    "iaf": iaf,
    "nsf_coupling": nsf_coupling,
    "nsf_autoregressive": nsf_autoregressive,
    "torus_nsf": torus_nsf,
    "sphere_cnf": sphere_cnf,
    "torus_cnf": torus_cnf,
    "residual": residual,
    "planar": planar,
    "radial": radial,
    "gaussianization": gaussianization,
    "rbig": rbig,
    "free_form": free_form,
    "sphere_free_form": sphere_free_form,
}


# Loose, but kept for every row; at so few steps one grid for all takes the fewest evaluations.
TRAINING = RungeKutta("dopri5", rtol=1e-2, atol=1e-2, rows="together")


def _published_divergence(flow: Flow) -> Divergence:
    """FFJORD's: exact on the plane, one Gaussian probe beyond."""
    return Exact() if flow.event_shape.numel() <= 2 else Hutchinson(noise="gaussian")


def _image_weights(flow: Flow) -> dict[str, float]:
    """A little kinetic energy for images that have the cost: few rows for so many pixels want short, smooth paths."""
    costs = {name for part in cnfs_of(flow) for name in part.regularizers}
    return {"kinetic": 0.1} if is_image(flow.event_shape) and "kinetic" in costs else {}


def _on_manifold(manifold: Manifold) -> tuple[Phase, ...]:
    """Geodesics first, which cost no solve, then a shorter while the likelihood itself."""
    return (
        Phase(FlowMatching(GeodesicPath(manifold)), share=1.0, learning_rate=5e-3, optimizer="muon"),
        Phase(solver=TRAINING, learning_rate=2e-3, optimizer="muon"),
    )


RECIPES: dict[str, Callable[[Flow], tuple[Phase, ...]]] = {
    "cnf": lambda flow: (
        Phase(
            MaximumLikelihood(_image_weights(flow)),
            solver=TRAINING,
            learning_rate=2e-2,
            optimizer="muon",
        ),
    ),
    "ffjord": lambda flow: (Phase(divergence=_published_divergence(flow), learning_rate=1e-3),),
    "rnode": lambda flow: (
        Phase(
            MaximumLikelihood({"kinetic": 0.01 * math.log(2) / 2, "frobenius": 0.01 * math.log(2)}),
            solver=RungeKutta("rk4", steps=4),
            divergence=Hutchinson(noise="gaussian"),
            learning_rate=1e-3,
        ),
    ),
    "ot_flow": lambda flow: (
        Phase(
            MaximumLikelihood({"kinetic": 0.5 / 500, "hjb": 5 / 500}),
            solver=RungeKutta("rk4", steps=8),
            learning_rate=1e-2,
        ),
    ),
    "planar_cnf": lambda flow: (Phase(learning_rate=1e-3),),
    "augmented_cnf": lambda flow: (Phase(solver=TRAINING, learning_rate=1e-2),),
    "free_form": lambda flow: (Phase(FreeForm(), learning_rate=1e-2),),
    "sphere_free_form": lambda flow: (Phase(FreeForm(), learning_rate=1e-2),),
    "sphere_cnf": lambda flow: _on_manifold(Sphere(flow.event_shape.numel())),
    "torus_cnf": lambda flow: _on_manifold(Torus(flow.event_shape.numel())),
}
