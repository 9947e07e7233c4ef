"""Flows with their recipes, ours, published ones and zuko's, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cnf
from cnf.continuous.solvers import Torchdiffeq
from cnf.discrete import Standardize
from experiments.parts.peers import ZukoFlow

PUBLISHED: dict[str, Any] = {
    "batch_size": 100, "learning_rate": 1e-3, "weight_decay": 1e-5, "warmup": 0, "clip": 0.0, "ema": 0.0,
}  # fmt: skip
DISCRETE: dict[str, Any] = {"batch_size": 512, "learning_rate": 2e-3}  # as in `tabular_baselines`
Model = tuple[cnf.Flow, tuple[cnf.Phase, ...] | None, dict[str, Any]]


def _ffjord(dim: int) -> Model:
    return cnf.build("ffjord", dim, solver=Torchdiffeq("dopri5", 1e-5, 1e-5, adjoint=True)), None, PUBLISHED


def _matching(dim: int) -> Model:
    flow, likelihood = _default(dim)
    return flow, (replace(likelihood, objective=cnf.FlowMatching()),), {}


def _both(dim: int) -> Model:
    """Matching for a third of the time, then the default."""
    flow, likelihood = _default(dim)
    return flow, (replace(likelihood, objective=cnf.FlowMatching()), replace(likelihood, share=2.0)), {}


def _default(dim: int) -> tuple[cnf.Flow, cnf.Phase]:
    flow = cnf.build("cnf", dim)
    return flow, flow.recipe[-1]


def _zuko_cnf(dim: int) -> Model:
    import zuko  # only the peers need it

    return _standardised(zuko.flows.CNF(dim, 0, hidden_features=(64, 64, 64))), None, {"learning_rate": 1e-3}


def _zuko(kind: str, dim: int, **options: Any) -> Model:
    import zuko

    flow = getattr(zuko.flows, kind)(dim, 0, transforms=5, hidden_features=(128, 128), **options)
    return _standardised(flow), None, DISCRETE


def _standardised(peer: Any) -> cnf.Flow:
    dim = peer.base().event_shape[0]
    return cnf.Flow(cnf.Compose([Standardize(dim), ZukoFlow(peer)]), cnf.StandardNormal(dim))


MODELS: dict[str, Callable[[int], Model]] = {
    "ffjord": _ffjord,
    "rnode": lambda dim: (cnf.build("rnode", dim), None, {}),
    "ot_flow": lambda dim: (cnf.build("ot_flow", dim), None, {}),
    "cnf": lambda dim: (cnf.build("cnf", dim), None, {}),
    "cnf_matching": _matching,
    "cnf_both": _both,
    "zuko_cnf": _zuko_cnf,
    "zuko_nsf": lambda dim: _zuko("NSF", dim, bins=8),
    "zuko_maf": lambda dim: _zuko("MAF", dim),
    "zuko_realnvp": lambda dim: _zuko("RealNVP", dim),
}
