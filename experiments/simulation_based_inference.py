"""The posterior of a simulator, amortised by flows: two moons and SLCP, of the benchmark of the field.

Lueckmann et al. 2021 (arXiv 2101.04653), figure 2; two moons is of Greenberg et al. 2019 (arXiv 1905.07488), SLCP of
Papamakarios et al. 2019 (arXiv 1805.07226). C2ST is the accuracy of a classifier that tells draws of the flow from
those of the posterior: 0.5 is perfect. The posterior of two moons is sampled exactly, that of SLCP by particles with
the exact likelihood.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sbi.inference import NPE
from sbi.utils import BoxUniform
from torch import Tensor

import cnf
from cnf.inference import coverage, sbc_ranks
from cnf.interop.sbi import estimator
from experiments.figures.simulation_based_inference import PAPER, figure, ours
from experiments.parts.simulators import SIMULATORS, Simulator
from experiments.parts.two_samples import c2st
from experiments.run import run

PAIRS, KEPT = 300, 1_000  # of coverage and ranks; draws in the picture


@dataclass(frozen=True)
class Config:
    tasks: tuple[str, ...] = ("two moons", "SLCP")
    simulations: tuple[int, ...] = (1_000, 10_000)
    methods: tuple[str, ...] = ("cnf", "matching", "nsf", "maf")  # the last two are zuko's, trained by sbi
    seconds: tuple[float, ...] = (15.0, 40.0)  # of one processor, for our two
    epochs: int = 40  # of sbi at most, which stops where it has converged
    observations: int = 10  # as theirs
    draws: int = 1_000  # theirs: 10,000
    seed: int = 0


def trained(method: str, task: Simulator, theta: Tensor, x: Tensor, seconds: float, epochs: int) -> Any:
    """Draws and a flow: conditional on x, by our loop or by that of sbi."""
    if method in ("nsf", "maf"):
        edge = task.edge * torch.ones(task.dim)
        inference = NPE(BoxUniform(-edge, edge), f"zuko_{method}", show_progress_bars=False)
        return inference.append_simulations(theta, x).train(training_batch_size=200, max_num_epochs=epochs)
    objective = cnf.FlowMatching() if method == "matching" else None
    built = estimator("cnf", objective=objective)(theta, x)
    config = cnf.FitConfig(seconds=seconds, batch_size=200, patience=6, progress=False)
    held = len(theta) // 10
    cnf.fit(built.net, (theta[held:], x[held:]), None, (theta[:held], x[:held]), config, clock=time.process_time)
    return built


def inside(built: Any, task: Simulator, x: Tensor, n: int) -> Tensor:
    """Draws within the box of the prior."""
    with torch.no_grad():
        theta = built.sample((2 * n,), x[None]).flatten(0, 1)
    return theta[(theta.abs() <= task.edge).all(1)][:n]


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    numbers: dict[str, Any] = {"pictures": {}}
    for name in config.tasks:
        found = judged(name, SIMULATORS[name], config)
        numbers["pictures"][name] = found.pop("pictures")
        numbers |= found
    return numbers


def judged(name: str, task: Simulator, config: Config) -> dict[str, Any]:
    """C2ST of each method and size; draws of one posterior, coverage and ranks of the last flow by likelihood."""
    observed = task.simulate(task.prior(config.observations))
    truth = [task.posterior(x, config.draws) for x in observed]
    numbers: dict[str, Any] = {"pictures": {"exact": truth[0][:KEPT].tolist()}}
    for simulations, seconds in zip(config.simulations, config.seconds, strict=True):
        theta = task.prior(simulations)
        x = task.simulate(theta)
        for method in config.methods:
            begun = time.process_time()
            built = trained(method, task, theta, x, seconds, config.epochs)
            draws = [inside(built, task, x, config.draws) for x in observed]
            numbers[f"seconds {name}, {method}, {simulations}"] = time.process_time() - begun
            scores = [c2st(one, other) for one, other in zip(truth, draws, strict=True)]
            numbers[f"c2st {name}, {method}, {simulations}"] = float(np.mean(scores))
            print(name, simulations, method, round(np.mean(scores), 4), np.round(scores, 3), flush=True)
            if method == "cnf":
                numbers["pictures"] |= {"cnf": draws[0][:KEPT].tolist(), **calibration(built.net, task)}
    return numbers


def calibration(flow: cnf.Flow, task: Simulator) -> dict[str, Any]:
    """Expected coverage, and ranks of simulation-based calibration."""
    theta = task.prior(PAIRS)
    x = task.simulate(theta)
    found = coverage(flow, theta, x, draws=100)
    ranks = sbc_ranks(flow, theta, x, draws=100)
    return {"levels": found.levels.tolist(), "coverage": found.coverage.tolist(), "ranks": ranks.T.tolist()}


SMOKE = {"simulations": (200,), "methods": ("cnf",), "seconds": (1.0,), "observations": 1, "draws": 100}

if __name__ == "__main__":
    run("simulation_based_inference", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
