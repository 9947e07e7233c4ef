"""The figure of `taynode_cubic`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cnf.plotting import BLUE, VERMILION, style_axes
from experiments.paper import Paper, numbers


def figure(results: dict[str, Any]) -> Figure:
    fits = results["seeds"][0]["fits"]
    picture = Figure(figsize=(3.1 * len(fits), 3.4), layout="constrained")
    for axes, fit in zip(picture.subplots(1, len(fits), sharey=True, squeeze=False)[0], fits, strict=True):
        times = [i / (len(fit["paths"]) - 1) for i in range(len(fit["paths"]))]
        colour = VERMILION if fit["weight"] else BLUE
        axes.vlines(fit["stops"], -2.3, 2.3, color="0.85", lw=0.7, zorder=0)
        axes.plot(times, fit["paths"], color=colour, lw=1)
        axes.plot(fit["stops"], fit["at_stops"], "o", color=colour, ms=2.6)
        wanted = [z + z**3 for z in fit["paths"][0]]
        axes.plot([1.0] * len(wanted), wanted, "_", color="black", ms=9, label="$z + z^3$")
        name = f"with $R_{results['config']['order']}$" if fit["weight"] else "without penalty"
        counts = ", ".join(f"{method} {evaluations}" for method, evaluations in fit["evaluations"].items())
        axes.set_title(f"{name}: error {fit['rmse']:.3f}\nevaluations: {counts}", fontsize=9)
        axes.set(xlabel="$t$", xlim=(-0.03, 1.05), ylim=(-2.3, 2.3))
        style_axes(axes)
    picture.axes[0].set_ylabel("$z(t)$")
    picture.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    return picture


PAPER = Paper(
    "Kelly et al. 2020, TayNODE", "figure 1",
    "With the penalty the same solver needs fewer steps at the same tolerance, and the fit is as good.", "in small",
    "From a start that was chosen so that the difference shows; from the default one dopri5 takes as many. One seed.",
    read="the authors' code", arxiv="2007.04504",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Without and with the penalty."""
    weights = [f"weight {weight:g}" for weight in results["config"]["weights"]]
    error, penalty = (numbers(results, [f"{key}, {weight}" for weight in weights]) for key in ("rmse", "penalty"))
    counts = [
        f"{method} at {tolerance:g} {numbers(results, [f'{method}, {weight}' for weight in weights], 0)} evaluations"
        for method, tolerance in results["config"]["solvers"]
    ]
    return f"without / with: error {error}, R₃ {penalty}, {', '.join(counts)}"
