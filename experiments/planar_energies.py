"""Planar flows and NICE fitted to four densities on the plane, with 2, 8 and 32 layers.

Rezende and Mohamed 2015 (arXiv 1505.05770), figure 3, whose (d) shows the bound; here it is `KL(q ‖ p)`, for the
constants of p are known. Claim: both families come closer with every layer, planar flows with far fewer parameters.
With 32 layers planar flows end at 0.007 to 0.03 nats (160 parameters), NICE at 0.05 to 0.09 (3,108). With 2, NICE is
closer on U2 to U4; on U1 it mostly stays on one wide blob, from other seeds at 0.7 to 3.2 nats. 12 minutes on one core.
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
    targets: tuple[str, ...] = ("U1", "U2", "U3", "U4")
    layers: tuple[int, ...] = (2, 8, 32)
    steps: int = 3_000  # theirs 500,000, at a rate of 1e-5 (RMSprop with momentum 0.9)
    annealing: int = 1_500  # theirs 10,000
    batch_size: int = 512
    planar_rate: float = 3e-2  # Adam's; a third is worse everywhere, twice as much is on U4
    nice_rate: float = 1e-2  # three times as much and a third do about as well
    hidden: int = 32  # of the one hidden layer of NICE's networks; no permutations, the halves alternate
    samples: int = 50_000  # that the KL is estimated from
    cells: int = 48  # of the pictures, along a side
    seed: int = 0


LABELS = {"planar": "planar", "nice": "NICE"}
COLOURS = {"planar": BLUE, "nice": VERMILION}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in config.targets}
    cases = [(name, family, k) for name in config.targets for family in LABELS for k in config.layers]
    for name, family, k in tqdm(cases, desc="fits", unit="fit"):
        fits[name][f"{family} {k}"] = fitted(config, family, k, energy(name))
    targets = {name: image(energy(name).log_prob, config.cells) for name in config.targets}
    numbers = {f"{name} {flow}: kl": fit["kl"] for name, flows in fits.items() for flow, fit in flows.items()}
    return {"fits": fits, "targets": targets, **numbers}


def fitted(config: Config, family: str, layers: int, target: Energy) -> dict[str, Any]:
    """How close a flow comes to the target, and what it looks like."""
    torch.manual_seed(config.seed)
    options = {"hidden": config.hidden} if family == "nice" else {"closed": "decode"}
    flow = cnf.build(family, 2, layers=layers, preprocess="none", **options)
    settings = cnf.FitConfig(
        steps=config.steps, patience=None, batch_size=config.batch_size, weight_decay=0.0, progress=False,
        learning_rate=config.planar_rate if family == "planar" else config.nice_rate, seed=config.seed,
    )  # fmt: skip
    objective = cnf.ReverseKL(target.log_prob)
    annealed = Annealed(objective, LinearAnnealing(steps=config.annealing))
    result = cnf.fit(flow, torch.randn(10_000, 2), annealed, config=settings)  # the rows only say how many to draw
    with torch.no_grad():
        loss = objective(flow, torch.zeros(config.samples, 2))
    kl = mean_and_error(loss.rows)
    return {
        "kl": round(kl.mean, 4), "kl_standard_error": round(kl.standard_error, 4),
        "effective_samples": round(loss.metrics["effective_samples"].item(), 4), "seconds": round(result.seconds, 1),
        "parameters": sum(p.numel() for p in flow.parameters()), "density": image(flow.log_prob, config.cells),
    }  # fmt: skip


@torch.no_grad()
def image(log_prob: Callable[[Tensor], Tensor], cells: int) -> list[int]:
    """The density on a grid over [−4, 4]², the lowest row first, in thousandths."""
    centres = EDGE * ((2 * torch.arange(cells) + 1) / cells - 1)
    density = log_prob(torch.cartesian_prod(centres, centres).flip(1)).exp()
    return [round(1000 * value) for value in density.tolist()]


def figure(results: dict[str, Any]) -> Figure:
    config, [seed, *_] = results["config"], results["seeds"]
    flows = [(family, k) for family in LABELS for k in config["layers"]]
    rows, columns = len(config["targets"]), len(flows) + 2
    picture = Figure(figsize=(1.1 * columns + 0.8, 1.1 * rows + 0.5), layout="constrained")
    grid = picture.subplots(rows, columns, squeeze=False, width_ratios=[1] * (columns - 1) + [1.4])
    for panels, name in zip(grid, config["targets"], strict=True):
        target, fits = seed["targets"][name], seed["fits"][name]
        show(panels[0], target, max(target))
        panels[0].set_ylabel(name)
        for axes, (family, k) in zip(panels[1:], flows, strict=False):
            show(axes, fits[f"{family} {k}"]["density"], max(target))
        for family, colour in COLOURS.items():
            kls = [fits[f"{family} {k}"]["kl"] for k in config["layers"]]
            panels[-1].plot(config["layers"], kls, "o-", color=colour, ms=3, lw=1.2, label=LABELS[family])
        panels[-1].set(xscale="log", yscale="log", xticks=config["layers"], xticklabels=config["layers"])
        panels[-1].set_ylim(0.005, 5)
        panels[-1].minorticks_off()
        panels[-1].tick_params(labelsize=7)
        panels[-1].spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_title("target", fontsize=9)
    for axes, (family, k) in zip(grid[0, 1:], flows, strict=False):
        parameters = seed["fits"][config["targets"][0]][f"{family} {k}"]["parameters"]
        axes.set_title(f"{LABELS[family]}, $K = {k}$\n{parameters:,} parameters", fontsize=9)
    grid[0, -1].set_title("KL(q ‖ p), nats", fontsize=9)
    grid[-1, -1].set_xlabel("layers $K$", fontsize=8)
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
        "planar_energies", Config(), compute, figure,
        {"targets": ("U1", "U3"), "layers": (2, 4), "steps": 20, "annealing": 10, "samples": 500},
    )  # fmt: skip
