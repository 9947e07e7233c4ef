"""The figure of `joint_cfm`, and its row of the table."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure

from cnf.plotting import BLUE, style_axes
from experiments.paper import Paper, numbers

PUBLISHED = {"CondOT": 10.72, "Stable": 1.60, "BatchEOT": 0.57, "BatchOT": 0.24}


def figure(results: dict[str, Any]) -> Figure:
    numbers = results["seeds"][0]
    picture = Figure(figsize=(9.6, 4.6), layout="constrained")
    grid = picture.subplots(2, len(PUBLISHED), height_ratios=(1.6, 1))
    for axes, name in zip(grid[0], PUBLISHED, strict=True):
        ends = torch.tensor(numbers["ends"][name]) / 100
        axes.plot(*ends.permute(2, 1, 0).numpy(), color="0.7", lw=0.5, zorder=1)
        axes.scatter(*ends[:, 0].T.numpy(), s=5, color="0.35", linewidths=0, zorder=2)
        axes.scatter(*ends[:, 1].T.numpy(), s=5, color=BLUE, linewidths=0, zorder=3)
        edge = 1.1 * results["config"]["edge"]
        axes.set(aspect="equal", xlim=(-edge, edge), ylim=(-edge, edge), title=name)
        style_axes(axes, image=True)
    for axes in grid[1]:
        axes.remove()
    bars = picture.add_subplot(grid[0, 0].get_gridspec()[1, :])
    ours = [results["summary"][f"loss, {name}"]["mean"] for name in PUBLISHED]
    for shift, label, values, color in ((-0.2, "the paper", PUBLISHED.values(), "0.75"), (0.2, "ours", ours, BLUE)):
        drawn = bars.bar([place + shift for place in range(len(PUBLISHED))], values, 0.38, color=color, label=label)
        bars.bar_label(drawn, [f"{value:.2f}" for value in values], fontsize=8, padding=1)
    bars.set(yscale="log", ylim=(0.1, 30), xlim=(-0.5, len(PUBLISHED) - 0.5), xticks=[])
    bars.set_ylabel("loss that is left")
    style_axes(bars)
    bars.legend(frameon=False, fontsize=8, loc="upper right")
    return picture


PAPER = Paper(
    "Pooladian et al. 2023, multisample flow matching", "figure 2, final losses", " / ".join(PUBLISHED) + ":",
    "in small",
    "The order of the couplings is seen. That the values agree says little: three settings were fitted to the four.",
    " / ".join(f"{value:.2f}" for value in PUBLISHED.values()), "a third party", "2304.14772",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """In the order of the paper's."""
    return f"{' / '.join(PUBLISHED)}: {numbers(results, [f'loss, {name}' for name in PUBLISHED], 2)}"
