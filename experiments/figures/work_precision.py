"""The figure of `work_precision`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cnf.plotting import BLUE, GREY, INK, VERMILION, style_axes
from experiments.paper import Paper

LOOK = {
    "bosh3, each row": (VERMILION, "-"), "dopri5, each row": (BLUE, "-"), "dopri5, together": (BLUE, "--"),
    "torchdiffeq": (INK, "-"), "torchode": (INK, ":"), "rk4, steps": (GREY, "--"),
}  # fmt: skip
MARKED = "dopri5, each row"  # whose tolerances are written


def figure(results: dict[str, Any]) -> Figure:
    panels = results["seeds"][0]["panels"]
    picture = Figure(figsize=(2.7 * len(panels), 3.2), layout="constrained")
    for axes, (name, curves) in zip(picture.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        for method, points in curves.items():
            color, style = LOOK[method]
            axes.plot(
                [point["evaluations"] for point in points], [max(point["error"], 1e-9) for point in points],
                color=color, label=method, ls=style, marker="o", ms=3, lw=1.2,
            )  # fmt: skip
        for wanted in results["config"]["wanted"]:
            axes.axhline(wanted, color="0.85", lw=0.8, zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="evaluations a row", xlim=(5, 2e3), ylim=(1e-7, 2))
        axes.set_title(name, fontsize=10)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        style_axes(axes)
    left = picture.axes[0]
    left.set_ylabel("error of log p, nats\n(nine rows of ten are below)")
    for point in panels["likelihood"][MARKED]:
        left.annotate(
            point["setting"].removeprefix("tolerance "), (point["evaluations"], point["error"]), xytext=(-4, -6),
            textcoords="offset points", ha="right", fontsize=7, color=BLUE,
        )  # fmt: skip
    picture.legend(
        *left.get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside lower center", ncols=len(LOOK)
    )
    return picture


PAPER = (
    Paper(
        "Finlay et al. 2020, RNODE; Lipman et al. 2023, FM", "evaluations of a solve",
        "Regularised and flow-matched fields need fewer evaluations.", "not reproduced",
        "The kinetic penalty saves a fifth for the tightest error only, and flow matching needs more. One seed.",
        read="the paper", arxiv="2002.02798",
    ),
    Paper(
        "", "", "Which solver for which error of log p?", "measured",
        "Below 1e-4, dopri5 with steps of each row takes the fewest on the smooth fields; with kinks, below 0.01, "
        "bosh3 does. One set, one seed; nine rows of ten.",
    ),
)  # fmt: skip


def ours(results: dict[str, Any]) -> tuple[str, str]:
    """The fewest evaluations for each error, and by which solver."""
    choices, wanted = results["seeds"][0]["choices"], results["config"]["wanted"]
    found = {
        name: [choices[f"{name}: error below {error:g}"] for error in wanted] for name in results["seeds"][0]["panels"]
    }
    counts = [f"{name} {' / '.join(str(each['evaluations']) for each in row)}" for name, row in found.items()]
    solvers = [f"{name} {'; '.join(each['solver'] for each in row)}" for name, row in found.items()]
    errors = " / ".join(f"{error:g}" for error in wanted)
    return f"fewest for errors of {errors} nats: {', '.join(counts)}", f"for {errors} nats: {'. '.join(solvers)}"
