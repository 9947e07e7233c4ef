"""The figure of `mixed_tables`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, VERMILION, style_axes
from experiments.paper import Paper, spread


def mean(results: dict[str, Any], table: str, key: str) -> float:
    return float(np.mean([seed["tables"][table][key] for seed in results["seeds"] if table in seed["tables"]]))


PANELS = (
    ("AUC, real against sampled", "", {"auc cnf": "cnf", "auc copula": "Gaussian copula"}),
    ("test NLL above that of cnf, nats", "nll", {"nll copula": "Gaussian copula", "nll independent": "independent"}),
    ("AUROC of planted anomalies", "",
     {"anomalies cnf": "cnf", "anomalies forest": "isolation forest", "anomalies lof": "local outlier factor"}),
)  # fmt: skip


def figure(results: dict[str, Any]) -> Figure:
    tables, picture = list(results["seeds"][0]["tables"]), Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (title, zero, curves) in zip(picture.subplots(1, 3, sharey=True), PANELS, strict=True):
        colours = (VERMILION, GREY) if zero else (BLUE, VERMILION, GREY)
        for (key, label), colour, marker in zip(curves.items(), colours, "osv", strict=False):
            values = [mean(results, name, key) - (mean(results, name, zero) if zero else 0) for name in tables]
            axes.plot(values, range(len(tables)), marker, color=colour, label=label, ms=6)
        axes.set(title=title, yticks=range(len(tables)), yticklabels=tables)
        axes.legend(frameon=False, fontsize=7)
        axes.grid(alpha=0.3)
        style_axes(axes)
    picture.axes[0].invert_yaxis()
    return picture


PAPER = Paper(
    "", "", "Is a sampled table of mixed columns like the real one, and are unusual rows found?", "measured",
    "One training of 45 s for each table, with no option. Every dependence on one column is looked up, those on two "
    "columns are learnt.",
)  # fmt: skip
KEYS = (
    ("auc cnf", "auc copula"), ("nll", "nll copula", "nll independent"), ("broken cnf", "broken copula"),
    ("conformal p",), ("anomalies cnf", "anomalies forest", "anomalies lof"),
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    texts = []
    for name in results["seeds"][0]["tables"]:
        rows = [seed["tables"][name] for seed in results["seeds"]]
        texts.append(
            f"{name} " + ", ".join(" / ".join(spread([row[k] for row in rows], 3) for k in some) for some in KEYS)
        )
    return (
        "AUC cnf / copula, test NLL cnf / copula / independent, share of broken dependences cnf / copula, KS p of the "
        f"conformal p-values, AUROC of anomalies cnf / isolation forest / local outlier factor: {'; '.join(texts)}"
    )
