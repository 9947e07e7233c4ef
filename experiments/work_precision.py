"""Error of the log-density against evaluations a row, for each solver and tolerance, on four trained fields.

Finlay et al. 2020 (arXiv 2002.02798) and Lipman et al. 2023 (arXiv 2210.02747) report fewer evaluations for
regularised and for flow-matched fields; Kidger's thesis (arXiv 2202.02435, section 5) draws such diagrams. The question
here is the user's: which solver for an error of 0.1, 0.01 or 0.001 nats in a row's log p? The last field has kinks: the
SELU network of torchcfm, trained by minibatch optimal transport. Peers: torchdiffeq's dopri5 with its own norm, a mean
over the batch, and torchode's, whose rows have steps of their own (left out where it is not installed). All evaluate
the same right-hand side with the exact trace. Five minutes of one core.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cnf
from cnf.data import toy
from experiments.figures.work_precision import PAPER, figure, ours
from experiments.parts import torchode_rows
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: str = "8gaussians"
    rows: int = 50_000
    steps: int = 500
    points: int = 300
    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    grids: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    reference: int = 1_000  # steps of RK4
    wanted: tuple[float, ...] = (0.1, 0.01, 0.001)  # nats
    seed: int = 0


FIELDS: dict[str, tuple[dict[str, Any], Any]] = {
    "likelihood": ({}, cnf.MaximumLikelihood()),
    "likelihood + kinetic": (
        {"regularizers": {"kinetic": cnf.KineticEnergy()}}, cnf.MaximumLikelihood(weights={"kinetic": 0.05})
    ),
    "flow matching": ({}, cnf.FlowMatching()),
    "flow matching, SELU": ({}, cnf.FlowMatching(coupling=cnf.OptimalTransport(group=128))),
}  # fmt: skip
GRID = "rk4, steps"
ADAPTIVE: dict[str, Callable[[float], cnf.Solver]] = {
    "bosh3, each row": lambda tol: cnf.RungeKutta("bosh3", tol, tol, rows="each"),
    "dopri5, each row": lambda tol: cnf.RungeKutta("dopri5", tol, tol, rows="each"),
    "dopri5, together": lambda tol: cnf.RungeKutta("dopri5", tol, tol, rows="together", max_steps=1_000),
    "torchdiffeq": lambda tol: cnf.Torchdiffeq("dopri5", tol, tol, adjoint=False, options={"norm": batch_mean}),
    "torchode": torchode_rows.TorchodeRows,
}


def batch_mean(parts: tuple[Tensor, ...]) -> Tensor:
    """The norm of torchdiffeq for tuples."""
    return torch.stack([part.square().mean().sqrt() for part in parts]).max()


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    source = toy(config.data)
    draw = torch.Generator().manual_seed(config.seed)
    train, test = source.sample(config.rows, generator=draw), source.sample(config.points, generator=draw).double()
    panels = {name: measured(config, name, train, test) for name in FIELDS}
    choices = {
        f"{name}: error below {wanted:g}": cheapest(curves, wanted)
        for (name, curves), wanted in itertools.product(panels.items(), config.wanted)
    }
    for name, choice in choices.items():
        print(f"{name:45} {choice['evaluations']:5.0f} evaluations, {choice['solver']}")
    return {"panels": panels, "choices": choices}


def measured(config: Config, name: str, train: Tensor, test: Tensor) -> dict[str, list[dict[str, Any]]]:
    """Of each solver its settings, each with evaluations a row and the error nine rows of ten keep within."""
    flow = trained(config, name, train)
    exact, _ = judged(flow, cnf.RungeKutta("rk4", steps=config.reference), test)
    there = torchode_rows.installed()
    adaptive = {solver: make for solver, make in ADAPTIVE.items() if there or solver != "torchode"}
    settings = [
        *((s, f"tolerance {t:g}", make(t)) for (s, make), t in itertools.product(adaptive.items(), config.tolerances)),
        *((GRID, f"{n} steps", cnf.RungeKutta("rk4", steps=n)) for n in config.grids),
    ]
    curves: dict[str, list[dict[str, Any]]] = {solver: [] for solver in (*adaptive, GRID)}
    for method, setting, solver in settings:
        try:
            log_prob, evaluations = judged(flow, solver, test)
        except cnf.SolverError as error:
            print(f"{name}, {method}, {setting}: {error.reason}")
            continue
        errors = (log_prob - exact).abs()
        rounded = {"error": float(f"{errors.quantile(0.9):.3g}"), "largest": float(f"{errors.max():.3g}")}
        curves[method].append({"setting": setting, "evaluations": round(evaluations, 1), **rounded})
    return curves


def trained(config: Config, name: str, train: Tensor) -> cnf.Flow:
    options, objective = FIELDS[name]
    torch.manual_seed(config.seed)
    flow = cnf.from_velocity(selu(), 2, arguments="concat") if "SELU" in name else cnf.build("cnf", 2, **options)
    cnf.fit(flow, train, objective=objective, config=cnf.FitConfig(steps=config.steps, seed=config.seed))
    return cnf.reconfigure(flow.double(), regularizers={})


def selu() -> nn.Sequential:
    """The network of torchcfm's examples."""
    hidden = [part for reads in (3, 64, 64) for part in (nn.Linear(reads, 64), nn.SELU())]
    return nn.Sequential(*hidden, nn.Linear(64, 2))


@torch.no_grad()
def judged(flow: cnf.Flow, solver: cnf.Solver, x: Tensor) -> tuple[Tensor, float]:
    with cnf.count_evaluations() as count:
        log_prob = cnf.reconfigure(flow, solver=solver).log_prob(x)
    return log_prob, count.row_evaluations / len(x)


def cheapest(curves: dict[str, list[dict[str, Any]]], wanted: float) -> dict[str, Any]:
    """The setting of fewest evaluations whose error is below `wanted`."""
    good = [
        {"solver": f"{method}, {point['setting']}", "evaluations": point["evaluations"]}
        for method, points in curves.items() for point in points if point["error"] < wanted
    ]  # fmt: skip
    return min(good, key=lambda choice: choice["evaluations"], default={"solver": "none", "evaluations": np.nan})


SMOKE = {"rows": 500, "steps": 5, "points": 20, "tolerances": (1e-1, 1e-3), "grids": (2, 4), "reference": 50}

if __name__ == "__main__":
    run("work_precision", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
