"""The figure of `energies`."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnf.data.energies import EDGE
from cnf.plotting import PALETTE, style_axes
from experiments.paper import Paper, numbers
from experiments.parts.pictures import shade

FAMILIES = {"planar": "planar, $K = {}$", "nice": "NICE, $K = {}$", "planar_cnf": "CNF, $M = {}$"}


def figure(results: dict[str, Any]) -> Figure:
    config, seed = results["config"], results["seeds"][0]
    flows = [(family, size) for family in FAMILIES for size in config["sizes"]]
    rows, columns = len(config["targets"]), len(flows) + 2
    picture = Figure(figsize=(1.1 * columns + 0.8, 1.1 * rows + 0.6), layout="constrained")
    grid = picture.subplots(rows, columns, squeeze=False, width_ratios=[1] * (columns - 1) + [1.5])
    for panels, name in zip(grid, config["targets"], strict=True):
        target, fits = seed["targets"][name], seed["fits"][name]
        shade(panels[0], target, max(target), EDGE)
        panels[0].set_ylabel(name)
        for axes, (family, size) in zip(panels[1:], flows, strict=False):
            fit = fits.get(f"{family} {size}")
            axes.set_visible(fit is not None)
            if fit:
                shade(axes, fit["density"], max(target), EDGE)
        curves(panels[-1], results, name)
    titles = ["target", *(FAMILIES[family].format(size) for family, size in flows)]
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=8)
    grid[0, -1].set_title("KL(q ‖ p), nats", fontsize=8)
    grid[-1, -1].set_xlabel("$K$, $M$", fontsize=8)
    grid[0, -1].legend(frameon=False, fontsize=6)
    return picture


def curves(axes: Axes, results: dict[str, Any], name: str) -> None:
    """KL against size, a line for each seed."""
    sizes = results["config"]["sizes"]
    for (family, title), colour in zip(FAMILIES.items(), PALETTE, strict=False):
        for i, seed in enumerate(results["seeds"]):
            fits = [seed["fits"][name].get(f"{family} {size}") for size in sizes]
            if all(fits):
                label = None if i else title.split(",")[0]
                axes.plot(sizes, [fit["kl"] for fit in fits], "o-", color=colour, ms=3, lw=1.2, label=label)
    axes.set(xscale="log", yscale="log", ylim=(0.005, 5))
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    style_axes(axes)


PAPER = (
    Paper(
        "Rezende and Mohamed 2015", "figure 3",
        "Planar flows and NICE come closer with every layer, planar flows with far fewer layers and parameters.",
        "in small",
        "3,000 steps of Adam (theirs 500,000 of RMSprop), one seed. With 32 layers planar flows are closer on all "
        "four, with a twentieth of the parameters; with 2, NICE is closer on U2 to U4.",
        read="a third party", arxiv="1505.05770",
    ),
    Paper(
        "Chen et al. 2018, Neural ODEs", "figure 4",
        "A CNF of M units comes at least as close as M planar layers, in a fiftieth of the steps.", "not reproduced",
        "After 800 steps against 3,000, planar layers at their best rate are closer at most sizes.",
        read="the paper", arxiv="1806.07366",
    ),
)  # fmt: skip


def ours(results: dict[str, Any]) -> tuple[str, str]:
    """KL of the families at all sizes."""
    sizes = " / ".join(map(str, results["config"]["sizes"]))
    return (
        f"KL(q ‖ p) at K = {sizes}, planar; NICE: {rows(results, ('planar', 'nice'), results['config']['targets'])}",
        f"KL(q ‖ p) at M = K = {sizes}, CNF; planar: "
        f"{rows(results, ('planar_cnf', 'planar'), results['config']['continuous_targets'])}",
    )


def rows(results: dict[str, Any], families: tuple[str, ...], targets: list[str]) -> str:
    texts = []
    for name in targets:
        parts = [
            numbers(results, [f"{name} {family} {size}: kl" for size in results["config"]["sizes"]])
            for family in families
        ]
        texts.append(f"{name} {'; '.join(parts)}")
    return ". ".join(texts)
