"""The figure of `tabular_baselines`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cnf.plotting import BLUE, PALETTE, VERMILION, style_axes
from experiments.paper import Paper

PEERS = ("zuko_realnvp", "zuko_maf", "zuko_nsf")


def figure(results: dict[str, Any]) -> Figure:
    tables = results["seeds"][0]["tables"]
    picture = Figure(figsize=(4.2 * len(tables), 4.6), layout="constrained")
    for axes, (name, rows) in zip(picture.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        order = sorted(rows, key=lambda model: -rows[model]["nll"])
        for place, model in enumerate(order):
            colour = VERMILION if model in PEERS else PALETTE[2] if model == "cnf" else BLUE
            axes.errorbar(rows[model]["nll"], place, xerr=2 * rows[model]["error"], fmt="o", color=colour, capsize=2)
        axes.set_yticks(range(len(order)), order)
        axes.set(title=name, xlabel="test NLL, nats (± 2 s.e.)")
        axes.grid(axis="x", alpha=0.3)
        style_axes(axes)
    return picture


PAPER = Paper(
    "", "", "Are our discrete flows as good as zuko's with equal settings and seconds?", "measured",
    "Two sets that the papers of MAF and NSF do not have; one seed. The row `cnf` is the default of version 0.1.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Ours and zuko's of the flows that both have, and the default."""
    pairs = {
        "RealNVP": ("realnvp", "zuko_realnvp"),
        "MAF": ("maf", "zuko_maf"),
        "NSF": ("nsf_autoregressive", "zuko_nsf"),
    }
    texts = []
    for name, rows in results["seeds"][0]["tables"].items():
        both = {kind: pair for kind, pair in pairs.items() if set(pair) <= set(rows)}
        parts = [f"{kind} {' / '.join(loss(rows[model]) for model in pair)}" for kind, pair in both.items()]
        texts.append(", ".join([name, *parts, *([f"cnf {loss(rows['cnf'])}"] if "cnf" in rows else [])]))
    return f"test NLL (standard error over rows) after at most 120 s, ours / zuko's: {'; '.join(texts)}"


def loss(row: dict[str, float]) -> str:
    return f"{row['nll']:.3f} ({row['error']:.3f})"
