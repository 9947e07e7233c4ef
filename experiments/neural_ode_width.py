"""A continuous planar flow of width M against M planar layers, fitted to three densities on the plane.

Chen et al. 2018 (arXiv 1806.07366), figure 4. Claim: the continuous flow comes at least as close to the target, with
far fewer steps of training. Here, with 800 steps against 3,000, it is closer on U3 at every size, level on U2 and
ahead on U1 at two units only: planar units that split a mode in two are stiff, and stay uneven after so few steps. In
place of the loss the last column shows `KL(q ‖ p)`, its zero known. Eleven minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

import cnf
from cnf.data.energies import EDGE, Energy, energy
from cnf.metrics import mean_and_error
from cnf.objectives.variational import Annealed, LinearAnnealing
from cnf.plotting import BLUE, DENSITY, VERMILION
from experiments.run import run


@dataclass(frozen=True)
class Config:
    targets: tuple[str, ...] = ("U1", "U2", "U3")
    sizes: tuple[int, ...] = (2, 8, 32)  # M and K
    steps: int = 800  # of the continuous flow; theirs 10,000
    planar_steps: int = 3_000  # theirs 500,000, of RMSprop; both are Adam's here
    batch_size: int = 512
    learning_rate: float = 1e-2
    tolerance: float = 1e-3  # of dopri5 in training; densities are computed at 1e-5
    samples: int = 50_000  # that the final KL is estimated from
    cells: int = 48  # of the pictures, along a side
    seed: int = 0


TITLES = {"planar": "planar, $K = {}$", "planar_cnf": "CNF, $M = {}$"}
COLOURS = {"planar": BLUE, "planar_cnf": VERMILION}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in config.targets}
    cases = [(name, model, size) for name in config.targets for model in TITLES for size in config.sizes]
    for name, model, size in tqdm(cases, desc="fits", unit="fit"):
        fits[name][f"{model} {size}"] = fitted(config, model, size, energy(name))
    targets = {name: image(energy(name).log_prob, config.cells) for name in config.targets}
    numbers = {f"{name} {flow}: kl": fit["kl"] for name, flows in fits.items() for flow, fit in flows.items()}
    return {"fits": fits, "targets": targets, **numbers}


def fitted(config: Config, model: str, size: int, target: Energy) -> dict[str, Any]:
    """How close a flow comes to the target, on the way and in the end, and what it looks like."""
    torch.manual_seed(config.seed)
    continuous = model == "planar_cnf"
    flow = cnf.build(model, 2, preprocess="none", **{"units" if continuous else "layers": size})
    steps = config.steps if continuous else config.planar_steps
    settings = cnf.FitConfig(
        steps=steps, patience=None, batch_size=config.batch_size, learning_rate=config.learning_rate, weight_decay=0.0,
        checks=40, seed=config.seed, progress=False,
        solver=cnf.RungeKutta("dopri5", rtol=config.tolerance, atol=config.tolerance),
    )  # fmt: skip
    objective = cnf.ReverseKL(target.log_prob)
    annealed = Annealed(objective, LinearAnnealing(steps=steps // 2))
    result = cnf.fit(flow, torch.randn(10_000, 2), annealed, config=settings)  # the rows only say how many to draw
    flow.double()  # a continuous flow of two units moves some points so fast that 1e-5 is beyond single precision
    with torch.no_grad():
        loss = objective(flow, torch.zeros(config.samples, 2))
    kl = mean_and_error(loss.rows)
    return {
        "kl": round(kl.mean, 4), "kl_standard_error": round(kl.standard_error, 4),
        "effective_samples": round(loss.metrics["effective_samples"].item(), 4), "seconds": round(result.seconds, 1),
        "curve": [[row["step"], round(row["reverse_kl"], 4)] for row in result.history],
        "parameters": sum(p.numel() for p in flow.parameters()), "density": image(flow.log_prob, config.cells),
    }  # fmt: skip


@torch.no_grad()
def image(log_prob: Callable[[Tensor], Tensor], cells: int) -> list[int]:
    """The density on a grid over [−4, 4]², the lowest row first, in thousandths."""
    centres = EDGE * ((2 * torch.arange(cells, dtype=torch.float64) + 1) / cells - 1)
    density = log_prob(torch.cartesian_prod(centres, centres).flip(1)).exp()
    return [round(1000 * value) for value in density.tolist()]


def figure(results: dict[str, Any]) -> Figure:
    config, [seed, *_] = results["config"], results["seeds"]
    flows = [(model, size) for model in TITLES for size in config["sizes"]]
    rows, columns = len(config["targets"]), len(flows) + 2
    picture = Figure(figsize=(1.1 * columns + 0.8, 1.1 * rows + 0.5), layout="constrained")
    grid = picture.subplots(rows, columns, squeeze=False, width_ratios=[1] * (columns - 1) + [1.4])
    for panels, name in zip(grid, config["targets"], strict=True):
        target, fits = seed["targets"][name], seed["fits"][name]
        densities = [target, *(fits[f"{model} {size}"]["density"] for model, size in flows)]
        for axes, density in zip(panels, densities, strict=False):
            show(axes, density, max(target))
        panels[0].set_ylabel(name)
        for model, colour in COLOURS.items():
            kls = [fits[f"{model} {size}"]["kl"] for size in config["sizes"]]
            panels[-1].plot(config["sizes"], kls, "o-", color=colour, ms=3, lw=1.2, label=TITLES[model].split(",")[0])
        panels[-1].set(xscale="log", yscale="log", xticks=config["sizes"], xticklabels=config["sizes"])
        panels[-1].set_ylim(0.005, 5)
        panels[-1].minorticks_off()
        panels[-1].tick_params(labelsize=7)
        panels[-1].spines[["top", "right"]].set_visible(False)
    for axes, title in zip(grid[0], ["target", *(TITLES[model].format(size) for model, size in flows)], strict=False):
        axes.set_title(title, fontsize=9)
    grid[0, -1].set_title("KL(q ‖ p), nats", fontsize=9)
    grid[-1, -1].set_xlabel("$K$, $M$", fontsize=8)
    grid[0, -1].legend(frameon=False, fontsize=7)
    return picture


def show(axes: Axes, density: list[int], darkest: float) -> None:
    """A picture of a density; all of a row share their colours."""
    cells = np.array(density).reshape(2 * [round(len(density) ** 0.5)])
    axes.imshow(
        cells, origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), cmap=DENSITY, vmin=0, vmax=darkest,
        interpolation="bicubic",
    )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.6, color="0.6")


if __name__ == "__main__":
    run(
        "neural_ode_width", Config(), compute, figure,
        {"targets": ("U1", "U3"), "sizes": (2, 4), "steps": 20, "planar_steps": 20, "samples": 500, "cells": 24},
    )  # fmt: skip
