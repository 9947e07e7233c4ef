"""OT-Flow's toys: data, the same in base space, noise brought to data space, and density.

Onken et al. 2021 (arXiv 2006.00104), the figure of two-dimensional toys, with the authors' weights for each set. Claim:
a potential of 1,229 parameters, trained on 8 steps of RK4, fits all of them, with an inverse that is right to some
digits. Expect KL of 0.02 (8gaussians), 0.05 (moons), 0.08 (pinwheel) and 0.23 (checkerboard). 3 minutes of one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor
from tqdm import tqdm

import cnf
from cnf.data import toy
from cnf.metrics import log_prob_of_rows, mean_and_error
from cnf.plotting import DENSITY, INK
from experiments.run import run

ALPHAS = {  # the paper's α₁ of the likelihood and α₂ of the HJB penalty; the transport cost has α₀ = 1
    "8gaussians": (30, 1), "checkerboard": (15, 2), "swissroll": (30, 15), "pinwheel": (30, 15), "circles": (5, 1),
    "moons": (8, 1), "2spirals": (10, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    sets: tuple[str, ...] = ("8gaussians", "checkerboard", "pinwheel", "moons")  # of `ALPHAS`
    grid: int = 8  # RK4 steps in training, theirs
    fine: int = 16  # RK4 steps of the inverse error, theirs for most sets
    steps: int = 900  # theirs 5,000, and 20,000 for checkerboard
    batch_size: int = 256  # theirs 5,000, in double precision
    learning_rate: float = 5e-2  # theirs, halved every 500 steps or more; here a cosine
    optimizer: str = "muon"  # theirs Adam
    rows: int = 100_000
    test_rows: int = 5_000
    shown: int = 1_500  # points
    cells: int = 80  # of the densities, along a side
    seed: int = 0


EDGES = (4.4, 3.2)  # half a side of the pictures in data and in base space


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits = {name: fitted(config, name) for name in tqdm(config.sets, desc="sets")}
    keys = ("kl", "inverse_error", "evaluations")
    return {"fits": fits, **{f"{key}, {name}": fit[key] for name, fit in fits.items() for key in keys}}


def fitted(config: Config, name: str) -> dict[str, Any]:
    """A flow trained on one set, measured and drawn."""
    torch.manual_seed(config.seed)
    source, draw = toy(name), Generator().manual_seed(config.seed)
    train, test = (source.sample(n, generator=draw) for n in (config.rows, config.test_rows))
    likelihood, hjb = ALPHAS[name]
    weights = {"kinetic": 0.5 / likelihood, "hjb": hjb / likelihood}  # theirs is half the kinetic energy
    phase = cnf.Phase(
        cnf.MaximumLikelihood(weights), solver=cnf.RungeKutta("rk4", steps=config.grid),
        learning_rate=config.learning_rate, optimizer=config.optimizer,
    )  # fmt: skip
    settings = cnf.FitConfig(
        steps=config.steps, batch_size=config.batch_size, weight_decay=0.0, checks=1, seed=config.seed
    )
    flow = cnf.build("ot_flow", 2, preprocess="none")
    seconds = cnf.fit(flow, train, [phase], config=settings).seconds
    return measured(config, flow, source.log_prob(test.double()), test) | {
        "entropy": source.entropy, "seconds": round(seconds, 1),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
    }  # fmt: skip


@torch.no_grad()
def measured(config: Config, flow: cnf.Flow, exact: Tensor, test: Tensor) -> dict[str, Any]:
    """Likelihoods at a tight tolerance and on the grid of training, inverse error, and what the figure shows."""
    with cnf.count_evaluations() as count:
        gap = mean_and_error(exact - log_prob_of_rows(flow, test, batch_size=len(test)).double())
    coarse, fine = (cnf.reconfigure(flow, solver=cnf.RungeKutta("rk4", steps=n)) for n in (config.grid, config.fine))
    there_and_back = fine.transform.decode(fine.transform.encode(test).value).value
    side = EDGES[0] * ((2 * torch.arange(config.cells) + 1) / config.cells - 1)
    density = log_prob_of_rows(flow, torch.cartesian_prod(side, side).flip(1)).exp()
    return {
        "kl": round(gap.mean, 4), "kl_standard_error": round(gap.standard_error, 4), "evaluations": count.evaluations,
        "kl_on_grid": round((exact - log_prob_of_rows(coarse, test)).mean().item(), 4),
        "inverse_error": torch.linalg.vector_norm(there_and_back - test, dim=1).mean().item(),
        "data": points(test[: config.shown]), "base": points(flow.transform.encode(test[: config.shown]).value),
        "samples": points(flow.sample(config.shown)), "density": [round(1000 * p) for p in density.tolist()],
        "largest": exact.max().exp().item(),
    }  # fmt: skip


def points(x: Tensor) -> list[list[float]]:
    return [[round(value, 2) for value in column] for column in x.T.tolist()]


def figure(results: dict[str, Any]) -> Figure:
    fits = results["seeds"][0]["fits"]
    picture = Figure(figsize=(1.35 * len(fits) + 0.3, 5.9), layout="constrained")
    grid = picture.subplots(4, len(fits), squeeze=False)
    for column, (name, fit) in zip(grid.T, fits.items(), strict=True):
        for axes, kind, edge in zip(column, ("data", "base", "samples"), (*EDGES, EDGES[0]), strict=False):
            axes.scatter(*fit[kind], s=1.4, color=INK, alpha=0.6, lw=0)
            axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
        shade(column[3], fit["density"], 1250 * fit["largest"])
        column[0].set_title(name, fontsize=10)
        column[3].set_xlabel(
            f"NLL {fit['entropy'] + fit['kl']:.3f}\nentropy {fit['entropy']:.3f}\n"
            f"inverse error {fit['inverse_error']:.0e}\n{fit['evaluations']} evaluations", fontsize=8,
        )  # fmt: skip
    for axes, label in zip(grid[:, 0], ("data $x$", "$f(x)$", "$f^{-1}$(noise)", "density"), strict=True):
        axes.set_ylabel(label, fontsize=9)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(linewidth=0.6, color="0.6")
    for axes in grid[1]:
        axes.set_facecolor("0.97")
    return picture


def shade(axes: Axes, density: list[int], darkest: float) -> None:
    cells = np.array(density).reshape(2 * [round(len(density) ** 0.5)])
    axes.imshow(cells, origin="lower", cmap=DENSITY, vmin=0, vmax=darkest, interpolation="bilinear")


if __name__ == "__main__":
    run(
        "otflow_toy", Config(), compute, figure,
        {"sets": ("8gaussians", "checkerboard"), "steps": 3, "rows": 500, "test_rows": 100, "cells": 12, "shown": 50},
    )  # fmt: skip
