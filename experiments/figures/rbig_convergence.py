"""The figure of `rbig_convergence`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnf.plotting import style_axes
from experiments.paper import Paper, number, spread

STYLES = {
    "pca alone": ("0.6", "principal components"),
    "pca": ("tab:blue", "principal components, or\nrandom if uncorrelated (default)"),
    "ica": ("tab:green", "independent components"),
    "random": ("tab:orange", "random"),
}


TITLES = {
    "plane": "2 dimensions, {rows:,} rows",
    "mixed": "8 dimensions, {rows:,} rows",
    "few": "8 dimensions, {few_rows:,} rows: overfitting",
}


def figure(results: dict[str, Any]) -> Figure:
    picture = Figure(figsize=(11.5, 3.6), layout="constrained")
    for axes, (case, title) in zip(picture.subplots(1, 3), TITLES.items(), strict=True):
        for kind in results["config"]["rotations"]:
            colour, label = STYLES[kind]
            for i, seed in enumerate(results["seeds"]):
                left = seed["curves"][case][kind]
                axes.plot(left["test"], lw=1.2, color=colour, label=None if i else label)
                if case == "few":
                    axes.plot(left["train"], lw=1.2, ls=":", color=colour)
                    stop = seed[f"few {kind}: stop"]
                    axes.plot(stop, left["test"][stop], "o", color=colour, mec="black", mew=0.6, ms=5, zorder=3)
        axes.set(title=title.format(**results["config"]), xlabel="layers", ylabel="negentropy left, nats")
        style_axes(axes)
        axes.set_xlim(left=0)
    left, _, right = picture.axes
    left.set(yscale="log", yticks=(ticks := (0.06, 0.1, 0.2, 0.4, 0.8)), yticklabels=ticks)
    left.minorticks_off()
    left.legend(frameon=False, fontsize=8)
    right.set_ylabel("NLL − H(x), nats")
    keys = (("-", "", "test"), (":", "", "training"), ("", "o", "where the rule stops"))
    handles = [Line2D([], [], ls=ls, marker=marker, color="0.3", ms=5, lw=1.2, label=text) for ls, marker, text in keys]
    right.legend(handles=handles, frameon=False, fontsize=8, loc="lower left")
    return picture


PAPER = Paper(
    "Laparra et al. 2011, RBIG", "negentropy against iterations",
    "Any rotation converges, independent components in the fewest layers, random rotations in the most.", "in small",
    "In eight dimensions 100 layers order the rotations as the paper does, but all are far from the end.",
    read="a third party", arxiv="1602.00229",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """What is left in eight dimensions, and what overfitting costs."""
    layers, few = results["config"]["layers"], results["config"]["few_layers"]
    kinds = {"ica": "ICA", "pca alone": "PCA", "pca": "PCA, random where uncorrelated", "random": "random"}
    left = [f"{words} {number(results, f'mixed {kind}: {layers} layers', 2)}" for kind, words in kinds.items()]
    lost = " / ".join(spread([cost(seed, kind, few) for seed in results["seeds"]], 2) for kind in kinds)
    return (
        f"8-D, nats left after {layers} layers: {', '.join(left)}; {results['config']['few_rows']} rows: test NLL "
        f"after {few} layers above where the rule stops, in that order {lost}"
    )


def cost(seed: dict[str, Any], kind: str, layers: int) -> float:
    """Nats that layers beyond the stop lose on test rows."""
    return seed[f"few {kind}: {layers} layers"] - seed[f"few {kind}: stopped"]
