"""The figure of `time_to_quality`, and its row of the table."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from cnf.data import TOYS
from cnf.plotting import style_axes
from experiments.paper import Paper, number

LABELS = {
    "ffjord": "FFJORD as published", "rnode": "RNODE", "ot_flow": "OT-Flow", "cnf": "cnf (default: likelihood)",
    "cnf_matching": "cnf by matching", "cnf_both": "cnf by both", "zuko_cnf": "zuko CNF", "zuko_nsf": "zuko NSF",
    "zuko_maf": "zuko MAF", "zuko_realnvp": "zuko RealNVP",
}  # fmt: skip


COLOURS = {
    "ffjord": "tab:red", "rnode": "tab:orange", "ot_flow": "tab:olive", "cnf": "tab:blue",
    "cnf_matching": "tab:cyan", "cnf_both": "tab:purple", "zuko_cnf": "tab:brown", "zuko_nsf": "tab:green",
    "zuko_maf": "0.35", "zuko_realnvp": "tab:pink",
}  # fmt: skip


def figure(results: dict[str, Any]) -> Figure:
    curves = {name: runs for name, runs in results["seeds"][0]["curves"].items() if not name.endswith("_noise")}
    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    picture = Figure(figsize=(max(9.0, 3.7 * columns), 3.4 * rows + 0.6), layout="constrained")
    panels = picture.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, runs) in zip(panels, curves.items(), strict=False):
        for model, one in runs.items():
            ours = model == "cnf"
            (line,) = axes.plot(
                one["seconds"], one["validation"], color=COLOURS[model], label=LABELS[model],
                linewidth=2.5 if ours else 1.3, zorder=3 if ours else 2,
            )  # fmt: skip
            axes.plot(one["seconds"][-1], one["test"], "o", color=line.get_color(), markersize=5, zorder=4)
        table = name not in TOYS
        axes.set(xscale="log", title=name, xlabel="seconds of one core")
        axes.set_ylabel("held-out NLL, nats" if table else "KL(data ‖ model), nats")
        if table:
            _cut(axes, runs)
        else:
            axes.set(yscale="log", ylim=(None, 1.7 * max(one["test"] for one in runs.values())))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        style_axes(axes)
    for axes in panels[len(curves) :]:
        axes.axis("off")
    known = {line.get_label(): line for axes in panels for line in axes.get_lines() if line.get_label()[0] != "_"}
    picture.legend(known.values(), known.keys(), frameon=False, loc="outside lower center", ncols=5)
    return picture


def _cut(axes: Axes, runs: dict[str, Any]) -> None:
    """Leave out the first steps of all: what matters is who ends where."""
    best = min(min(one["test"], *one["validation"]) for one in runs.values())
    last = max(one["test"] for one in runs.values())
    axes.set_ylim(best - 0.05 * (last - best) - 0.02, last + 0.3 * (last - best) + 0.02)


PAPER = Paper(
    "", "", "How good is a density after so many seconds of one core?", "measured",
    "One seed, the default of version 0.1. OT-Flow has the weights of POWER; with those of each set it is far better "
    "(`otflow_toy`).",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """The test of every run, and how much sooner the default has what the slow recipe ends with."""
    [data, _], curves = results["config"]["long"], results["seeds"][0]["curves"]
    texts = [f"{name} {' / '.join(tested(runs.get(model)) for model in LABELS)}" for name, runs in curves.items()]
    seconds, slow, sooner = results["config"]["long_seconds"], number(results, "kl_slow"), number(results, "speedup", 0)
    return (
        f"KL or test NLL of {' / '.join(LABELS.values())}: {'; '.join(texts)}. On {data} FFJORD's recipe has {slow} "
        f"after {seconds:.0f} s, the default {sooner} times sooner"
    )


def tested(run: dict[str, Any] | None) -> str:
    return f"{run['test']:.3f}" if run else "–"
