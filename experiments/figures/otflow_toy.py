"""The figure of `otflow_toy`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cnf.plotting import INK, style_axes
from experiments.paper import Paper, number
from experiments.parts.pictures import shade

EDGES = (4.4, 3.2)  # half a side of the pictures in data and in base space


def figure(results: dict[str, Any]) -> Figure:
    fits = results["seeds"][0]["fits"]
    picture = Figure(figsize=(1.35 * len(fits) + 0.3, 5.9), layout="constrained")
    grid = picture.subplots(4, len(fits), squeeze=False)
    for column, (name, fit) in zip(grid.T, fits.items(), strict=True):
        for axes, kind, edge in zip(column, ("data", "base", "samples"), (*EDGES, EDGES[0]), strict=False):
            axes.scatter(*fit[kind], s=1.4, color=INK, alpha=0.6, lw=0)
            axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
        shade(column[3], fit["density"], 1250 * fit["largest"], EDGES[0])
        column[0].set_title(name, fontsize=10)
        column[3].set_xlabel(
            f"NLL {fit['entropy'] + fit['kl']:.3f}\nentropy {fit['entropy']:.3f}\n"
            f"inverse error {fit['inverse_error']:.0e}\n{fit['evaluations']} evaluations", fontsize=8,
        )  # fmt: skip
    for axes, label in zip(grid[:, 0], ("data $x$", "$f(x)$", "$f^{-1}$(noise)", "density"), strict=True):
        axes.set_ylabel(label, fontsize=9)
    style_axes(*grid.flat, image=True)
    for axes in grid[1]:
        axes.set_facecolor("0.97")
    return picture


PAPER = Paper(
    "Onken et al. 2021, OT-Flow", "the figure of two-dimensional toys",
    "A potential of 1,229 parameters fits all seven sets, with an inverse that is right to some digits.", "in small",
    "Four of seven sets, 900 steps of 256 rows (theirs 5,000 of 5,000; checkerboard 20,000 of 10,000), one seed. "
    "Checkerboard is not fitted yet.",
    read="the authors' code", arxiv="2006.00104",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """KL and inverse error of every set."""
    texts = [
        f"{name} {number(results, f'kl, {name}')} (inverse error {number(results, f'inverse_error, {name}')})"
        for name in results["config"]["sets"]
    ]
    return f"KL(data ‖ model): {', '.join(texts)}"
