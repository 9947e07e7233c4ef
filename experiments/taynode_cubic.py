"""A neural ODE fitted to `z(1) = z + z³`, with and without a penalty on the third derivative of its trajectories.

The same solver at the same tolerance, with `R_3 = ∫ ‖d³z/dt³‖² dt` beside the loss and without. From the default start,
smaller than this one, a field so small stays smooth by itself, and dopri5 takes the same steps with and without; the
gain of 2 was chosen among 1, 1.5, 2, 3. Three minutes on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import trange

import cnf
from cnf.continuous.solvers import State
from experiments.figures.taynode_cubic import PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    weights: tuple[float, ...] = (0.0, 0.003)  # of R_3 beside the squared error
    order: int = 3
    steps: int = 600
    points: int = 64  # of [−1, 1], all of them in every step
    learning_rate: float = 1e-2
    hidden: tuple[int, ...] = (32, 32)
    gain: float = 2.0  # of the first weights over Glorot's: from smaller ones so small a field stays smooth by itself
    training_tolerance: float = 1e-3
    solvers: tuple[tuple[str, float], ...] = (("bosh3", 1e-4), ("dopri5", 1e-7))  # with tolerances; the first is drawn
    trajectories: int = 13
    seed: int = 0


def target(z: Tensor) -> Tensor:
    return z + z**3


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits = [fitted(config, weight) for weight in config.weights]
    numbers = {f"{name}, weight {fit['weight']:g}": fit[name] for fit in fits for name in ("rmse", "penalty")}
    for method, _ in config.solvers:
        numbers |= {f"{method}, weight {fit['weight']:g}": fit["evaluations"][method] for fit in fits}
    return {"fits": fits, **numbers}


def fitted(config: Config, weight: float) -> dict[str, Any]:
    """Train with a weight on the penalty, then solve at the tight tolerance."""
    torch.manual_seed(config.seed)
    loose = cnf.RungeKutta("dopri5", rtol=config.training_tolerance, atol=config.training_tolerance)
    penalty = {"derivative": cnf.HigherDerivative(config.order)}
    field = cnf.MLPField(1, hidden=config.hidden)
    for tensor in field.parameters():
        if tensor.dim() == 2:
            nn.init.xavier_normal_(tensor, config.gain)
        else:
            nn.init.zeros_(tensor)
    model = cnf.CNF(field, regularizers=penalty, solver=loose)
    free = cnf.reconfigure(model, regularizers={})
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    z = torch.linspace(-1, 1, config.points).unsqueeze(1)
    for _ in trange(config.steps, desc=f"weight {weight:g}"):
        if weight:
            value, _, costs = model.decode(z)
            loss = (value - target(z)).square().mean() + weight * costs["derivative"].mean()
        else:
            loss = (free.push(z) - target(z)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {"weight": weight, **measured(config, model)}


@torch.no_grad()
def measured(config: Config, model: cnf.CNF) -> dict[str, Any]:
    """Accuracy, evaluations of every solver, and the trajectories at the steps of the first and in between."""
    z = torch.linspace(-1, 1, config.trajectories).unsqueeze(1)
    solvers = {method: cnf.RungeKutta(method, rtol=error, atol=error) for method, error in config.solvers}
    evaluations, drawn = {}, solvers[config.solvers[0][0]]
    for method, solver in solvers.items():
        with cnf.count_evaluations() as count:
            end = cnf.reconfigure(model, solver=solver).push(z)
        evaluations[method] = count.evaluations

    def rhs(t: float | Tensor, x: Tensor) -> State:
        return State(model.field(torch.as_tensor(t, dtype=x.dtype), x))

    stops = drawn.grid(rhs, State(z), 0.0, 1.0)
    model = cnf.reconfigure(model, solver=cnf.RungeKutta())
    return {
        "rmse": (end - target(z)).square().mean().sqrt().item(),
        "penalty": model.decode(z).costs["derivative"].mean().item(),
        "evaluations": evaluations,
        "stops": [round(time, 4) for time in stops],
        "at_stops": rounded(model.path(z, torch.tensor(stops))),
        "paths": rounded(model.path(z, torch.linspace(0, 1, 61))),
    }


def rounded(path: Tensor) -> list[list[float]]:
    return [[round(value, 3) for value in state] for state in path.squeeze(2).tolist()]


SMOKE = {"steps": 5, "hidden": (8,), "trajectories": 5}

if __name__ == "__main__":
    run("taynode_cubic", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
