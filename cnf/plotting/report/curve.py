"""The curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnf.plotting.report.charts import Frame, grid, key, panel
from cnf.plotting.report.markup import Html, element, joined, paragraph
from cnf.plotting.report.numbers import number

LEFT = 40.0  # units for the numbers of a vertical axis


def curve_section(history: Sequence[Mapping[str, float]]) -> Html | None:
    """Loss, validation and evaluations over the steps.

    Args:
        history: As `FitResult.history`; without any, there is no section.
    """
    if not history:
        return None
    curves = {name: _curve(history, name) for name in ("loss", "validation_nll", "evaluations")}
    same = any("nll" in row for row in history)  # the loss is a likelihood, so both have one unit
    likelihood = [name for name in ("loss", "validation_nll") if len(curves[name])]
    groups = [likelihood] if same else [[name] for name in likelihood]
    panels = [_panel(curves, names) for names in groups if names]
    if len(curves["evaluations"]) and curves["evaluations"][:, 1].max() > 0:
        panels.append(_panel(curves, ["evaluations"]))
    return joined(
        paragraph(
            "The weights of the best validation are kept. The steep start may lie above the chart."
            if len(curves["validation_nll"]) else "No validation rows were given, so the last weights are kept."
        ),
        key(("line blue", "training loss"), ("line", "validation NLL")) if same else None,
        grid(panels, "large"),
    )  # fmt: skip


def _curve(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    points = [(row["step"], row[name]) for row in history if np.isfinite(row.get(name, np.nan))]
    return np.array(points, dtype=float).reshape(-1, 2)


CLASSES = {"loss": "line blue", "validation_nll": "line", "evaluations": "line thin"}
NAMES = {"loss": "training loss", "validation_nll": "validation NLL", "evaluations": "evaluations per solve"}


def _panel(curves: Mapping[str, np.ndarray], names: Sequence[str]) -> Html:
    points = np.concatenate([curves[name] for name in names])
    late = points[points[:, 0] > 0.1 * points[:, 0].max(), 1]
    low, high = (0.0, points[:, 1].max()) if names == ["evaluations"] else (late.min(), late.max())
    margin = 0.06 * (high - low) or 1.0
    frame = Frame((0, points[:, 0].max()), (low - margin * bool(low), high + margin), (330, 190), (LEFT, 8, 6, 30))
    kept = {name: np.where(curves[name] > frame.y[1], np.nan, curves[name])[:, 1] for name in names}
    lines = [frame.line(curves[name][:, 0], kept[name], CLASSES[name]) for name in names]
    words = "; ".join(
        f"{NAMES[name]} from {number(curves[name][0, 1])} to {number(curves[name][-1, 1])}" for name in names
    )
    title = "nats a row" if "validation_nll" in names or len(names) > 1 else NAMES[names[0]]
    best = f"best validation {number(curves['validation_nll'][:, 1].min())}" if "validation_nll" in names else ""
    return panel(
        title, frame.drawing(f"Over {frame.x[1]:.0f} steps: {words}.", frame.side(), _steps(frame), *lines), best
    )


def _steps(frame: Frame) -> Html:
    """The axis of steps with its name."""
    middle = float(frame.across(frame.x[1] / 2))
    return joined(
        frame.axis(), element("text", "step", x=f"{middle:.0f}", y=f"{frame.size[1] - 3:g}", text_anchor="middle")
    )
