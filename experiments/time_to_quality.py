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
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cnf
from cnf.continuous.solvers import Torchdiffeq
from cnf.data import TOYS, DataError, data_root, split, toy
from cnf.discrete import Standardize
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.figures.time_to_quality import PAPER, figure, ours
from experiments.parts.peers import ZukoFlow, installed
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


PUBLISHED: dict[str, Any] = {
    "batch_size": 100, "learning_rate": 1e-3, "weight_decay": 1e-5, "warmup": 0, "clip": 0.0, "ema": 0.0,
}  # fmt: skip
DISCRETE: dict[str, Any] = {"batch_size": 512, "learning_rate": 2e-3}  # as in `tabular_baselines`
RESOLUTION = 0.01  # of all columns of power_plant


@dataclass(frozen=True)
class Task:
    """Rows, and the exact log-density where there is one."""

    train: Tensor
    validation: Tensor
    test: Tensor
    log_prob: Callable[[Tensor], Tensor] | None = None

    def floor(self, rows: Tensor) -> Tensor:
        """The best NLL there is, `(N,)`; 0 where nobody knows."""
        return rows.new_zeros(len(rows)) if self.log_prob is None else -self.log_prob(rows.double())


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    curves: dict[str, dict[str, Any]] = {}
    for name in config.data:
        try:
            task = task_of(name, config)
        except DataError as error:
            print(f"left out: {error}")
            continue
        models = [model for model in installed(config.models) if not name.endswith("_noise") or model in config.judged]
        curves[name] = {model: trained(model, name, task, budget(model, name, config), config) for model in models}
    name, slow = config.long
    results: dict[str, Any] = {"curves": curves}
    if slow in curves.get(name, {}):
        task = task_of(name, config)
        results["short"] = [trained("cnf", name, task, seconds, config) for seconds in config.short]
        results |= speedup(curves[name][slow], [*results["short"], curves[name]["cnf"]])
    return results


def budget(model: str, data: str, config: Config) -> float:
    if (data, model) == tuple(config.long):
        return config.long_seconds
    return config.judged_seconds if data not in TOYS and model in config.judged else config.seconds


def task_of(name: str, config: Config) -> Task:
    if name in TOYS:
        source, draw = toy(name), torch.Generator().manual_seed(config.seed)
        parts = (source.sample(n, generator=draw) for n in (config.rows, config.validation_rows, config.test_rows))
        return Task(*parts, source.log_prob)
    path = data_root() / f"{name.removesuffix('_noise')}.npy"
    if not path.is_file():
        raise DataError(f"{name}: no file {path}")
    x = np.load(path).astype(np.float64)
    if name.endswith("_noise"):
        x = x + RESOLUTION * (np.random.default_rng(config.seed).random(x.shape) - 0.5)
    rows = split(len(x))
    mean, std = x[rows.train].mean(0), x[rows.train].std(0)
    x = torch.tensor((x - mean) / std, dtype=torch.float32)
    return Task(x[rows.train], x[rows.validation], x[rows.test])


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


SMOKE = {
    "data": ("8gaussians",),
    "seconds": 0.5,
    "long_seconds": 0.5,
    "short": (0.5,),
    "checks": 2,
    "rows": 2_000,
    "validation_rows": 100,
    "test_rows": 100,
}


if __name__ == "__main__":
    run("time_to_quality", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
