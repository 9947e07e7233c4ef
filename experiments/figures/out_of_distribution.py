"""The figure of `out_of_distribution`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import GREY, PALETTE, style_axes
from experiments.paper import Paper, number, numbers

SCORES = ("likelihood", "typicality", "ratio")


def figure(results: dict[str, Any]) -> Figure:
    shown = results["seeds"][0]["pictures"]
    picture = Figure(figsize=(10, 3.2), layout="constrained")
    left, middle, right = picture.subplots(1, 3, width_ratios=(1.4, 1, 1))
    everything = np.concatenate([np.array(values) for values in shown.values()])
    edges = np.linspace(*np.quantile(everything, [0.02, 0.999]), 50)
    for (name, values), colour in zip(shown.items(), PALETTE, strict=False):
        left.hist(np.clip(values, edges[0], edges[-1]), edges, density=True, histtype="step", color=colour, label=name)
    left.set(xlabel="log p, nats (a lower bound)", ylabel="density", yscale="log", title="likelihoods")
    left.legend(frameon=False, fontsize=7)
    _terms(middle, results)
    _judged(right, results)
    style_axes(left, middle, right)
    return picture


def kinds(results: dict[str, Any]) -> list[str]:
    """What digits are compared with."""
    return [name for name in results["seeds"][0]["pictures"] if name != "digits"]


def _terms(axes: Any, results: dict[str, Any]) -> None:
    names = kinds(results)
    for place, (term, colour) in enumerate(
        zip(("log p", "base", "log-determinant", "predicted"), PALETTE, strict=False)
    ):
        values = [np.mean([seed[f"{name}: {term}"] for seed in results["seeds"]]) for name in names]
        axes.bar(np.arange(len(names)) + 0.2 * place - 0.3, values, 0.18, color=colour, label=term)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="difference to held-out digits, nats", title="terms of log p")
    axes.legend(frameon=False, fontsize=7)


def _judged(axes: Any, results: dict[str, Any]) -> None:
    names = kinds(results)
    for place, (score, colour) in enumerate(zip(SCORES, PALETTE, strict=False)):
        values = np.array([[seed[f"{name}: AUROC of {score}"] for name in names] for seed in results["seeds"]])
        spread = values.std(0, ddof=1) if len(values) > 1 else None
        axes.errorbar(
            np.arange(len(names)) + 0.15 * (place - 1), values.mean(0), spread, fmt="o", color=colour, ms=4, label=score
        )
    axes.axhline(0.5, color=GREY, linewidth=0.6, linestyle="--")
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="area under the ROC curve", ylim=(-0.03, 1.03), title="told from held-out digits")
    axes.legend(frameon=False, fontsize=7)


PAPER = Paper(
    "Nalisnick et al. 2019", "figures 2 to 5",
    "Images of lower contrast have a higher likelihood than the data, as the second-order expansion predicts.",
    "not reproduced",
    "Small digits in the place of CIFAR-10 and SVHN: all other images are less likely than digits, darker ones too, of "
    "which the second-order expansion says the opposite.",
    "", "the paper", "1810.09136",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    texts = [
        f"{name}: {number(results, f'{name}: log p', 1)} nats (predicted {number(results, f'{name}: predicted', 1)}), "
        f"AUROC {numbers(results, [f'{name}: AUROC of {score}' for score in SCORES], 2)}"
        for name in kinds(results)
    ]
    return f"log p against held-out digits, AUROC of {' / '.join(SCORES)}: {'; '.join(texts)}"
