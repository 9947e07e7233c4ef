"""Two moons layer by layer: RealNVP's jumps from base to data, and a continuous flow's path between the same ends.

After Dinh et al. 2017 (arXiv 1605.08803), figure 1, and Chen et al. 2018 (arXiv 1806.07366), figure 5. Claim: between
the layers of a discrete flow are shears and stretches that nothing asks to look like anything, and points go a long way
round, seven times the distance between their ends; a continuous flow has a density at every time in between, and by
likelihood alone its ways are nearly straight, 1.1 times that distance. Four minutes on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from torch import Generator, Tensor

import cnf
from cnf.data import toy
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: str = "moons"
    seconds: float = 90.0  # for each of the two
    rows: int = 100_000
    couplings: int = 8
    hidden: tuple[int, ...] = (64, 64)
    points: int = 800  # that are drawn
    test_rows: int = 10_000
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    source, draw = toy(config.data), Generator().manual_seed(config.seed)
    train, validation, test = (source.sample(n, generator=draw) for n in (config.rows, 2_000, config.test_rows))
    torch.manual_seed(config.seed)
    discrete = cnf.build("realnvp", 2, layers=config.couplings, hidden=config.hidden, activation="silu")
    continuous = cnf.build("cnf", 2)
    for flow in (discrete, continuous):
        budget = cnf.FitConfig(seconds=config.seconds, patience=None, seed=config.seed)
        cnf.fit(flow, train, validation=validation, config=budget)
    z = continuous.base.sample(config.points, generator=draw)
    times = torch.linspace(0, 1, 2 * config.couplings + 1)  # in between the paths are straight, to the eye
    paths = {"realnvp": layers(discrete, z), "cnf": continuous.trajectory(z, times).detach()}
    exact = source.log_prob(test.double())
    numbers = {
        f"KL, {name}": mean_and_error(exact - log_prob_of_rows(flow, test).double()).mean
        for name, flow in (("realnvp", discrete), ("cnf", continuous))
    } | {f"detour, {name}": detour(path) for name, path in paths.items()}
    return {"paths": {name: (100 * path).round().int().mT.tolist() for name, path in paths.items()}, **numbers}


@torch.no_grad()
def layers(flow: cnf.Flow, z: Tensor) -> Tensor:
    """Base points and what each coupling makes of them, in the units of the data, `(couplings + 1, N, 2)`."""
    transform: Any = flow.transform
    standardize, couplings = transform.transforms
    states = [z]
    for coupling in reversed(couplings.transforms):
        states.append(coupling.push(states[-1]))
    return torch.stack([standardize.push(state) for state in states])


def detour(path: Tensor) -> float:
    """Length of the points' ways over the distance between their ends, `Σ |steps| / Σ |x(1) − x(0)|`."""
    return (path.diff(dim=0).norm(dim=2).sum() / (path[-1] - path[0]).norm(dim=1).sum()).item()


def paths_of(results: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The states of the two flows, `(states, 2, N)`, from hundredths."""
    paths = results["seeds"][0]["paths"]
    return np.array(paths["realnvp"]) / 100, np.array(paths["cnf"]) / 100


def scatter(axes: Axes, points: np.ndarray, base: np.ndarray, size: float) -> PathCollection:
    """Points in the colour of their direction in base space."""
    axes.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.6, color="0.6")
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


if __name__ == "__main__":
    run(
        "two_moons_layers", Config(), compute, figure,
        {"seconds": 1.0, "rows": 2_000, "couplings": 2, "points": 100, "test_rows": 500}, animation,
    )  # fmt: skip
