"""The figure of `anode_annuli`, and its row of the table."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, VERMILION, style_axes
from experiments.paper import Paper, numbers

NAMES, COLOURS = ("NODE", "ANODE"), (VERMILION, BLUE)

SIDES = LinearSegmentedColormap.from_list("sides", [VERMILION, "white", BLUE])
CHECKS = 20  # on the line
EDGE = 1.7  # of the pictures


def figure(results: dict[str, Any]) -> Figure:
    seed = results["seeds"][0]
    picture = Figure(figsize=(9.2, 4.5), layout="constrained")
    grid = picture.subplots(2, 4)
    for axes, fit, name in zip(grid[0], seed["line"], NAMES, strict=False):
        times = [i / (len(fit["paths"]) - 1) for i in range(len(fit["paths"]))]
        for path, colour in zip(zip(*fit["paths"], strict=True), (GREY, "black"), strict=True):
            axes.plot(times, path, color=colour, lw=1.5)
            axes.plot([0, 1], [path[0], -path[0]], "o", color=colour, ms=4, mfc="white", clip_on=False)
        axes.set(title=f"{name}: $-1 \\leftrightarrow 1$", xlabel="$t$", yticks=[-1, 0, 1], ylim=(-1.4, 1.4))
    for axes, fit, name in zip(grid[1], seed["plane"], NAMES, strict=False):
        show(axes, fit["answer"], results["config"]["radii"])
        axes.set_title(f"{name}: disk and ring")
    for row, task, unit in zip(grid, ("line", "plane"), ("step", "epoch"), strict=True):
        scale = results["config"]["line_steps"] // CHECKS if task == "line" else 1
        for axes, index, label in ((row[2], 1, "loss"), (row[3], 2, "evaluations")):
            for fit, name, colour in zip(seed[task], NAMES, COLOURS, strict=True):
                x, y = ([point[i] for point in fit["curve"]] for i in (0, index))
                axes.plot([scale * value for value in x], y, color=colour, lw=1.4, label=name)
            axes.set(title=label, xlabel=unit, yscale="log" if index == 1 else "linear")
        row[2].legend(frameon=False, fontsize=8)
        row[2].set_ylim(bottom=1e-3)
        row[3].set_ylim(bottom=0)
    style_axes(*grid[0], *grid[1, 2:])
    style_axes(*grid[1, :2], image=True)
    return picture


def show(axes: Axes, answer: list[list[int]], radii: list[float]) -> None:
    """The answer in colour, −1 to 1, and the edges of disk and ring."""
    axes.imshow(
        answer, origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), cmap=SIDES, vmin=-100, vmax=100,
        interpolation="bicubic",
    )  # fmt: skip
    turn = [2 * math.pi * i / 200 for i in range(201)]
    for radius in radii:
        axes.plot([radius * math.cos(a) for a in turn], [radius * math.sin(a) for a in turn], color="black", lw=0.7)


PAPER = Paper(
    "Dupont et al. 2019, ANODE", "figures 2, 3 and 6",
    "A neural ODE keeps a high loss on both tasks, and takes ever more evaluations; with zeros appended both are easy.",
    "reproduced",
    "Data, sizes, tolerance and epochs are those of the authors' code; fields are smooth (SiLU for ReLU), and theirs "
    "are ten seeds. The plain one is a few points from fitting the plane.",
    read="memory, not checked", arxiv="1904.01681",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Loss and evaluations at the end, plain and augmented."""
    parts = []
    for task in ("line", "plane"):
        loss = numbers(results, [f"{task}, {name}: loss" for name in NAMES])
        evaluations = numbers(results, [f"{task}, {name}: evaluations" for name in NAMES], 0)
        parts.append(f"{task}, NODE / ANODE: loss {loss}, evaluations {evaluations}")
    return "; ".join(parts)
