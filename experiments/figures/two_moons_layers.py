"""The figure of `two_moons_layers`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from cnf.plotting import style_axes
from experiments.paper import Paper, numbers


def paths_of(results: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The states of the two flows, `(states, 2, N)`, from hundredths."""
    paths = results["seeds"][0]["paths"]
    return np.array(paths["realnvp"]) / 100, np.array(paths["cnf"]) / 100


def scatter(axes: Axes, points: np.ndarray, base: np.ndarray, size: float) -> PathCollection:
    """Points in the colour of their direction in base space."""
    axes.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal")
    style_axes(axes, image=True)
    turn = np.arctan2(base[1], base[0]) / (2 * np.pi) % 1
    return axes.scatter(points[0], points[1], color=0.85 * colormaps["hsv"](turn)[:, :3], s=size, linewidths=0)


def figure(results: dict[str, Any]) -> Figure:
    discrete, continuous = paths_of(results)
    picture = Figure(figsize=(1.25 * len(discrete), 3), layout="constrained")
    grid = picture.subplots(2, len(discrete), squeeze=False)
    for k in range(len(discrete)):
        scatter(grid[0, k], discrete[k], discrete[0], 1.5)
        scatter(grid[1, k], continuous[2 * k], continuous[0], 1.5)
        grid[0, k].set_title(f"layer {k}" if k else "base", fontsize=9)
        grid[1, k].set_title(f"$t = {2 * k / (len(continuous) - 1):.3g}$", fontsize=9)
    for axes, name in zip(grid[:, 0], ("realnvp", "cnf"), strict=True):
        axes.set_ylabel(f"{name}\nKL {results['seeds'][0][f'KL, {name}']:.3f}", fontsize=9)
    return picture


FRAMES, HOLD = 6, 15  # of each layer, and of the last state


def animation(results: dict[str, Any]) -> FuncAnimation:
    """Both flows side by side; the discrete one stays where it is until its next layer."""
    discrete, continuous = paths_of(results)
    picture = Figure(figsize=(5.6, 3.0), layout="constrained")
    left, right = picture.subplots(1, 2)
    jumping, moving = (scatter(axes, discrete[0], discrete[0], 4) for axes in (left, right))
    count = len(discrete) - 1

    def show(frame: int) -> tuple[PathCollection, PathCollection]:
        time = min(frame / (FRAMES * count), 1)
        layer, place = int(time * count), time * (len(continuous) - 1)
        before = min(int(place), len(continuous) - 2)
        state = continuous[before] + (place - before) * (continuous[before + 1] - continuous[before])
        jumping.set_offsets(discrete[layer].T)
        moving.set_offsets(state.T)
        left.set_title(f"realnvp: layer {layer} of {count}", fontsize=9)
        right.set_title(f"cnf: $t = {time:.2f}$", fontsize=9)
        return jumping, moving

    return FuncAnimation(picture, show, frames=FRAMES * count + HOLD, interval=80)


PAPER = Paper(
    "", "", "What lies between noise and data in a discrete and in a continuous flow?", "measured",
    "One seed; the continuous flow is the default of version 0.1.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """KL, and the length of the ways over the distance between their ends."""
    kl, detour = (numbers(results, [f"{key}, {name}" for name in ("realnvp", "cnf")]) for key in ("KL", "detour"))
    return f"RealNVP / continuous: KL {kl}, way over distance {detour}"
