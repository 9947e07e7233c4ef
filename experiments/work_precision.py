"""Error of the log-density against evaluations, for each method and tolerance, on fields trained in three ways.

Finlay et al. 2020 (arXiv 2002.02798) and Lipman et al. 2023 (arXiv 2210.02747) report fewer evaluations for
regularised and for flow-matched fields; Kidger's thesis (arXiv 2202.02435, section 5) draws such diagrams. The question
here is the user's: which solver for an error of 0.1, 0.01 or 0.001 nats in a row's log p?
Five minutes of one core.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import cnf
from cnf.data import toy
from experiments.figures.work_precision import ADAPTIVE, FIXED, PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: str = "8gaussians"
    rows: int = 50_000
    steps: int = 800
    points: int = 1_000
    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    grids: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    wanted: tuple[float, ...] = (0.1, 0.01, 0.001)  # nats
    seed: int = 0


FIELDS: dict[str, tuple[dict[str, Any], Any]] = {
    "likelihood": ({}, cnf.MaximumLikelihood()),
    "likelihood + kinetic": (
        {"regularizers": {"kinetic": cnf.KineticEnergy()}}, cnf.MaximumLikelihood(weights={"kinetic": 0.05})
    ),
    "flow matching": ({}, cnf.FlowMatching()),
}  # fmt: skip


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


def measured(config: Config, name: str, train: torch.Tensor, test: torch.Tensor) -> dict[str, list[dict[str, Any]]]:
    """Of each method its settings, each with evaluations a solve and the error nine rows of ten keep within."""
    options, objective = FIELDS[name]
    torch.manual_seed(config.seed)
    flow = cnf.build("cnf", 2, **options)
    cnf.fit(flow, train, objective=objective, config=cnf.FitConfig(steps=config.steps, seed=config.seed))
    flow = cnf.reconfigure(flow.double(), regularizers={})
    exact, _ = judged(flow, cnf.RungeKutta("dopri5", rtol=1e-10, atol=1e-10), test)
    curves: dict[str, list[dict[str, Any]]] = {method: [] for method in (*ADAPTIVE, *FIXED)}
    solvers = [
        *((m, f"tolerance {t:g}", cnf.RungeKutta(m, t, t)) for m, t in itertools.product(ADAPTIVE, config.tolerances)),
        *((m, f"{n} steps", cnf.RungeKutta(m, steps=n)) for m, n in itertools.product(FIXED, config.grids)),
    ]
    for method, setting, solver in solvers:
        log_prob, evaluations = judged(flow, solver, test)
        error = float(f"{(log_prob - exact).abs().quantile(0.9).item():.3g}")
        curves[method].append({"setting": setting, "evaluations": evaluations, "error": error})
    return curves


@torch.no_grad()
def judged(flow: cnf.Flow, solver: cnf.Solver, x: torch.Tensor) -> tuple[torch.Tensor, int]:
    with cnf.count_evaluations() as count:
        log_prob = cnf.reconfigure(flow, solver=solver).log_prob(x)
    return log_prob, count.evaluations


def cheapest(curves: dict[str, list[dict[str, Any]]], wanted: float) -> dict[str, Any]:
    """The setting of fewest evaluations whose error is below `wanted`."""
    good = [
        {"solver": f"{method}, {point['setting']}", "evaluations": point["evaluations"]}
        for method, points in curves.items() for point in points if point["error"] < wanted
    ]  # fmt: skip
    return min(good, key=lambda choice: choice["evaluations"], default={"solver": "none", "evaluations": np.nan})


SMOKE = {"rows": 500, "steps": 5, "points": 20, "tolerances": (1e-1, 1e-3), "grids": (2, 4)}

if __name__ == "__main__":
    run("work_precision", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
