"""The figure of `otflow_trace`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, INK, VERMILION, style_axes
from experiments.paper import Paper, numbers


def figure(results: dict[str, Any]) -> Figure:
    panels, vectors = results["seeds"][0]["panels"], results["config"]["vectors"]
    picture = Figure(figsize=(10, 2.7), layout="constrained")
    *timings, errors = picture.subplots(1, len(panels) + 1)
    styles = {"autograd": (VERMILION, "Hutchinson, reverse mode"), "forward": (BLUE, "Hutchinson, forward products")}
    for axes, (dim, panel) in zip(timings, panels.items(), strict=True):
        for name, (colour, label) in styles.items():
            band(axes, vectors, 1e3 * np.array(panel[name]), color=colour, label=label)
        exact = 1e3 * np.array(panel["exact"]).repeat(len(vectors), 1)
        band(axes, vectors, exact, color=INK, ls="--", marker="", label="exact, closed form")
        axes.set_title(f"$D = {dim}$", fontsize=10)
    timings[0].set_ylabel(f"processor ms, batch of {results['config']['batch_size']}")
    timings[0].legend(frameon=False, fontsize=7, loc="upper left", borderpad=0)
    for (dim, panel), (colour, ls) in zip(panels.items(), ((GREY, "-"), (BLUE, "--"), (INK, ":")), strict=False):
        band(errors, vectors, np.array(panel["error"]), color=colour, ls=ls, label=f"$D = {dim}$")
    errors.set_title("relative error of the estimate", fontsize=10)
    errors.legend(frameon=False, fontsize=8)
    for axes in (*timings, errors):
        axes.set(xscale="log", yscale="log", xlabel="Rademacher vectors")
        axes.set_xticks(vectors, [str(k) for k in vectors])
        axes.minorticks_off()
    style_axes(*timings, errors)
    timings[0].set_ylim(top=4 * timings[0].get_ylim()[1])  # room for the legend
    errors.set_yticks([0.03, 0.05, 0.1, 0.2], ["0.03", "0.05", "0.1", "0.2"])
    return picture


def band(axes: Any, x: list[int], rounds: np.ndarray, *, color: str, **style: Any) -> None:
    """The median over the repetitions, and what four in five of them lie in."""
    low, median, high = np.quantile(rounds, [0.1, 0.5, 0.9], axis=0)
    axes.plot(x, median, color=color, lw=1.2, **{"marker": "o", "ms": 3, **style})
    axes.fill_between(x, low, high, color=color, alpha=0.18, lw=0)


PAPER = Paper(
    "Onken et al. 2021, OT-Flow", "figure 2",
    "The exact trace costs no more than an estimate with a few vectors, which is far off.",
    "in small",
    "Seen at D = 784, and so is the error of few vectors; at D = 43 and 63 one core takes as long for the exact trace "
    "as for many vectors, which their GPU does not.",
    read="the authors' code", arxiv="2006.00104",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """The vectors that take as long as the exact trace, and their error."""
    dims = [f"D = {dim}" for dim in results["config"]["dims"]]
    counts = numbers(results, [f"{dim}: forward vectors in that time" for dim in dims], 0)
    errors, single = (
        numbers(results, [f"{dim}: {what}" for dim in dims], 2)
        for what in ("forward error then", "error of one vector")
    )
    return (
        f"D = {' / '.join(map(str, results['config']['dims']))}: as long as {counts} forward products, whose relative "
        f"error is {errors}; of one vector {single}"
    )
