"""The figure of `earth`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import DENSITY, VERMILION
from experiments.paper import Paper, numbers, spread


def figure(results: dict[str, Any]) -> Figure:
    config, seeds = results["config"], results["seeds"]
    names = config["sets"]
    picture = Figure(figsize=(9, 2.45 * ((len(names) + 1) // 2)), layout="constrained")
    grid = picture.subplots((len(names) + 1) // 2, 2, squeeze=False, subplot_kw={"projection": "mollweide"})
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    cells = config["cells"]
    latitude, longitude = (np.pi * (np.arange(n + 1) / cells - n / (2 * cells)) for n in (cells, 2 * cells))
    for axes, name in zip(grid.flat, names, strict=False):
        fit = seeds[0]["fits"][name]
        density = np.array(fit["map"]).reshape(cells, 2 * cells) / 10 / np.log(10)
        shown = axes.pcolormesh(longitude, latitude, density, cmap=DENSITY, vmin=-3, vmax=1, rasterized=True)
        lon, lat = np.radians(np.array(fit["test"]).reshape(-1, 2)).T
        axes.plot(lon, lat, ".", ms=2.2, mew=0, color=VERMILION, alpha=0.7)
        values = [seed[f"{name}: mixture, continuous"] for seed in seeds]
        axes.set_title(f"{name}: mixture and flow, test NLL {spread(values, 2)}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    bar = picture.colorbar(shown, ax=grid, shrink=0.6, aspect=30, ticks=[-3, -2, -1, 0, 1], extend="both")
    bar.set_label("learned density, points a unit of area", fontsize=8)
    bar.ax.set_yticklabels(["0.001", "0.01", "0.1", "1", "10"], fontsize=8)
    return picture


MOSER = {"volcano": "−4.21 ± 0.17", "earthquake": "−0.16 ± 0.06", "flood": "0.57 ± 0.10", "fire": "−1.28 ± 0.05"}


KINDS = ("affine", "likelihood", "matching", "matching, likelihood", "mixture", "mixture, continuous")


PAPER = (
    Paper(
        "Rozen et al. 2021, Moser flow", "table 1: test NLL on the earth, uniform base",
        "Moser flow, volcano / earthquake / flood / fire:", "not reproduced",
        "The benchmark's base, but a small network and a twentieth of the training: far behind every published row.",
        " / ".join(MOSER.values()), "the paper", "2108.08052",
    ),
    Paper(
        "", "", "What does a continuous flow add to a mixture with a component for every fifth training row?",
        "measured",
        "Not the benchmark's setting. The mixture carries most of it: on earthquake the flow adds next to nothing.",
    ),
)  # fmt: skip


def ours(results: dict[str, Any]) -> tuple[str, str]:
    """Test NLL of every flow, in the order of the sets."""
    sets = results["config"]["sets"]
    lines = {kind: numbers(results, [f"{name}: {kind}" for name in sets], 2) for kind in KINDS}
    uniform = "; ".join(f"{kind} {lines[kind]}" for kind in KINDS[:4])
    return uniform, f"mixture alone {lines['mixture']}; with the flow {lines['mixture, continuous']}"
