"""The figure of `exploding_inverse`, and its row of the table."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import DENSITY, style_axes
from experiments.paper import Paper

COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple")


def figure(results: dict[str, Any]) -> Figure:
    config, flows = results["config"], results["seeds"][0]["flows"]
    picture = Figure(figsize=(2.3 * len(flows), 7.4), layout="constrained")
    maps, below = picture.subfigures(2, 1, squeeze=False, height_ratios=(1.75, 1))[:, 0]
    grid = maps.subplots(2, len(flows), squeeze=False, sharex=True, sharey=True)
    side = config["side"]
    place: dict[str, Any] = {"extent": (-side, side, -side, side), "origin": "lower"}
    errors = matplotlib.colormaps["viridis"].with_extremes(bad="tab:red")
    for (density, error), (name, flow) in zip(grid.T, flows.items(), strict=True):
        density.imshow(np.nan_to_num(array(flow["density"])), cmap=DENSITY, vmin=0, vmax=0.05, **place)
        density.set_title(f"{name}\nKL {flow['kl']:.2f}, {flow['steps']:,} steps", fontsize=10)
        shown = error.imshow(array(flow["log10 error"]), cmap=errors, vmin=-7, vmax=0, **place)
        lost = flow["square, failed"]
        error.set_title(f"{lost:.0%} lost" if lost else f"at most {flow['square, largest']:.0e}", fontsize=10)
        error.set(xticks=(-side, 0, side), yticks=(-side, 0, side))
    grid[0, 0].set_ylabel("density")
    grid[1, 0].set_ylabel("error of reconstruction")
    maps.colorbar(shown, ax=list(grid[1]), label="log₁₀ error; red: lost", pad=0.01)
    curves, lost = below.subplots(1, 2)
    for (name, flow), colour in zip(flows.items(), COLOURS, strict=True):
        curves.loglog(config["radii"], array(flow["radius, median"]), "o-", ms=3, color=colour, label=name)
        lost.semilogx(config["radii"], flow["radius, failed"], "o-", ms=3, color=colour, label=name)
    curves.set(xlabel="distance from the middle", ylabel="error of reconstruction, median")
    lost.set(xlabel="distance from the middle", ylabel="part of the points lost")
    for axes in (curves, lost):
        axes.axvspan(config["radii"][0], 4 * math.sqrt(2), color="0.93", zorder=0)  # where the data are
    style_axes(curves, lost)
    curves.text(1.2, 1, "data", color="0.4", fontsize=9)
    lost.legend(frameon=False, fontsize=9, loc="center right")
    return picture


def array(values: list[Any]) -> np.ndarray:
    """Numbers, NaN for what is null in the file."""
    return np.array(values, dtype=float)


PAPER = Paper(
    "Behrmann et al. 2021, exploding inverses", "the two-dimensional checkerboard",
    "Off the data, affine couplings with unbounded scales have no inverse in float32; a residual flow has one.",
    "in small",
    "100 seconds for each flow and 16 couplings (theirs 50,000 steps, 200). The error of the continuous flow follows "
    "its tolerance. One seed, the continuous flow of version 0.1.",
    read="the authors' code", arxiv="2006.09347",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """What is lost on the square, and the largest error of the rest."""
    flows = results["seeds"][0]["flows"]
    texts = []
    for name, flow in flows.items():
        lost = flow["square, failed"]
        texts.append(f"{name} {lost:.0%} lost" if lost else f"{name} {flow['square, largest']:.1g}")
    return f"largest error on [−8, 8]²: {'; '.join(texts)}"
