"""OT-Flow's toys: data, the same in base space, noise brought to data space, and density.

A potential of few parameters trained on 8 steps of RK4, with the authors' weights for each set. Three minutes of one
core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from tqdm import tqdm

import cnf
from cnf.data import toy
from cnf.metrics import kl_to, log_prob_of_rows
from experiments.figures.otflow_toy import EDGES, PAPER, figure, ours
from experiments.parts.pictures import columns, density_on
from experiments.run import run

ALPHAS = {  # the paper's α₁ of the likelihood and α₂ of the HJB penalty; the transport cost has α₀ = 1
    "8gaussians": (30, 1), "checkerboard": (15, 2), "swissroll": (30, 15), "pinwheel": (30, 15), "circles": (5, 1),
    "moons": (8, 1), "2spirals": (10, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    sets: tuple[str, ...] = ("8gaussians", "checkerboard", "pinwheel", "moons")  # of `ALPHAS`
    grid: int = 8  # RK4 steps in training, theirs
    fine: int = 16  # RK4 steps of the inverse error, theirs for most sets
    steps: int = 900  # theirs 5,000, and 20,000 for checkerboard
    batch_size: int = 256  # theirs 5,000, in double precision
    learning_rate: float = 5e-2  # theirs, halved every 500 steps or more; here a cosine
    optimizer: str = "muon"  # theirs Adam
    rows: int = 100_000
    test_rows: int = 5_000
    shown: int = 1_500  # points
    cells: int = 80  # of the densities, along a side
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits = {name: fitted(config, name) for name in tqdm(config.sets, desc="sets")}
    keys = ("kl", "inverse_error", "evaluations")
    return {"fits": fits, **{f"{key}, {name}": fit[key] for name, fit in fits.items() for key in keys}}


def fitted(config: Config, name: str) -> dict[str, Any]:
    """A flow trained on one set, measured and drawn."""
    torch.manual_seed(config.seed)
    source, draw = toy(name), Generator().manual_seed(config.seed)
    train, test = (source.sample(n, generator=draw) for n in (config.rows, config.test_rows))
    likelihood, hjb = ALPHAS[name]
    weights = {"kinetic": 0.5 / likelihood, "hjb": hjb / likelihood}  # theirs is half the kinetic energy
    phase = cnf.Phase(
        cnf.MaximumLikelihood(weights), solver=cnf.RungeKutta("rk4", steps=config.grid),
        learning_rate=config.learning_rate, optimizer=config.optimizer,
    )  # fmt: skip
    settings = cnf.FitConfig(
        steps=config.steps, batch_size=config.batch_size, weight_decay=0.0, checks=1, seed=config.seed
    )
    flow = cnf.build("ot_flow", 2, preprocess="none")
    seconds = cnf.fit(flow, train, [phase], config=settings).seconds
    return measured(config, flow, source.log_prob(test.double()), test) | {
        "entropy": source.entropy, "seconds": round(seconds, 1),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
    }  # fmt: skip


@torch.no_grad()
def measured(config: Config, flow: cnf.Flow, exact: Tensor, test: Tensor) -> dict[str, Any]:
    """Likelihoods at a tight tolerance and on the grid of training, inverse error, and what the figure shows."""
    with cnf.count_evaluations() as count:
        gap = kl_to(flow, test, exact, batch_size=len(test))
    coarse, fine = (cnf.reconfigure(flow, solver=cnf.RungeKutta("rk4", steps=n)) for n in (config.grid, config.fine))
    there_and_back = fine.transform.decode(fine.transform.encode(test).value).value
    return {
        "kl": round(gap.mean, 4), "kl_standard_error": round(gap.standard_error, 4), "evaluations": count.evaluations,
        "kl_on_grid": round((exact - log_prob_of_rows(coarse, test)).mean().item(), 4),
        "inverse_error": torch.linalg.vector_norm(there_and_back - test, dim=1).mean().item(),
        "data": columns(test[: config.shown]), "base": columns(flow.transform.encode(test[: config.shown]).value),
        "samples": columns(flow.sample(config.shown)),
        "density": density_on(EDGES[0], config.cells, lambda x: log_prob_of_rows(flow, x)),
        "largest": exact.max().exp().item(),
    }  # fmt: skip


SMOKE = {"sets": ("8gaussians", "checkerboard"), "steps": 3, "rows": 500, "test_rows": 100, "cells": 12, "shown": 50}

if __name__ == "__main__":
    run("otflow_toy", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
