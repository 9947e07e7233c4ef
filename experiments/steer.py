"""Training by likelihood with the end of every solve drawn at random, and with a fixed one.

After their figures of evaluations over training, on 8gaussians. Two minutes a seed on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

import cnf
from cnf.data import toy
from cnf.metrics import kl_to
from cnf.plotting import BLUE, GREY, VERMILION, style_axes
from experiments.paper import Paper, numbers, spread
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
            gap = kl_to(flow, test, exact, batch_size=len(test))
        curve = [[row["step"], round(row["validation_nll"], 4), round(row["evaluations"], 1)] for row in history]
        fits.append({"width": width, "kl": gap.mean, "kl_standard_error": gap.standard_error,
                     "evaluations": count.evaluations, "curve": curve})  # fmt: skip
    numbers = {f"{key}, width {fit['width']:g}": fit[key] for fit in fits for key in ("kl", "evaluations")}
    return {"fits": fits, "truth": -exact.mean().item(), **numbers}


def figure(results: dict[str, Any]) -> Figure:
    seeds = results["seeds"]
    picture = Figure(figsize=(7.2, 3.2), layout="constrained")
    left, right = picture.subplots(1, 2)
    for i, (width, colour) in enumerate(zip(results["config"]["widths"], COLOURS, strict=False)):
        fits = [seed["fits"][i] for seed in seeds]
        name = f"$b = {width:g}$" if width else "fixed end"
        kl, tight = (spread([fit[key] for fit in fits], digits) for key, digits in (("kl", 3), ("evaluations", 0)))
        for fit in fits:
            steps, nll, evaluations = zip(*fit["curve"], strict=True)
            first = fit is fits[0]
            left.plot(steps, nll, color=colour, lw=1.2, label=f"{name}: KL {kl}" if first else None)
            after = f"{name}: {tight} at $10^{{-5}}$"
            right.plot(steps, evaluations, color=colour, lw=1.2, label=after if first else None)
    left.axhline(seeds[0]["truth"], color="black", lw=0.8, ls=":")
    left.set_ylabel("validation NLL, nats")
    right.set(ylabel="evaluations of a solve in training", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=8)
        style_axes(axes)
    return picture


PAPER = Paper(
    "Ghosh et al. 2020, STEER", "evaluations over training",
    "Random ends in training, a fixed one after it, leave a field that is cheaper to solve, at an equal likelihood.",
    "not reproduced",
    "Only training is cheaper. At a tight tolerance the seeds disagree about what is left, and KL rises with b.",
    read="memory, not checked", arxiv="2006.10711",
)  # fmt: skip
SMOKE = {"steps": 5, "rows": 500, "test_rows": 100, "widths": (0.0, 0.5)}


def ours(results: dict[str, Any]) -> str:
    """Evaluations in training and after it, and KL, for each width."""
    widths = results["config"]["widths"]
    last = [[seed["fits"][i]["curve"][-1][2] for seed in results["seeds"]] for i in range(len(widths))]
    training = " / ".join(spread(each, 0) for each in last)
    tight, kl = (
        numbers(results, [f"{key}, width {w:g}" for w in widths], d) for key, d in (("evaluations", 0), ("kl", 3))
    )
    return f"b = {' / '.join(f'{w:g}' for w in widths)}: evaluations in training {training}, at 1e-5 {tight}; KL {kl}"


if __name__ == "__main__":
    run("steer", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=2)
