"""Whether each column, given the others of its row, lies where the model says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from cnf.metrics import interval_coverage
from cnf.plotting.report.charts import Frame, grid, key, panel
from cnf.plotting.report.markup import Html, joined, paragraph
from cnf.plotting.report.numbers import share

LEVEL = 0.9


def calibration_section(pit: Mapping[str, np.ndarray], note: str) -> Html:
    """A histogram of `F(x_j | x_−j)` of each column.

    Args:
        pit: The probability integral transforms of held-out rows by column; NaN where there is none.
        note: Which rows these are, and how the transforms were found.
    """
    return joined(
        paragraph(
            "Where a value lies within its distribution given the other columns of its row: 0 is below all of it, 1 "
            "above. A flat outline is a calibrated model. A valley in the middle means that the model is too sure, a "
            "hill that it is not sure enough, a slope that it is too low or too high. ", note,
        ),
        key(("line blue", "held-out rows"), ("band", "95 % of outlines of a calibrated model")),
        grid(_panel(name, u) for name, values in pit.items() if len(u := values[np.isfinite(values)]) > 1),
    )  # fmt: skip


def _panel(name: str, u: np.ndarray) -> Html:
    bins = 10 if len(u) >= 150 else 5
    edges = np.linspace(0, 1, bins + 1)
    heights = np.histogram(u, edges)[0] / len(u) * bins
    low, high = _expected(len(u), bins)
    frame = Frame((0, 1), (0, max(heights.max(), high, 2.0) * 1.05), (180, 92))
    covered = interval_coverage(torch.from_numpy(u.clip(0, 1)), LEVEL)
    words = f"90 % interval holds {share(covered.mean)} ± {100 * covered.standard_error:.0f}"
    listed = ", ".join(f"{height:.2f}" for height in heights)
    alt = f"Calibration of {name}: heights {listed}, where 1 is calibrated; {words}."
    chart = frame.drawing(
        alt,
        frame.band(low, high),
        frame.steps(heights, edges, "line blue"),
        frame.axis([(0, "0"), (0.5, "0.5"), (1, "1")]),
    )
    return panel(name, chart, words)


def _expected(n: int, bins: int) -> tuple[float, float]:
    """Between which heights 95 per cent of the bins of n uniform numbers are."""
    counts = np.random.default_rng(0).binomial(n, 1 / bins, 20_000)
    low, high = np.quantile(counts, [0.025, 0.975])
    return float(low) * bins / n, float(high) * bins / n
