"""The figure of `simulation_based_inference`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, PALETTE, VERMILION, style_axes
from experiments.paper import Paper, numbers

PUBLISHED = {
    "two moons": {1_000: 0.725, 10_000: 0.606, 100_000: 0.542},
    "SLCP": {1_000: 0.975, 10_000: 0.901, 100_000: 0.831},
}
SHOWN = {"two moons": (0, 1), "SLCP": (2, 3)}  # the parameters in the picture
DRAWS = 100  # that the ranks are among


def figure(results: dict[str, Any]) -> Figure:
    tasks, pictures = results["config"]["tasks"], results["seeds"][0]["pictures"]
    picture = Figure(figsize=(10, 2.6 * len(tasks)), layout="constrained")
    panels = picture.subplots(len(tasks), 5, squeeze=False, width_ratios=(1.4, 1, 1, 1, 1.2))
    for row, task in zip(panels, tasks, strict=True):
        curves(row[0], task, results)
        for axes, name in zip(row[1:3], ("exact", "cnf"), strict=True):
            points, columns = np.array(pictures[task][name]), SHOWN[task]
            axes.scatter(*points[:, columns].T, s=1, color=BLUE, lw=0)
            edge = 1 if task == "two moons" else 3
            axes.set(title=f"posterior, {name}", xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
            axes.set(xlabel=f"$θ_{columns[0] + 1}$", ylabel=f"$θ_{columns[1] + 1}$")
        calibration(row[3], row[4], pictures[task])
    style_axes(*panels.flat)
    return picture


def curves(axes: Axes, task: str, results: dict[str, Any]) -> None:
    """C2ST against the number of simulations, with published values."""
    config, summary = results["config"], results["summary"]
    for method, colour in zip(config["methods"], PALETTE, strict=False):
        values = [summary[f"c2st {task}, {method}, {n}"]["mean"] for n in config["simulations"]]
        axes.semilogx(config["simulations"], values, "o-", color=colour, lw=1.4, ms=4, label=method)
    axes.semilogx(
        PUBLISHED[task].keys(), PUBLISHED[task].values(), "s:", color=GREY, lw=1, ms=4, label="NPE, published"
    )
    axes.set(title=task, xlabel="simulations", ylabel="C2ST", ylim=(0.49, 1.0))
    axes.legend(frameon=False, fontsize=7)


def calibration(levels: Axes, ranks: Axes, of: dict[str, Any]) -> None:
    """Expected coverage with two standard errors; distribution functions of ranks less the uniform one."""
    share, n = np.array(of["coverage"]), len(of["ranks"][0])
    levels.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    levels.errorbar(of["levels"], share, 2 * np.sqrt(share * (1 - share) / n), color=BLUE, lw=1.2)
    levels.set(title="expected coverage", xlabel="credible level", aspect="equal")
    places = np.arange(DRAWS + 1)
    for column, colour in zip(of["ranks"], PALETTE, strict=False):
        below = np.searchsorted(np.sort(column), places, side="right") / n
        ranks.step(places, below - (places + 1) / (DRAWS + 1), color=colour, lw=1)
    band = 1.358 / np.sqrt(n)  # Kolmogorov and Smirnov, 95 %
    ranks.axhspan(-band, band, color=GREY, alpha=0.12, lw=0)
    ranks.set(title="SBC: ECDF − uniform", xlabel="rank", ylim=(-0.2, 0.2))
    ranks.axhline(0, color=VERMILION, lw=0.6)


PAPER = Paper(
    "Lueckmann et al. 2021, benchmark of simulation-based inference",
    "two moons and SLCP, neural posterior estimation",
    "C2ST at 10³, 10⁴, 10⁵ simulations: two moons 0.725, 0.606, 0.542; SLCP 0.975, 0.901, 0.831.", "measured",
    "One seed, ten observations, 10,000 draws as theirs; two moons by our default alone. Densities are a bit too "
    "narrow: coverage is below its level by up to 0.07.",
    read="the authors' code", arxiv="2101.04653",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """C2ST of each method."""
    config = results["config"]
    cells = [f"{task}, {method}" for task in config["tasks"] for method in config["methods"]]
    found = [f"{cell} {numbers(results, [f'c2st {cell}, {n}' for n in config['simulations']], 3)}" for cell in cells]
    sizes = " / ".join(f"{n:,}" for n in config["simulations"])
    return f"C2ST at {sizes}: {'; '.join(found)}"
