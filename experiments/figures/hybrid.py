"""The figure of `hybrid`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cnf.plotting import PALETTE, style_axes
from experiments.paper import Paper, number

OTHERS = ("8 and 9", "inverted", "shuffled")


def figure(results: dict[str, Any]) -> Figure:
    weights, summary = results["config"]["weights"], results["summary"]
    places = range(len(weights))
    picture = Figure(figsize=(9, 2.8), layout="constrained")
    accuracy, density, rejection = picture.subplots(1, 3)

    def curve(axes: Any, key: str, **style: Any) -> None:
        found = [summary[f"{weight:g}, {key}"] for weight in weights]
        errors = [2 * (each["standard_error"] or 0) for each in found]
        axes.errorbar(places, [each["mean"] for each in found], errors, marker="o", ms=4, lw=1.4, capsize=2, **style)

    curve(accuracy, "accuracy", color=PALETTE[0])
    accuracy.set(title="accuracy, digits 0 to 7", ylim=(0.9, 1.0))
    curve(density, "nll", color=PALETTE[0])
    density.set(title="−log p(x), nats", ylim=(0, None))
    for name, colour in zip(OTHERS, PALETTE, strict=False):
        curve(rejection, name, color=colour, label=name)
    rejection.axhline(0.5, color="0.6", lw=0.8, zorder=0)
    rejection.set(title="AUROC of log p(x)", ylim=(-0.05, 1.05))
    rejection.legend(frameon=False, fontsize=7)
    for axes in (accuracy, density, rejection):
        axes.set_xticks(places, [f"{weight:g}" for weight in weights])
        axes.set_xlabel("λ")
    style_axes(accuracy, density, rejection)
    return picture


PAPER = Paper(
    "Nalisnick et al. 2019, hybrid models", "table 1 and figure 2",
    "One flow classifies nearly as well as a classifier and rejects other inputs by log p(x).", "in small",
    "Scikit-learn's small digits; one seed. The larger λ, the better digits never seen are told apart.",
    read="memory, not checked", arxiv="1902.02767",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Accuracy and AUROC at each λ."""
    found = [
        f"λ = {weight:g}: {number(results, f'{weight:g}, accuracy', 3)}, "
        + " / ".join(number(results, f"{weight:g}, {name}", 2) for name in OTHERS)
        for weight in results["config"]["weights"]
    ]
    return f"accuracy, AUROC of {', '.join(OTHERS)}: {'; '.join(found)}"
