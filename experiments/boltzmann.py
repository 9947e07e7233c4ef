"""Boltzmann densities of several wells: which modes a flow finds, and free energies by reweighting.

Midgley et al. 2023 (arXiv 2208.01893), figures 1 and 4 in small. Eight tilted double wells together in 13 dimensions
have 256 modes of different mass. Claim: reverse KL is content with some of the modes, and the effective sample size
that it reports itself does not show it; the α-divergence with annealed importance sampling keeps them. The truth is a
quadrature of one dimension.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import cnf
from cnf.inference import importance
from cnf.inference.evidence import LogDensity
from cnf.plotting import BLUE, GREY, VERMILION
from experiments.paper import Paper, number
from experiments.run import run

EDGES = torch.linspace(-2.2, 2.2, 45)


@dataclass(frozen=True)
class Config:
    wells: tuple[int, ...] = (1, 8)
    dims: tuple[int, ...] = (2, 13)  # theirs: 2 and 32, trained for longer
    steps: int = 300
    temperatures: int = 2
    batch_size: int = 128
    draws: int = 10_000
    seed: int = 0


def well(x: Tensor) -> Tensor:
    """`log p̃` of one coordinate, with minima near ±1.4, the right one deeper by about 1.4."""
    return -(x.square() - 2).square() * 1.2 + 0.5 * x


def density(wells: int) -> LogDensity:
    return lambda x: well(x[:, :wells]).sum(1) - x[:, wells:].square().sum(1) / 2


def free_energy() -> Tensor:
    """`−log p` of each cell of the first coordinate, by quadrature."""
    grid = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    mass = well(grid).exp()
    cells = torch.bucketize(grid, EDGES.double())
    sums = torch.zeros(len(EDGES) + 1, dtype=torch.float64).index_add(0, cells, mass)
    return -(sums / mass.sum())[1:-1].log()


def reweighted(x: Tensor, log_weights: Tensor) -> Tensor:
    weights = log_weights.double().softmax(0)
    sums = torch.zeros(len(EDGES) + 1, dtype=torch.float64).index_add(
        0, torch.bucketize(x[:, 0].contiguous(), EDGES), weights
    )
    return -sums[1:-1].log()


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    truth = free_energy()
    numbers: dict[str, Any] = {"truth": truth.tolist(), "curves": {}}
    grid = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    log_mass = (well(grid).logsumexp(0) + (grid[1] - grid[0]).log()).item()
    for wells, dim in zip(config.wells, config.dims, strict=True):
        target = density(wells)
        log_z = wells * log_mass + (dim - wells) * np.log(2 * np.pi) / 2
        objectives = {
            "reverse": cnf.ReverseKL(target, path_gradient=True),
            "alpha": cnf.AlphaDivergence(target, temperatures=config.temperatures),
        }
        for name, objective in objectives.items():
            torch.manual_seed(config.seed)
            base = cnf.DiagonalNormal(dim, scale=1.5)
            flow = cnf.Flow(cnf.build("realnvp", dim, layers=6, hidden=64, preprocess="none").transform, base)
            settings = cnf.FitConfig(
                steps=config.steps, batch_size=config.batch_size, learning_rate=3e-3, progress=False
            )
            begun = time.process_time()
            cnf.fit(flow, None, objective, config=settings)
            evidence = importance(flow, target, config.draws)
            curve = reweighted(evidence.samples, evidence.log_weights)
            near = truth < 6  # nats, beyond which hardly anything is
            found = {
                "ess": evidence.ess, "log_z_error": float(evidence.log_z - log_z),
                "left": (evidence.samples[:, :wells] < 0).double().mean().item(),
                "profile_error": (curve - truth)[near].clamp(max=10).square().mean().sqrt().item(),
                "seconds": time.process_time() - begun,
            }  # fmt: skip
            numbers |= {f"{name}, {dim}-D, {key}": float(value) for key, value in found.items()}
            numbers["curves"][f"{name}, {dim}-D"] = curve.clamp(max=12).tolist()
            print(name, dim, found, flush=True)
    return numbers


def figure(results: dict[str, Any]) -> Figure:
    seed, config = results["seeds"][0], results["config"]
    picture = Figure(figsize=(7.2, 3), layout="constrained")
    middle = ((EDGES[1:] + EDGES[:-1]) / 2).tolist()
    for axes, dim in zip(picture.subplots(1, len(config["dims"]), squeeze=False)[0], config["dims"], strict=True):
        axes.plot(middle, seed["truth"], color=GREY, lw=4, alpha=0.4, label="quadrature")
        for name, colour in (("reverse", VERMILION), ("alpha", BLUE)):
            label = f"{name}: ESS {seed[f'{name}, {dim}-D, ess']:.2f}"
            axes.plot(middle, seed["curves"][f"{name}, {dim}-D"], color=colour, lw=1.4, label=label)
        axes.set(title=f"{dim} dimensions", xlabel="$x_1$", ylabel="free energy, nats", ylim=(1, 12))
        axes.legend(frameon=False, fontsize=7)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return picture


PAPER = Paper(
    "Midgley et al. 2023, FAB", "many wells",
    "Reverse KL drops modes; the α-divergence with annealed importance sampling finds them all.", "in small",
    "The modes that reverse KL drops are kept. In 13 dimensions this short training leaves few effective draws.",
    read="memory, not checked", arxiv="2208.01893",
)  # fmt: skip
SMOKE = {"steps": 3, "batch_size": 16, "draws": 100}


def ours(results: dict[str, Any]) -> str:
    """Share of the left wells, error of the evidence and effective sample size."""
    keys = ("left", "log_z_error", "ess")
    found = [
        f"{dim}-D, {name}: {' / '.join(number(results, f'{name}, {dim}-D, {key}', 3) for key in keys)}"
        for dim in results["config"]["dims"]
        for name in ("reverse", "alpha")
    ]
    return "left share / error of log Z / ESS, " + "; ".join(found)


if __name__ == "__main__":
    run("boltzmann", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
