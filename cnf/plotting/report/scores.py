"""The likelihood of held-out rows beside that of simple densities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cnf.metrics import Estimate, mean_and_error
from cnf.plotting.report.charts import Frame
from cnf.plotting.report.markup import Html, element, joined, paragraph, table
from cnf.plotting.report.numbers import MINUS, number, with_error


@dataclass(frozen=True, eq=False)
class Score:
    """A density and what it gives to held-out rows.

    Attributes:
        name: What to call it.
        log_prob: Of each row, `(N,)`, in nats.
        what: "exact", "a lower bound" or "estimated".
        remark: How it was fitted, in a few words.
        own: Whether it is the model of the page.
    """

    name: str
    log_prob: np.ndarray
    what: str = "exact"
    remark: str = ""
    own: bool = False


def scores_section(scores: Sequence[Score], note: str) -> Html:
    """A table of densities, the best first, each with its distance to the model on the same rows.

    Args:
        scores: Of which one is the model's own; all of the same rows.
        note: Which rows these are.
    """
    own = next(score for score in scores if score.own)
    nlls = {score.name: _mean(-score.log_prob) for score in scores}
    ends = _ends(list(nlls.values()))
    ranked = sorted(scores, key=lambda score: nlls[score.name].mean)
    head = ["density", "NLL", "worse than the model by", "NLL ± 2 errors", "likelihood"]
    rows = [
        [
            joined(score.name, element("br"), element("small", score.remark, class_="note")),
            _written(nlls[score.name]),
            "" if score.own else _written(_mean(own.log_prob - score.log_prob)),
            _mark(nlls[score.name], ends, own=score.own),
            score.what,
        ]
        for score in ranked
    ]  # fmt: skip
    return joined(
        paragraph(
            "NLL is the mean of ", MINUS, "log p over held-out rows, in nats; lower is better. It may be negative, "
            "since densities may be above 1. Errors are one standard error; distances to the model are over the same "
            "rows. ", note,
        ),
        table(head, rows, class_="cards", numeric=(1, 2), marked=[score.own for score in ranked]),
        _judgement(own, scores),
    )  # fmt: skip


def _mean(values: np.ndarray) -> Estimate:
    return mean_and_error(torch.from_numpy(np.asarray(values, dtype=float)))


def _written(estimate: Estimate) -> str:
    return with_error(*estimate) if np.isfinite(estimate.mean) else number(estimate.mean)


def _judgement(own: Score, scores: Sequence[Score]) -> Html | None:
    """A warning where a simple density is as good."""
    gaps = {score.name: _mean(own.log_prob - score.log_prob) for score in scores if not score.own}
    better = [name for name, gap in gaps.items() if gap.mean < 2 * gap.standard_error]
    if not better:
        return None
    return paragraph(
        f"The model is not clearly better than: {', '.join(better)}. More training or another model may help.",
        class_="failed",
    )


def _ends(estimates: list[Estimate]) -> tuple[float, float]:
    finite = [each for each in estimates if np.isfinite(each.mean)]
    reach = [2 * np.nan_to_num(each.standard_error) for each in finite]
    low = min(each.mean - side for each, side in zip(finite, reach, strict=True))
    high = max(each.mean + side for each, side in zip(finite, reach, strict=True))
    return float(low), float(high) if high > low else float(low) + 1


def _mark(estimate: Estimate, ends: tuple[float, float], *, own: bool) -> Html | str:
    """A point with two standard errors to each side, on the scale of all rows."""
    if not np.isfinite(estimate.mean):
        return ""
    frame = Frame(ends, (0, 1), (220, 14), (6, 6, 0, 0))
    side = 2 * float(np.nan_to_num(estimate.standard_error))
    line = frame.line(
        np.array([estimate.mean - side, estimate.mean + side]), np.array([0.5, 0.5]), "line" if own else "line blue"
    )
    dot = element(
        "circle", cx=f"{frame.across(estimate.mean):.1f}", cy="7", r="4", fill="var(--red)" if own else "var(--blue)"
    )
    return frame.drawing(f"{number(estimate.mean)} on a scale from {number(ends[0])} to {number(ends[1])}", line, dot)
