"""The figure of `cfm_table`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from cnf.plotting import BLUE, VERMILION, style_axes
from experiments.paper import Paper, numbers

# The paper's numbers, mean and standard deviation of five seeds, in the order of the pairs.
PUBLISHED = {
    "W2": {
        "OT-CFM": ((0.303, 0.043), (0.601, 0.027), (0.130, 0.016), (0.144, 0.028)),
        "I-CFM": ((0.373, 0.103), (1.557, 0.407), (0.178, 0.014), (0.242, 0.141)),
        "FM": ((0.343, 0.058), None, (0.209, 0.055), (0.198, 0.037)),
        "SB-CFM": ((2.314, 2.112), None, (0.434, 0.594), (0.341, 0.468)),
    },
    "NPE": {
        "OT-CFM": ((0.031, 0.027), (0.015, 0.010), (0.083, 0.009), (0.027, 0.012)),
        "I-CFM": ((0.202, 0.055), (2.680, 0.292), (0.891, 0.120), (0.856, 0.031)),
        "FM": ((0.190, 0.054), None, (0.762, 0.099), (0.743, 0.116)),
        "SB-CFM": ((1.000, 0.000), None, (0.995, 0.000), (0.745, 0.039)),
    },
}  # fmt: skip


METHODS = tuple(PUBLISHED["W2"])
SHOWN = tuple((method, pair) for pair in ("moons → 8gaussians", "N → moons") for method in ("I-CFM", "OT-CFM"))


def figure(results: dict[str, Any]) -> Figure:
    pairs = results["config"]["pairs"]
    picture = Figure(figsize=(9.6, 6.4), layout="constrained")
    grid = picture.subplots(3, len(pairs), squeeze=False, height_ratios=(1, 1, 1.25))
    for row, quantity in zip(grid[:2], ("W2", "NPE"), strict=True):
        for j, (axes, pair) in enumerate(zip(row, pairs, strict=True)):
            compare(axes, results, quantity, pair, j)
        row[0].set_ylabel({"W2": "$W_2$", "NPE": "normalised path energy"}[quantity], fontsize=9)
    for axes, pair in zip(grid[0], pairs, strict=True):
        axes.set_title(pair, fontsize=10)
    bars = [part for part in grid[0, 0].containers if isinstance(part, BarContainer)]
    for axes, name in zip(grid[2], map(", ".join, SHOWN), strict=True):
        shown = results["seeds"][0]["paths"].get(name)
        if shown is None:
            axes.remove()
        else:
            draw_paths(axes, np.array(shown) / 50, name)
    picture.legend(
        handles=[*bars, *grid[0, 0].lines[-1:]],
        labels=["the paper", "ours (pale: one short run)", "between two sets of test data"],
        loc="outside upper center", ncols=3, frameon=False, fontsize=9,
    )  # fmt: skip
    return picture


def compare(axes: Axes, results: dict[str, Any], quantity: str, pair: str, j: int) -> None:
    """Bars of the paper and of ours, with standard deviations over seeds."""
    for shift, color in ((-0.2, "0.75"), (0.2, BLUE)):
        places, means, spreads = [], [], []
        for place, method in enumerate(METHODS):
            found = [seed.get(f"{quantity}, {method}, {pair}") for seed in results["seeds"]]
            ours = [value for value in found if value is not None]
            cell = PUBLISHED[quantity][method][j] if shift < 0 else mean_and_spread(ours) if ours else None
            if cell is not None:
                places, means, spreads = [*places, place + shift], [*means, cell[0]], [*spreads, cell[1]]
        bars = axes.bar(
            places, means, 0.38, yerr=spreads, color=color, error_kw={"lw": 0.8, "ecolor": "0.2"}, capsize=2
        )
        for bar, spread in zip(bars, spreads, strict=True):
            bar.set_alpha(0.3 if np.isnan(spread) else 1)
    axes.set_xticks(range(len(METHODS)), METHODS, fontsize=7)
    style_axes(axes)
    if quantity == "W2":  # of two independent sets of the data, as large as the test set: nothing can be closer
        floor = np.mean([seed[f"W2 floor, {pair}"] for seed in results["seeds"]])
        axes.axhline(floor, color="0.3", lw=0.8, ls="--", zorder=3, label="two sets of test data")
    axes.set(yscale="log", ylim=(0.003, 6)) if quantity == "NPE" else axes.set(ylim=0)


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """A single seed has no spread, and no error bar."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def draw_paths(axes: Axes, states: np.ndarray, name: str) -> None:
    """Ways of points, `(states, 2, N)`."""
    axes.plot(states[:, 0], states[:, 1], color="0.6", lw=0.4)
    axes.scatter(states[0, 0], states[0, 1], s=3, color=VERMILION, linewidths=0, zorder=2)
    axes.scatter(states[-1, 0], states[-1, 1], s=3, color=BLUE, linewidths=0, zorder=3)
    axes.set(aspect="equal", xlabel=name)
    style_axes(axes, image=True)


def theirs(method: str) -> str:
    texts = []
    for kind, label in (("W2", "W₂"), ("NPE", "NPE")):
        cells = [f"{cell[0]:.3f} ± {cell[1]:.3f}" for cell in PUBLISHED[kind][method] if cell]
        texts.append(f"{label} {' / '.join(cells)}")
    return f"{method}: {', '.join(texts)}"


PAPER = (
    Paper(
        "Tong et al. 2024, [SF]²M", "table 2: OT-CFM, I-CFM, FM",
        "All carry one distribution to the other; only minibatch optimal transport does so at nearly the least energy.",
        "reproduced",
        "All but the path energy of OT-CFM on N → moons, which is nearer to the least energy, are within two of the "
        "table's deviations. Plans of OT-CFM pair 128 rows, not 512.",
        f"{theirs('OT-CFM')}; {theirs('I-CFM')}; {theirs('FM')}", "the paper", "2307.03672",
    ),
    Paper(
        "Tong et al. 2024, [SF]²M", "table 2: SB-CFM", "The Schrödinger bridge's paths have a high energy.",
        "not reproduced",
        "One seed of 300 steps with batches of 128, for a plan takes seconds: these numbers say nothing of SB-CFM.",
        theirs("SB-CFM"), "the paper", "2307.03672",
    ),
)  # fmt: skip


def ours(results: dict[str, Any]) -> tuple[str, str]:
    """As in the table of the paper."""
    lines = [mine(results, name) for name in ("OT-CFM", "I-CFM", "FM")]
    floor = numbers(results, [f"W2 floor, {pair}" for pair in results["config"]["pairs"]], 2)
    return f"{'; '.join(lines)}; W₂ of two sets of data: {floor}", mine(results, "SB-CFM")


def mine(results: dict[str, Any], method: str) -> str:
    pairs = [pair for pair in results["config"]["pairs"] if f"W2, {method}, {pair}" in results["seeds"][0]]
    parts = [numbers(results, [f"{kind}, {method}, {pair}" for pair in pairs]) for kind in ("W2", "NPE")]
    return f"{method}: W₂ {parts[0]}, NPE {parts[1]}"
