"""The figure of `neutra`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, VERMILION, style_axes
from experiments.paper import Paper, number

PANELS = {
    "plain": "plain chains",
    "iaf": "in the coordinates of a flow",
    "iaf, z": "the same draws in its base",
}


def figure(results: dict[str, Any]) -> Figure:
    seed, cells = results["seeds"][0], cells_of(results)
    picture = Figure(figsize=(10.5, 3), layout="constrained")
    *panels, bars = picture.subplots(1, 4, width_ratios=(1, 1, 1, 1.2))
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        points = np.array(seed["points"][name])
        axes.scatter(points[:, 1], points[:, 0], s=2, color=VERMILION if "plain" in name else BLUE, lw=0, alpha=0.5)
        wide, high = (4, 4) if name.endswith("z") else (30, 10)
        axes.set(title=title, xlim=(-wide, wide), ylim=(-high, high))
        axes.set(xlabel="$z_2$" if name.endswith("z") else "$x_1$", ylabel="$z_1$" if name.endswith("z") else "$v$")
    rates = [1000 * results["summary"][f"{cell}, ess_per_gradient"]["mean"] for cell in cells]
    bars.plot(rates[::-1], cells[::-1], "o", color=GREY)
    bars.set(xscale="log", title="effective draws in 1,000 gradients", ylim=(-0.7, len(cells) - 0.3))
    bars.grid(axis="x", alpha=0.3)
    style_axes(*panels, bars)
    return picture


def cells_of(results: dict[str, Any]) -> list[str]:
    """Densities and coordinates that there are numbers of."""
    return [key.removesuffix(", r_hat") for key in results["summary"] if key.endswith(", r_hat")]


PAPER = Paper(
    "Hoffman et al. 2019, NeuTra", "figures 1 and 2",
    "On a funnel of 100 dimensions, chains in the coordinates of a flow mix where plain ones do not.", "in small",
    "Short chains.",
    read="memory, not checked", arxiv="1903.03704",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Of the first coordinate: mean, deviation, R̂ and effective draws in a thousand gradients."""
    found = []
    for cell in cells_of(results):
        mean, sd = (number(results, f"{cell}, {key}", 2) for key in ("mean", "sd"))
        rate = 1000 * results["summary"][f"{cell}, ess_per_gradient"]["mean"]
        text = f"{cell}: mean {mean}, sd {sd}, R̂ {number(results, f'{cell}, r_hat', 3)}, {rate:.2g} effective draws"
        found.append(text)
    truth = "first coordinate (truth of the funnel's v: 0, 3), effective draws in 1000 gradients"
    return f"{truth}: {'; '.join(found)}"
