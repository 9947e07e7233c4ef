"""The figure of `simplex_calibration`, and its row of the table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cnf.plotting import BLUE, DENSITY, GREY, VERMILION, style_axes
from experiments.paper import Paper, number


def grid(cells: int) -> Tensor:
    """Points inside the 2-simplex, in rows."""
    steps = (torch.arange(cells) + 1 / 3) / cells
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack([u, v, 1 - u - v], 2).reshape(-1, 3)
    return points[points[:, 2] > 0]


def figure(results: dict[str, Any]) -> Figure:
    picture = Figure(figsize=(9.6, 6.2), layout="constrained")
    above, below = picture.subfigures(2, 1, height_ratios=(1, 1.3))
    panels = above.subplots(1, 5, sharey=True)
    seed, summary = results["seeds"][0], results["summary"]
    for axes, (name, bins) in zip(panels, seed["diagrams"].items(), strict=True):
        diagram(axes, bins)
        loss, error = (summary[f"{what}, {name}"]["mean"] for what in ("log-loss", "ECE"))
        axes.set_title(f"{name}\nlog-loss {loss:.2f}, ECE {error:.3f}", fontsize=9)
    panels[0].set_ylabel("accuracy", fontsize=8)
    panels[2].set_xlabel("confidence (held-out images)", fontsize=8)
    digits = results["config"]["digits"]
    for axes, digit, fit in zip(below.subplots(1, 3), digits, seed["fits"], strict=True):
        ternary(axes, fit, results["config"]["cells"], digits)
        axes.set_title(f"images of a {digit}", fontsize=9)
    below.suptitle("calibrated posteriors among three digits: learned density, and held-out images as dots", fontsize=9)
    return picture


def diagram(axes: Axes, bins: list[tuple[float, float, float]]) -> None:
    """Accuracy over confidence; a dot's area is its share of the rows, and where that is below 0.3 % there is none."""
    sure, right, share = zip(*(part for part in bins if part[2] > 0.003), strict=True)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    axes.plot(sure, right, color=BLUE, lw=1)
    axes.scatter(sure, right, s=[8 + 250 * part for part in share], color=BLUE, alpha=0.8, lw=0)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_xticklabels(["0", "0.5", "1"])
    style_axes(axes)


def ternary(axes: Axes, fit: dict[str, Any], cells: int, digits: list[int]) -> None:
    """The learned density on the triangle, and held-out posteriors."""
    x, y = plane(grid(cells))
    density = np.array(fit["density"])
    axes.tricontourf(x, y, np.minimum(density, np.quantile(density, 0.98)), levels=24, cmap=DENSITY)
    axes.plot(*plane(torch.tensor(fit["points"])), ".", ms=3.5, color=VERMILION, alpha=0.8, mew=0)
    corners = torch.eye(3)
    axes.plot(*plane(corners[[0, 1, 2, 0]]), color=GREY, lw=0.8)
    for place, digit, corner in zip(("right", "left", "center"), digits, corners, strict=True):
        at, height = plane(corner.unsqueeze(0) + 0.06 * (corner - 1 / 3))
        axes.text(at[0], height[0], str(digit), ha=place, va="center", fontsize=9)
    axes.set(aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.06, 0.96))
    axes.axis("off")


def plane(points: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where points of the 2-simplex are in the plane: its corners are left, right and above."""
    return (points[:, 1] + points[:, 2] / 2).numpy(), (points[:, 2] * math.sqrt(3) / 2).numpy()


PAPER = Paper(
    "", "", "Which map of the simplex lowers log-loss and calibration error, and do flows fit posteriors there?",
    "measured", "Noisy digits; a matrix lowers the log-loss more than a temperature, for it mends confusions.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Held-out log-loss and calibration error of each map; the densities' NLL."""
    maps = results["seeds"][0]["diagrams"]
    texts = [f"{name} {number(results, f'log-loss, {name}')}, {number(results, f'ECE, {name}')}" for name in maps]
    densities = [f"{name} {number(results, f'held-out NLL, {name}', 2)}" for name in ("Dirichlet density", "flow")]
    return f"held-out log-loss, ECE: {'; '.join(texts)}. Posteriors as densities, held-out NLL: {', '.join(densities)}"
