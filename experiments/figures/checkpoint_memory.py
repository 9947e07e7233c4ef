"""The figure of `checkpoint_memory`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cnf.plotting import BLUE, VERMILION, style_axes
from experiments.paper import Paper

KINDS = ("backprop", "checkpoint")


def figure(results: dict[str, Any]) -> Figure:
    numbers, steps = results["seeds"][0], results["config"]["steps"]
    picture = Figure(figsize=(6.8, 2.8), layout="constrained")
    memory, times = picture.subplots(1, 2)
    for kind, color in zip(KINDS, (VERMILION, BLUE), strict=True):
        curve = numbers["curves"][kind]
        label = f'"{kind}": {numbers[f"{kind}, MB a step"]:.2g} MB a step'
        memory.plot(steps, curve["megabytes"], "o-", ms=3.5, color=color, label=label)
        times.plot(steps, curve["ms"], "o-", ms=3.5, color=color)
    memory.set(title="peak memory of a training step, MB", ylim=(10, 3e3))
    times.set(title="time of a training step, ms")
    held = f"a state has {numbers['state_megabytes']:.2g} MB"
    memory.legend(frameon=False, fontsize=8, loc="upper left", title=held, title_fontsize=8, alignment="left")
    for axes in (memory, times):
        axes.set(xscale="log", yscale="log", xlabel=f"steps of {results['config']['method']}")
        axes.set_xticks(steps, [str(count) for count in steps])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    style_axes(memory, times)
    return picture


PAPER = Paper(
    "", "", "How does the memory of a training step grow with the steps of the solver, and what does saving it cost?",
    "measured", "One machine, two threads; gradients agree at every number of steps.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """Memory for each step, memory and time at both ends."""
    curves, steps = results["seeds"][0]["curves"], results["config"]["steps"]
    memory = {kind: f"{curves[kind]['megabytes'][0]:.3g} → {curves[kind]['megabytes'][-1]:.3g} MB" for kind in KINDS}
    slower = [b / a for a, b in zip(*(curves[kind]["ms"] for kind in KINDS), strict=True)]
    growth = {kind: f"{results['summary'][f'{kind}, MB a step']['mean']:.2g}" for kind in KINDS}
    return (
        f"{steps[0]} to {steps[-1]} steps: backprop {memory['backprop']} ({growth['backprop']} MB a step), checkpoint "
        f"{memory['checkpoint']} ({growth['checkpoint']} MB a step), in {min(slower):.2f} to {max(slower):.2f} of the "
        "time"
    )
