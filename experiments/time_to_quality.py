"""Likelihood against seconds of training: FFJORD's recipe, RNODE, OT-Flow, our default three ways, zuko's flows.

KL(data ‖ model) on toys of known density, test NLL in standardised units on two tables. FFJORD's recipe (Grathwohl et
al. 2019, arXiv 1810.01367) is as published for toys: ConcatSquash layers of 64-64-64, tanh, dopri5 at 1e-5 by
torchdiffeq's adjoint, Adam at 1e-3, batches of 100; its rate falls by a cosine here, in its favour. OT-Flow has one
weighting for all sets, not the authors' for each. Seconds are those that one thread had of a processor, so that a
machine shared with others gives the same curves. A curve is one run, its averaged weights judged by 1,000 held-out rows
with the trace of its training; its dot judges what the run returns by 10,000 others with the exact trace. 50 minutes of
one core: `CNF_DATA=… python -m experiments.time_to_quality`; tables whose files are missing are left out.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import cnf
from cnf.data import TOYS, DataError
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.figures.time_to_quality import PAPER, figure, ours
from experiments.parts.contenders import MODELS
from experiments.parts.peers import installed
from experiments.parts.tasks import Task, task_of
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = ("8gaussians", "checkerboard", "pinwheel", "power_plant", "kin8nm", "power_plant_noise")
    models: tuple[str, ...] = (
        "ffjord", "rnode", "ot_flow", "cnf", "cnf_matching", "cnf_both", "zuko_cnf", "zuko_nsf", "zuko_maf",
        "zuko_realnvp",
    )  # fmt: skip
    seconds: float = 20.0  # of one core
    # These have two minutes on tables, and are alone on the one with noise.
    judged: tuple[str, ...] = ("cnf", "zuko_nsf", "zuko_maf", "zuko_realnvp")
    judged_seconds: float = 120.0
    long: tuple[str, ...] = ("8gaussians", "ffjord")  # the run of ten minutes
    long_seconds: float = 600.0
    short: tuple[float, ...] = (10.0, 15.0)  # budgets of the default there, each a run with its own schedule
    checks: int = 10  # points of a curve: one run, its averaged weights judged by fresh rows
    rows: int = 100_000
    validation_rows: int = 1_000
    test_rows: int = 10_000
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    curves: dict[str, dict[str, Any]] = {}
    for name in config.data:
        try:
            task = task_of(name, (config.rows, config.validation_rows, config.test_rows), config.seed)
        except DataError as error:
            print(f"left out: {error}")
            continue
        models = [model for model in installed(config.models) if not name.endswith("_noise") or model in config.judged]
        curves[name] = {model: trained(model, name, task, budget(model, name, config), config) for model in models}
    name, slow = config.long
    results: dict[str, Any] = {"curves": curves}
    if slow in curves.get(name, {}):
        task = task_of(name, (config.rows, config.validation_rows, config.test_rows), config.seed)
        results["short"] = [trained("cnf", name, task, seconds, config) for seconds in config.short]
        results |= speedup(curves[name][slow], [*results["short"], curves[name]["cnf"]])
    return results


def budget(model: str, data: str, config: Config) -> float:
    if (data, model) == tuple(config.long):
        return config.long_seconds
    return config.judged_seconds if data not in TOYS and model in config.judged else config.seconds


def trained(model: str, data: str, task: Task, seconds: float, config: Config) -> dict[str, Any]:
    """One run: its curve over time, and the test of what it returns."""
    torch.manual_seed(config.seed)
    flow, phases, settings = MODELS[model](task.train.shape[1])
    given = cnf.FitConfig(
        seconds=seconds, checks=config.checks, patience=None, seed=config.seed, progress=False, **settings
    )
    fitted = cnf.fit(flow, task.train, phases, validation=task.validation, config=given, clock=time.process_time)
    floor = task.floor(task.validation).mean().item()
    gaps = np.minimum.accumulate([row["validation_nll"] - floor for row in fitted.history])
    loss = mean_and_error(-log_prob_of_rows(flow, task.test).double() - task.floor(task.test))
    print(f"{data} {model}: {loss.mean:.4f} ± {loss.standard_error:.4f} after {fitted.seconds:.0f} s", flush=True)
    return {
        "seconds": [row["seconds"] for row in fitted.history], "validation": gaps.tolist(),
        "budget": seconds, "steps": fitted.steps, "test": loss.mean, "error": loss.standard_error,
    }  # fmt: skip


def speedup(slow: dict[str, Any], fast: list[dict[str, Any]]) -> dict[str, float]:
    """How much sooner the default has the KL that the other recipe ends with."""
    enough = [run["budget"] for run in fast if run["test"] <= slow["test"]]
    return {"kl_slow": slow["test"], "speedup": slow["budget"] / min(enough, default=math.inf)}


SMOKE = {
    "data": ("8gaussians",),
    "seconds": 0.2,
    "long_seconds": 0.2,
    "short": (0.2,),
    "checks": 2,
    "rows": 2_000,
    "validation_rows": 100,
    "test_rows": 100,
}

if __name__ == "__main__":
    run("time_to_quality", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
