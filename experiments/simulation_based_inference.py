"""The posterior of a simulator, amortised by flows: two moons, of the benchmark of simulation-based inference.

Lueckmann et al. 2021 (arXiv 2101.04653), figure 2; the task is of Greenberg et al. 2019 (arXiv 1905.07488). C2ST is the
accuracy of a classifier that tells draws of the flow from exact ones of the posterior: 0.5 is perfect. Published for
neural posterior estimation at 10³, 10⁴, 10⁵ simulations: 0.725, 0.606, 0.542.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sbi.inference import NPE
from sbi.utils import BoxUniform
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from torch import Tensor

import cnf
from cnf.inference import coverage
from cnf.interop.sbi import estimator
from cnf.plotting import BLUE, GREY, VERMILION
from experiments.paper import Paper, number
from experiments.run import run

PUBLISHED = {1_000: 0.725, 10_000: 0.606, 100_000: 0.542}
PAIRS, KEPT = 300, 1_000  # of the expected coverage; draws in the picture
COLOURS = (BLUE, VERMILION, "#009e73", "#cc79a7")


@dataclass(frozen=True)
class Config:
    simulations: tuple[int, ...] = (1_000, 10_000)
    methods: tuple[str, ...] = ("cnf", "matching", "nsf", "maf")  # the last two are zuko's, trained by sbi
    seconds: tuple[float, ...] = (60.0, 120.0)  # of one processor, for our two; sbi decides when it has converged
    observations: int = 5  # theirs: 10, with 10,000 draws
    draws: int = 2_000
    seed: int = 0


def prior(n: int) -> Tensor:
    return 2 * torch.rand(n, 2) - 1


def crescent(n: int) -> Tensor:
    angle, radius = math.pi * (torch.rand(n) - 0.5), 0.1 + 0.01 * torch.randn(n)
    return torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], 1)


def simulate(theta: Tensor) -> Tensor:
    first, second = theta.unbind(1)
    return crescent(len(theta)) + torch.stack([-(first + second).abs(), second - first], 1) / math.sqrt(2)


def exact_posterior(x: Tensor, n: int) -> Tensor:
    """The map from noise to θ has two branches, each with a constant Jacobian."""
    shift = math.sqrt(2) * (x - crescent(4 * n))
    total = -shift[:, 0] * (torch.randint(2, (4 * n,)) * 2 - 1)
    theta = torch.stack([total - shift[:, 1], total + shift[:, 1]], 1) / 2
    return theta[(theta.abs() <= 1).all(1) & (shift[:, 0] <= 0)][:n]


def c2st(first: Tensor, second: Tensor) -> float:
    """As in the benchmark: two hidden layers of 10 D, standardised by the first set, five folds."""
    n = min(len(first), len(second))
    rows = ((torch.cat([first[:n], second[:n]]) - first.mean(0)) / first.std(0)).numpy()
    labels, width = np.repeat([0, 1], n), 10 * rows.shape[1]
    order = np.random.default_rng(0).permutation(2 * n)
    classifier = MLPClassifier((width, width), max_iter=1_000, early_stopping=False, random_state=0)
    return float(cross_val_score(classifier, rows[order], labels[order], cv=5).mean())


def trained(method: str, theta: Tensor, x: Tensor, seconds: float) -> Any:
    """Draws and a flow: conditional on x, by our loop or by that of sbi."""
    if method in ("nsf", "maf"):
        inference = NPE(BoxUniform(-torch.ones(2), torch.ones(2)), f"zuko_{method}", show_progress_bars=False)
        return inference.append_simulations(theta, x).train(training_batch_size=200)
    objective = cnf.FlowMatching() if method == "matching" else None
    built = estimator("cnf", objective=objective)(theta, x)
    config = cnf.FitConfig(seconds=seconds, batch_size=200, patience=6, progress=False)
    held = len(theta) // 10
    cnf.fit(built.net, (theta[held:], x[held:]), None, (theta[:held], x[:held]), config, clock=time.process_time)
    return built


def inside(built: Any, x: Tensor, n: int) -> Tensor:
    """Draws within the box of the prior."""
    with torch.no_grad():
        theta = built.sample((2 * n,), x[None]).flatten(0, 1)
    return theta[(theta.abs() <= 1).all(1)][:n]


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    observed, numbers = simulate(prior(config.observations)), {}
    truth = [exact_posterior(x, config.draws) for x in observed]
    shown = {"exact": truth[0][:KEPT].tolist()}
    for simulations, seconds in zip(config.simulations, config.seconds, strict=True):
        theta = prior(simulations)
        x = simulate(theta)
        for method in config.methods:
            begun = time.process_time()
            built = trained(method, theta, x, seconds)
            draws = [inside(built, x, config.draws) for x in observed]
            numbers[f"seconds {method}, {simulations}"] = time.process_time() - begun
            scores = [c2st(one, other) for one, other in zip(truth, draws, strict=True)]
            numbers[f"c2st {method}, {simulations}"] = float(np.mean(scores))
            print(simulations, method, scores, flush=True)
            shown[method] = draws[0][:KEPT].tolist()
            if method == config.methods[0]:
                found = coverage(built.net, pairs := prior(PAIRS), simulate(pairs), draws=100)
                curve = dict(zip(("levels", "coverage", "error"), (part.tolist() for part in found), strict=False))
    return {"draws": shown, **curve, **numbers}


def figure(results: dict[str, Any]) -> Figure:
    seed, config = results["seeds"][0], results["config"]
    picture = Figure(figsize=(10, 3.2), layout="constrained")
    curves, exact, learned, levels = picture.subplots(1, 4, width_ratios=(1.4, 1, 1, 1))
    for method, colour in zip(config["methods"], COLOURS, strict=False):
        values = [results["summary"][f"c2st {method}, {n}"]["mean"] for n in config["simulations"]]
        curves.semilogx(config["simulations"], values, "o-", color=colour, lw=1.4, ms=4, label=method)
    curves.semilogx(PUBLISHED.keys(), PUBLISHED.values(), "s:", color=GREY, lw=1, ms=4, label="NPE, published")
    curves.set(xlabel="simulations", ylabel="C2ST", ylim=(0.49, 0.85))
    curves.legend(frameon=False, fontsize=7)
    for axes, name in ((exact, "exact"), (learned, config["methods"][0])):
        axes.scatter(*np.array(seed["draws"][name]).T, s=1, color=BLUE, lw=0)
        axes.set(title=f"posterior, {name}", aspect="equal")
    levels.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    levels.errorbar(seed["levels"], seed["coverage"], 2 * np.array(seed["error"]), color=BLUE, lw=1.2)
    levels.set(title="expected coverage", xlabel="credible level", aspect="equal")
    for axes in picture.axes:
        axes.tick_params(labelsize=7)
        axes.title.set_size(9)
        axes.spines[["top", "right"]].set_visible(False)
    return picture


PAPER = Paper(
    "Lueckmann et al. 2021, benchmark of simulation-based inference", "two moons, neural posterior estimation",
    "C2ST at 10³, 10⁴, 10⁵ simulations.", "measured",
    "Fewer observations and draws than in the benchmark, so the classifier sees less.",
    value="0.725, 0.606, 0.542", read="the authors' code", arxiv="2101.04653",
)  # fmt: skip
SMOKE = {"simulations": (200,), "methods": ("cnf",), "seconds": (1.0,), "observations": 1, "draws": 100}


def ours(results: dict[str, Any]) -> str:
    """C2ST of each method."""
    methods, sizes = results["config"]["methods"], results["config"]["simulations"]
    found = [f"{method}, {n}: {number(results, f'c2st {method}, {n}', 3)}" for method in methods for n in sizes]
    return "C2ST, " + "; ".join(found)


if __name__ == "__main__":
    run("simulation_based_inference", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
