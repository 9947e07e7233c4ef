"""The figure of `ffjord_line`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import DENSITY, INK, VERMILION, style_axes
from experiments.paper import Paper, number

EDGE = 5.0  # of the picture


def figure(results: dict[str, Any]) -> Figure:
    config, seed = results["config"], results["seeds"][0]
    densities, paths = np.array(seed["densities"]), np.array(seed["paths"])
    picture = Figure(figsize=(4.6, 4.9), layout="constrained")
    top, middle, bottom = picture.subplots(3, 1, sharex=True, height_ratios=[1, 2.6, 0.8])
    x = EDGE * ((2 * np.arange(config["cells"]) + 1) / config["cells"] - 1)
    top.fill_between(x, truth(config, x), color="0.87", lw=0, label="data")
    top.plot(x, densities[-1], color=INK, lw=1.3, label="model")
    top.legend(frameon=False, fontsize=7)
    middle.imshow(
        densities, origin="lower", extent=(-EDGE, EDGE, 0, 1), cmap=DENSITY, vmin=0, vmax=densities.max(),
        aspect="auto", interpolation="bilinear",
    )  # fmt: skip
    middle.plot(paths, np.linspace(0, 1, len(paths)), color=VERMILION, lw=0.7)
    middle.set(ylim=(0, 1), xlim=(-EDGE, EDGE), ylabel="$t$")
    bottom.fill_between(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="0.87", lw=0)
    bottom.set(xlabel="$x$", ylabel="base", ylim=(0, None))
    top.set(ylabel="$p(x)$", ylim=(0, None), title=f"KL(data ‖ model) {number(results, 'KL', 4)}")
    style_axes(top, middle, bottom)
    return picture


def truth(config: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """The density of the mixture."""
    parts = [np.exp(-((x - mean) ** 2) / (2 * config["variance"])) for mean in config["means"]]
    density: np.ndarray = np.mean(parts, 0) / np.sqrt(2 * np.pi * config["variance"])
    return density


PAPER = Paper(
    "Grathwohl et al. 2019, FFJORD", "figure 1",
    "A flow on the line brings a Gaussian to a mixture of three along smooth paths that do not cross.", "reproduced",
    "On the target of the authors' code, with their network; 1,000 steps.",
    read="the authors' code", arxiv="1810.01367",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """The divergence and what a solve takes."""
    return f"KL(data ‖ model) {number(results, 'KL', 4)}, {number(results, 'evaluations', 0)} evaluations at 1e-5"
