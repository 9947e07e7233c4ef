"""Training by likelihood with the end of every solve drawn at random, and with a fixed one.

Ghosh et al. 2020 (arXiv 2006.10711), after their figures of evaluations over training. Claim: random ends in training,
a fixed one after it, leave a field that is cheaper to solve, at an equal likelihood. Here training gets cheaper, 31,
27 and 23 evaluations a solve with b = 0, 0.25 and 0.5, but what is left at a tight tolerance is not (100, 94 and 97,
± 3 to 6 over two seeds), and KL rises, 0.049, 0.059 and 0.086 nats. A SiLU field with three hidden layers and b up to
0.75 gained less: 97, 91 and 133 evaluations at a tight tolerance. `--seeds 2`: four minutes on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

import cnf
from cnf.data import toy
from cnf.metrics import log_prob_of_rows, mean_and_error
from cnf.plotting import BLUE, GREY, VERMILION
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: str = "8gaussians"  # theirs are MNIST, CIFAR10 and ImageNet32
    widths: tuple[float, ...] = (0.0, 0.25, 0.5)  # b, half the interval that ends are drawn from; 0 is a fixed end
    rows: int = 50_000
    test_rows: int = 10_000
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 400
    learning_rate: float = 5e-3
    tolerance: float = 1e-2  # of dopri5 in training; all numbers are at 1e-5
    seed: int = 0


COLOURS = (GREY, BLUE, VERMILION)


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    source, draw = toy(config.data), torch.Generator().manual_seed(config.seed)
    train, validation, test = (source.sample(n, generator=draw) for n in (config.rows, 1_000, config.test_rows))
    exact, fits = source.log_prob(test.double()), []
    for width in config.widths:
        torch.manual_seed(config.seed)
        flow = cnf.build("ffjord", 2, hidden=config.hidden, time="concat")
        solver: cnf.Solver = cnf.RungeKutta("dopri5", rtol=config.tolerance, atol=config.tolerance)
        settings = cnf.FitConfig(
            steps=config.steps, learning_rate=config.learning_rate, checks=10, patience=None, seed=config.seed,
            solver=cnf.RandomEnd(solver, width) if width else solver,
        )  # fmt: skip
        history = cnf.fit(flow, train, validation=validation, config=settings).history
        with cnf.count_evaluations() as count:
            gap = mean_and_error(exact - log_prob_of_rows(flow, test, batch_size=len(test)).double())
        curve = [[row["step"], round(row["validation_nll"], 4), round(row["evaluations"], 1)] for row in history]
        fits.append({"width": width, "kl": gap.mean, "kl_standard_error": gap.standard_error,
                     "evaluations": count.evaluations, "curve": curve})  # fmt: skip
    numbers = {f"{key}, width {fit['width']:g}": fit[key] for fit in fits for key in ("kl", "evaluations")}
    return {"fits": fits, "truth": -exact.mean().item(), **numbers}


def figure(results: dict[str, Any]) -> Figure:
    seed = results["seeds"][0]
    picture = Figure(figsize=(7.2, 3.2), layout="constrained")
    left, right = picture.subplots(1, 2)
    for fit, colour in zip(seed["fits"], COLOURS, strict=False):
        steps, nll, evaluations = zip(*fit["curve"], strict=True)
        name = f"$b = {fit['width']:g}$" if fit["width"] else "fixed end"
        left.plot(steps, nll, color=colour, lw=1.4, label=f"{name}: KL {fit['kl']:.3f}")
        right.plot(steps, evaluations, color=colour, lw=1.4, label=f"{name}: {fit['evaluations']} at $10^{{-5}}$")
    left.axhline(seed["truth"], color="black", lw=0.8, ls=":")
    left.set_ylabel("validation NLL, nats")
    right.set(ylabel="evaluations of a solve in training", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return picture


if __name__ == "__main__":
    run("steer", Config(), compute, figure, {"steps": 5, "rows": 500, "test_rows": 100, "widths": (0.0, 0.5)})
