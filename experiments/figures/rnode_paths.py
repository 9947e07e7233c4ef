"""The figure of `rnode_paths`, and its row of the table."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure

import cnf
from cnf.plotting import BLUE, VERMILION, style_axes
from experiments.paper import Paper, number, numbers

NAMES = {"plain": "likelihood alone", "penalties": "with RNODE's penalties"}


COLOURS = {"plain": VERMILION, "penalties": BLUE}


EDGE = 5.0  # of the pictures


def figure(results: dict[str, Any]) -> Figure:
    seed = results["seeds"][0]
    picture = Figure(figsize=(7.2, 4.9), layout="constrained")
    grid = picture.subplots(3, 2, sharex=True, height_ratios=[1, 2.4, 0.8])
    x = torch.linspace(-EDGE, EDGE, len(seed["density"]))
    base = cnf.StandardNormal(1).log_prob(x.unsqueeze(1)).exp()
    for (top, middle, bottom), (name, fit) in zip(grid.T, seed["fits"].items(), strict=True):
        top.fill_between(x, seed["density"], color="0.87", lw=0, label="data")
        top.plot(x, fit["density"], color=COLOURS[name], lw=1.3, label="model")
        top.set_title(
            f"{NAMES[name]}\nNLL {fit['nll']:.3f}, kinetic energy {fit['kinetic']:.2f}, "
            f"{fit['evaluations']} evaluations", fontsize=9,
        )  # fmt: skip
        top.legend(frameon=False, fontsize=7)
        times = torch.linspace(0, 1, len(fit["paths"]))
        middle.plot(fit["paths"], times, color=COLOURS[name], lw=0.9)
        middle.set(ylim=(0, 1), xlim=(-EDGE, EDGE))
        bottom.fill_between(x, base, color="0.87", lw=0)
        bottom.set_xlabel("$x$", fontsize=9)
        style_axes(top, middle, bottom)
    for axes, label in zip(grid[:, 0], ("$p(x)$", "$t$", "base"), strict=True):
        axes.set_ylabel(label, fontsize=9)
    return picture


PAPER = Paper(
    "Finlay et al. 2020, RNODE", "figure 1",
    "At the same likelihood, penalties make paths straight and of constant speed, nearly those of optimal transport.",
    "in small",
    "From a start that was chosen so that unpenalised paths wind; from the default start there is no difference. One "
    "seed.",
    read="the paper", arxiv="2002.02798",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Without and with penalties."""
    nll, kinetic = (numbers(results, [f"{key}, {name}" for name in NAMES]) for key in ("nll", "kinetic"))
    evaluations = numbers(results, [f"evaluations, {name}" for name in NAMES], 0)
    return (
        f"without / with: NLL {nll} (truth {number(results, 'nll, truth')}), kinetic energy {kinetic} (optimal "
        f"transport {number(results, 'kinetic, optimal transport')}), evaluations {evaluations}"
    )
