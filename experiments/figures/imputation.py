"""The figure of `imputation`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, VERMILION, style_axes
from experiments.paper import Paper, spread

WAYS = {
    "cnf": ("any_cnf, mean of 20 draws", BLUE),
    "ridge": ("Bayesian ridge", VERMILION),
    "trees": ("extra trees", GREY),
}
NOMINAL = 19 / 21


def figure(results: dict[str, Any]) -> Figure:
    tables = [seed["tables"] for seed in results["seeds"]]
    names, picture = list(tables[0]), Figure(figsize=(9, 3.2), layout="constrained")
    errors, covered = picture.subplots(1, 2, width_ratios=(2, 1))
    for place, (way, (label, colour)) in enumerate(WAYS.items()):
        values = [np.mean([seed[name][f"rmse {way}"] for seed in tables]) for name in names]
        errors.bar(np.arange(len(names)) + 0.26 * (place - 1), values, 0.24, color=colour, label=label)
    errors.set(ylabel="error of filled cells, standard deviations", xticks=range(len(names)), xticklabels=names)
    errors.legend(frameon=False, fontsize=7)
    covered.plot([np.mean([seed[name]["coverage"] for seed in tables]) for name in names], "o", color=BLUE)
    covered.axhline(NOMINAL, color=GREY, lw=0.8)
    covered.set(ylabel="held by the range of 20 draws", ylim=(0.8, 1), xticks=range(len(names)), xticklabels=names)
    covered.tick_params("x", rotation=25)
    for axes in picture.axes:
        axes.grid(axis="y", alpha=0.3)
        style_axes(axes)
    return picture


PAPER = Paper(
    "Li, Akbar and Oliva 2020, ACFlow", "tables 2 and 3",
    "One flow of any cells given any others fills empty cells better than iterated regressions.",
    "measured", "Other tables than the paper's; a field with a mask in place of their discrete layers.",
    arxiv="1909.06319", read="memory, not checked",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Errors, coverage, and the price of knowing all conditionals."""
    texts = []
    for name in results["seeds"][0]["tables"]:
        rows = [seed["tables"][name] for seed in results["seeds"]]
        text = " / ".join(spread([row[f"rmse {way}"] for row in rows], 3) for way in WAYS)
        if "wrong cnf" in rows[0]:
            text += f", wrong {' / '.join(spread([row[f'wrong {way}'] for row in rows], 3) for way in WAYS)}"
        texts.append(f"{name} {text}, coverage {spread([row['coverage'] for row in rows], 3)}")
    prices = [
        f"{name} {spread([seed['price'][name] for seed in results['seeds']], 3)}"
        for name in results["seeds"][0]["price"]
    ]
    return (
        f"RMSE cnf / ridge / trees: {'; '.join(texts)}; nats that complete rows lose against `cnf` at equal steps: "
        f"{', '.join(prices) or 'not measured'}"
    )
