"""The figure of `growth`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cnf.plotting import BLUE, GREY, INK, VERMILION, style_axes
from experiments.paper import Paper

COLOURS = {"cnf": BLUE, "zuko": VERMILION, "FFJORD's recipe": GREY}


def figure(results: dict[str, Any]) -> Figure:
    numbers = results["seeds"][0]
    picture = Figure(figsize=(11, 3.2), layout="constrained")
    *panels, last = picture.subplots(1, 4, width_ratios=[1.3, 1, 1, 1])
    for axes, (name, curves) in zip(panels, numbers["curves"].items(), strict=True):
        for label, curve in curves.items():
            library, kind = label.split(", ")
            low, middle, high = np.array(curve["ms"]).reshape(-1, 3).T
            style = {"color": COLOURS[library], "ls": "-" if kind == "exact" else (0, (2, 1.5))}
            axes.plot(curve["x"], middle, "o", ms=3, lw=1.3, label=label, **style)
            axes.fill_between(curve["x"], low, high, color=COLOURS[library], alpha=0.15, lw=0)
        axes.set(xscale="log", yscale="log", xlabel=name)
        axes.set_title(held(results["config"], name), fontsize=9)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].set_ylabel("ms a training step")
    costs(last, numbers["costs"])
    style_axes(*panels, last)
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return picture


def held(config: dict[str, Any], swept: str) -> str:
    """What is the same along a curve."""
    sizes = {"dimension D": f"D = {config['dim']}", "width H": f"H = {config['width']}"}
    sizes["batch"] = f"batch {config['batch']}"
    return ", ".join(text for name, text in sizes.items() if name != swept)


def costs(axes: Any, entries: Sequence[dict[str, Any]]) -> None:
    """Bars of the cost of an evaluation, in units of the field alone."""
    colours = {"field alone": "0.8", "closed form": BLUE, "one probe": INK}
    for place, entry in enumerate(entries):
        for shift, (name, color) in enumerate(colours.items()):
            low, middle, high = entry[name]
            x = place + 0.27 * (shift - 1)
            axes.bar(x, middle, 0.24, color=color, label=None if place else name)
            axes.errorbar(x, middle, [[middle - low], [high - middle]], color="0.3", lw=0.8, capsize=1.5)
            axes.text(x, high + 0.04, f"{middle:.2f}", ha="center", fontsize=7)
    axes.set_xticks(range(len(entries)), [entry["sizes"].replace(", ", "\n") for entry in entries])
    axes.set(ylabel="an evaluation ÷ field alone", ylim=(0, 3.6))
    axes.legend(frameon=False, fontsize=8, loc="upper right")


PAPER = Paper(
    "", "", "How does the time of a training step grow, and where is one probe of a peer faster than ours?", "measured",
    "One machine, two threads. With one probe zuko is faster than `cnf` at large batches and widths.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Times at chosen sizes, and where peers win."""
    curves = results["seeds"][0]["curves"]
    texts = [f"{name} {times(curves['dimension D'][name], (2, 64, 1024))}" for name in curves["dimension D"]]
    wins = [f"{axis} {size}: {peer:.0f} against {mine:.0f}" for axis, size, peer, mine in lost(curves)]
    cost = "; ".join(f"{entry['sizes']}: {entry['closed form'][1]:.2f}" for entry in results["seeds"][0]["costs"])
    return (
        f"ms at D = 2 / 64 / 1024: {', '.join(texts)}. zuko's one probe faster than ours, ms: "
        f"{', '.join(wins) or 'nowhere'}. Closed form ÷ field alone: {cost}"
    )


def times(curve: dict[str, Any], sizes: tuple[int, ...]) -> str:
    found = {size: middle for size, (_, middle, _) in zip(curve["x"], curve["ms"], strict=True)}
    return " / ".join(f"{found[size]:.0f}" if size in found else "–" for size in sizes)


def lost(curves: dict[str, Any]) -> list[tuple[str, int, float, float]]:
    """Where one probe of zuko takes less time than ours: sweep, size, milliseconds of both."""
    peer, own = "zuko, one probe", "cnf, one probe"
    pairs = [(axis, sweep[peer], sweep[own]) for axis, sweep in curves.items() if peer in sweep]
    return [
        (axis, size, peer[1], mine[1])
        for axis, theirs, ours in pairs
        for size, peer, mine in zip(theirs["x"], theirs["ms"], ours["ms"], strict=False)
        if peer[1] < 0.97 * mine[1]
    ]
