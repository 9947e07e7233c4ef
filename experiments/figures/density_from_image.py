"""The figure of `density_from_image`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import DENSITY, INK, style_axes
from experiments.paper import Paper, number
from experiments.parts.butterfly import SHEET


def figure(results: dict[str, Any]) -> Figure:
    numbers = results["seeds"][0]
    picture = Figure(figsize=(9.6, 3.1), layout="constrained")
    panels = picture.subplots(1, 3)
    for axes, name in zip(panels[::2], ("drawn", "learned"), strict=True):
        values = np.array(numbers[name]) / 1000
        axes.imshow(values, origin="lower", extent=SHEET, cmap=DENSITY, vmin=0, vmax=1, interpolation="bilinear")
    samples = np.array(numbers["samples"]) / 500
    panels[1].scatter(samples[:, 0], samples[:, 1], s=0.9, color=INK, linewidths=0)
    for axes, title in zip(panels, ("the drawing", "samples", "the learned density"), strict=True):
        axes.set(xlim=SHEET[:2], ylim=SHEET[2:], aspect="equal", title=title)
        style_axes(axes, image=True)
        axes.spines[:].set_visible(False)
    return picture


PAPER = Paper(
    "", "", "How close does a continuous flow come to a drawing, as a density?", "measured",
    "One seed; the GIF was drawn anew from its flow with 46 frames.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """The divergence, and that of the uniform density for comparison."""
    drawn = np.array(results["seeds"][0]["drawn"]) / 1000
    share = drawn / drawn.sum()
    uniform = (share * np.log(np.where(share > 0, share, 1) * share.size)).sum()
    return (
        f"KL(picture ‖ model) {number(results, 'KL')} nats (standard error over rows "
        f"{number(results, 'standard error')}) after {number(results, 'training seconds', 0)} s of training; of the "
        f"uniform density, on the cells of the picture, {uniform:.2f}"
    )
