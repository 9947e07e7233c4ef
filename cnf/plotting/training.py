"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnf.plotting.style import BLUE, GREY, VERMILION, tidy

CURVES = {"loss": BLUE, "validation_nll": VERMILION, "evaluations": GREY}  # of training


def training_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw loss and validation likelihood over the steps, and below them the evaluations per solve.

    A loss that is not a likelihood (flow matching) has a panel of its own. The vertical axis shows the last nine tenths
    of the steps; the steep start may lie outside.

    Args:
        history: `FitResult.history`, one mapping for each check.

    Returns:
        The figure.

    Raises:
        ValueError: The history is empty.

    Example:
        >>> import cnf
        >>> history = [{"step": 100, "loss": 3.0, "nll": 3.0}, {"step": 200, "loss": 2.5, "nll": 2.5}]
        >>> [axes.get_xlabel() for axes in cnf.plotting.training_figure(history).axes]
        ['step']
    """
    if not history:
        raise ValueError("the history is empty: training ended before its first check")
    panels = _training_panels(history)
    heights = [1.2 if "evaluations" in panel else 2.4 for panel in panels]
    figure = Figure(figsize=(5, 0.6 + sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _curves(axes, history, panel)
    grid[-1].set_xlim(left=0)
    grid[-1].set_xlabel("step", fontsize=8)
    figure.align_ylabels()
    return figure


def _training_panels(history: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """Names of the curves in each panel."""
    known = {name for row in history for name in row}
    likelihoods = [["loss", "validation_nll"]] if "nll" in known else [["loss"], ["validation_nll"]]
    panels = [[name for name in panel if name in known] for panel in [*likelihoods, ["evaluations"]]]
    return [panel for panel in panels if panel]


def _curves(axes: Axes, history: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    tidy(axes, 5)
    axes.spines[["top", "right"]].set_visible(False)
    for name in names:
        points = np.array([(row["step"], row[name]) for row in history if name in row], dtype=float)
        points[~np.isfinite(points)] = np.nan
        axes.plot(points[:, 0], points[:, 1], color=CURVES[name], lw=1.2, label=_curve_label(name, points[:, 1]))
    if names == ["evaluations"]:
        axes.set_ylim(0, 1.2 * axes.dataLim.ymax or 1)  # discrete flows evaluate nothing
        axes.yaxis.set_major_locator(MaxNLocator(2))
        axes.set_ylabel("evaluations\nper solve", fontsize=8)
    else:
        _zoom(axes)
        axes.set_ylabel("loss" if names == ["loss"] else "nats", fontsize=8)
        if names != ["loss"]:
            axes.legend(frameon=False, fontsize=8)


def _curve_label(name: str, values: np.ndarray) -> str:
    if name == "validation_nll" and np.isfinite(values).any():
        return f"validation NLL, best {np.nanmin(values):.4g}"
    return name.replace("_nll", " NLL")


def _zoom(axes: Axes) -> None:
    """Limits of the last nine tenths of the steps: beside the steep start they would look flat."""
    points = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines])
    late = points[points[:, 0] > 0.1 * points[:, 0].max(), 1]
    late = late[np.isfinite(late)]
    if len(late) and late.min() < late.max():
        margin = 0.08 * (late.max() - late.min())
        axes.set_ylim(late.min() - margin, late.max() + margin)
