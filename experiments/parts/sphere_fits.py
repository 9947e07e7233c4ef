"""Flows on the sphere trained and judged."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

import cnf
from cnf.metrics import log_prob_of_rows
from experiments.parts.events import Rows
from experiments.parts.sphere_targets import globe_cells

EVALUATED = cnf.RungeKutta("dopri5", rtol=1e-5, atol=1e-5)


class Training(NamedTuple):
    """What is minimised, for how many steps, at which rate and how many rows a step."""

    objective: cnf.Objective
    steps: int
    rate: float
    batch: int


def fit(flow: cnf.Flow, rows: Rows, training: Training, tolerance: float, weight_decay: float, seed: int) -> float:
    """Train; the weights of the best validation are kept. Seconds of it."""
    solver = cnf.RungeKutta("dopri5", rtol=tolerance, atol=tolerance)
    phase = cnf.Phase(training.objective, solver=solver, learning_rate=training.rate, optimizer="muon")
    settings = cnf.FitConfig(
        steps=training.steps, batch_size=training.batch, weight_decay=weight_decay, checks=10,
        warmup=min(100, training.steps // 6), seed=seed, progress=False,
    )  # fmt: skip
    return cnf.fit(flow, rows[0], [phase], validation=rows[1], config=settings).seconds


def evaluated(flow: cnf.Flow) -> cnf.Flow:
    return cnf.reconfigure(flow, solver=EVALUATED) if flow.transform.continuous else flow


def nll(flow: cnf.Flow, x: Tensor) -> float:
    return round(-log_prob_of_rows(evaluated(flow), x).double().mean().item(), 4)


def map_of(flow: cnf.Flow, cells: int) -> list[int]:
    """The log-density in tenths of a nat on cells of equal angles, from the south-west, row by row."""
    return [round(10 * v) for v in log_prob_of_rows(evaluated(flow), globe_cells(cells)).tolist()]
