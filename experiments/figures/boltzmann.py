"""The figure of `boltzmann`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, VERMILION, style_axes
from experiments.paper import Paper, number
from experiments.parts.wells import EDGES


def figure(results: dict[str, Any]) -> Figure:
    seed, config = results["seeds"][0], results["config"]
    picture = Figure(figsize=(7.2, 3), layout="constrained")
    middle = ((EDGES[1:] + EDGES[:-1]) / 2).tolist()
    for axes, dim in zip(picture.subplots(1, len(config["dims"]), squeeze=False)[0], config["dims"], strict=True):
        axes.plot(middle, seed["truth"], color=GREY, lw=4, alpha=0.4, label="quadrature")
        for name, colour in (("reverse", VERMILION), ("alpha", BLUE)):
            label = f"{name}: ESS {seed[f'{name}, {dim}-D, ess']:.2f}"
            axes.plot(middle, seed["curves"][f"{name}, {dim}-D"], color=colour, lw=1.4, label=label)
        axes.set(title=f"{dim} dimensions", xlabel="$x_1$", ylabel="free energy, nats", ylim=(1, 12))
        axes.legend(frameon=False, fontsize=7)
        style_axes(axes)
    return picture


PAPER = Paper(
    "Midgley et al. 2023, FAB", "many wells",
    "Reverse KL drops modes; the α-divergence with annealed importance sampling finds them all.", "in small",
    "The modes that reverse KL drops are kept. In 13 dimensions this short training leaves few effective draws.",
    read="memory, not checked", arxiv="2208.01893",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Share of the left wells, error of the evidence and effective sample size."""
    keys = ("left", "log_z_error", "ess")
    found = [
        f"{dim}-D, {name}: {' / '.join(number(results, f'{name}, {dim}-D, {key}', 3) for key in keys)}"
        for dim in results["config"]["dims"]
        for name in ("reverse", "alpha")
    ]
    return "left share / error of log Z / ESS, " + "; ".join(found)
