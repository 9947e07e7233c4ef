"""The no-U-turn sampler in the coordinates of a flow, on a funnel (and an ill-conditioned Gaussian).

Hoffman et al. 2019 (arXiv 1903.03704), figures 1 and 2. The funnel has `v ~ N(0, 3²)` and 99 variables
`xᵢ ~ N(0, e^(v/2)²)`; the Gaussian has the variances `1 / linspace(1, 1000)` along random axes. Claim: plain chains
do not reach the neck of the funnel; in the coordinates of a flow they do. `gradients` are those of the chains, warm-up
included; those of training come apart from them.
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
from cnf.discrete import LULinear
from cnf.inference import nuts
from cnf.inference.evidence import LogDensity
from cnf.plotting import BLUE, GREY, VERMILION
from experiments.paper import Paper, number
from experiments.run import run

KEPT = 1_500  # points in the picture


@dataclass(frozen=True)
class Config:
    densities: tuple[str, ...] = ("funnel",)  # or gaussian
    methods: tuple[str, ...] = ("plain", "iaf")  # or affine
    dim: int = 100
    draws: int = 500  # of each of 4 chains
    warmup: int = 150
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
    for name in config.densities:
        density = DENSITIES[name](config.dim)
        for method in config.methods:
            begun = time.process_time()
            flow = coordinates(method, density, config)
            trained = time.process_time()
            draws = config.draws if method == "iaf" else config.plain_draws
            chains = nuts(density, flow, draws, warmup=config.warmup, seed=config.seed, progress=False)
            first = chains.samples[..., 0].flatten()
            found = {
                "mean": first.mean().item(), "sd": first.std().item(), "r_hat": chains.r_hat.max().item(),
                "ess": chains.ess[0].item(), "least_ess": chains.ess.min().item(), "gradients": chains.gradients,
                "ess_per_gradient": chains.ess[0].item() / chains.gradients,
                "training_seconds": trained - begun, "seconds": time.process_time() - trained,
            }  # fmt: skip
            numbers |= {f"{name}, {method}, {key}": value for key, value in found.items()}
            print(name, method, {key: round(value, 5) for key, value in found.items()}, flush=True)
            if name == "funnel":
                numbers["points"][method] = chains.samples[..., :2].flatten(0, 1)[-KEPT:].tolist()
                with torch.no_grad():
                    z = flow.transform.encode(chains.samples.flatten(0, 1)[-KEPT:]).value
                numbers["points"][f"{method}, z"] = z[:, :2].tolist()
    return numbers


def figure(results: dict[str, Any]) -> Figure:
    seed = results["seeds"][0]
    picture = Figure(figsize=(10, 3), layout="constrained")
    names = ("plain", "iaf", "iaf, z")
    titles = ("plain chains", "in the coordinates of a flow", "the same draws in its base")
    *panels, bars = picture.subplots(1, 4)
    for axes, name, title in zip(panels, names, titles, strict=True):
        points = np.array(seed["points"][name])
        axes.scatter(points[:, 1], points[:, 0], s=2, color=VERMILION if name == "plain" else BLUE, lw=0, alpha=0.5)
        wide, high = (4, 4) if name == "iaf, z" else (30, 10)
        axes.set(title=title, xlim=(-wide, wide), ylim=(-high, high))
        axes.set(xlabel="$x_1$", ylabel="$v$")
    methods = results["config"]["methods"]
    bars.bar(methods, [1000 * seed[f"funnel, {method}, ess_per_gradient"] for method in methods], 0.6, color=GREY)
    bars.set(yscale="log", title="ESS of $v$ in 1000 gradients")
    for axes in (*panels, bars):
        axes.tick_params(labelsize=7)
        axes.title.set_size(8)
        axes.spines[["top", "right"]].set_visible(False)
    return picture


PAPER = Paper(
    "Hoffman et al. 2019, NeuTra", "figures 1 and 2",
    "On a funnel of 100 dimensions, chains in the coordinates of a flow mix where plain ones do not.", "in small",
    "Shown for short chains of one seed.",
    read="memory, not checked", arxiv="1903.03704",
)  # fmt: skip
SMOKE = {"dim": 5, "draws": 20, "plain_draws": 20, "warmup": 10, "steps": 5}


def ours(results: dict[str, Any]) -> str:
    """Mean, deviation, R̂ and effective draws in a thousand gradients of v, by each way."""
    found = []
    for method in results["config"]["methods"]:
        mean, sd, r_hat = (number(results, f"funnel, {method}, {key}", 2) for key in ("mean", "sd", "r_hat"))
        rate = 1000 * results["seeds"][0][f"funnel, {method}, ess_per_gradient"]
        found.append(f"{method}: mean {mean}, sd {sd} (truth 0, 3), R̂ {r_hat}, {rate:.2g} effective draws")
    return "v, effective draws in 1000 gradients, " + "; ".join(found)


if __name__ == "__main__":
    run("neutra", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
