"""The no-U-turn sampler in the coordinates of a flow, on a funnel and an ill-conditioned Gaussian.

Hoffman et al. 2019 (arXiv 1903.03704), figures 1 and 2. The funnel has `v ~ N(0, 3²)` and 99 variables
`xᵢ ~ N(0, e^(v/2)²)`; the Gaussian has the variances `1 / linspace(1, 1000)` along random axes. Claim: plain chains
do not reach the neck of the funnel; in the coordinates of a flow they do. `gradients` are those of the chains, warm-up
included; those of training come apart from them. R̂ is the largest of all coordinates.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import cnf
from cnf.discrete import LULinear
from cnf.inference import nuts
from cnf.inference.evidence import LogDensity
from experiments.figures.neutra import PAPER, figure, ours
from experiments.run import run

KEPT = 1_500  # points in the picture


@dataclass(frozen=True)
class Config:
    cells: tuple[str, ...] = ("funnel, plain", "funnel, iaf", "gaussian, plain", "gaussian, affine")
    dim: int = 100
    draws: int = 1_000  # of each of 4 chains
    warmup: int = 200
    plain_draws: int = 100  # of chains whose paths are long
    steps: int = 2_500  # of training, by reverse KL
    seed: int = 0


def funnel(x: Tensor) -> Tensor:
    v, others = x[:, 0], x[:, 1:]
    return -v.square() / 18 - others.square().sum(1) * (-v).exp() / 2 - v * others.shape[1] / 2


def stretched(dim: int) -> LogDensity:
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1))).Q
    precisions = torch.linspace(1, 1000, dim)
    return lambda x: -((x @ axes).square() * precisions).sum(1) / 2


DENSITIES = {"funnel": lambda dim: funnel, "gaussian": stretched}


def coordinates(method: str, density: LogDensity, config: Config) -> cnf.Flow:
    """A flow fitted to the density; the identity for plain chains."""
    if method == "plain":
        return cnf.Flow(cnf.Compose([]), cnf.StandardNormal(config.dim))
    flow = cnf.Flow(LULinear(config.dim, bias=True), cnf.StandardNormal(config.dim))
    if method == "iaf":  # wide, for few units of a MADE see the first variable alone; with room for far scales
        flow = cnf.build("iaf", config.dim, layers=1, hidden=600, bound=8.0, activation="silu", preprocess="none")
    settings = cnf.FitConfig(steps=config.steps, batch_size=128, learning_rate=1e-2, progress=False, seed=config.seed)
    cnf.fit(flow, None, cnf.ReverseKL(density), config=settings)
    return flow


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    numbers: dict[str, Any] = {"points": {}}
    for cell in config.cells:
        name, method = cell.split(", ")
        density = DENSITIES[name](config.dim)
        begun = time.process_time()
        flow = coordinates(method, density, config)
        trained = time.process_time()
        draws = config.plain_draws if method == "plain" else config.draws
        chains = nuts(density, flow, draws, warmup=config.warmup, seed=config.seed, progress=False)
        first, ess = chains.samples[..., 0].flatten(), chains.ess[0].item()
        found = {
            "mean": first.mean().item(), "sd": first.std().item(), "r_hat": chains.r_hat.max().item(), "ess": ess,
            "least_ess": chains.ess.min().item(), "gradients": chains.gradients,
            "ess_per_gradient": ess / chains.gradients,
            "training_seconds": trained - begun, "seconds": time.process_time() - trained,
        }  # fmt: skip
        numbers |= {f"{cell}, {key}": value for key, value in found.items()}
        print(cell, {key: round(value, 5) for key, value in found.items()}, flush=True)
        if name == "funnel":
            last = chains.samples.flatten(0, 1)[-KEPT:]
            with torch.no_grad():
                z = flow.transform.encode(last).value
            numbers["points"] |= {method: last[:, :2].tolist(), f"{method}, z": z[:, :2].tolist()}
    return numbers


SMOKE = {"dim": 5, "draws": 20, "plain_draws": 20, "warmup": 10, "steps": 5}

if __name__ == "__main__":
    run("neutra", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
