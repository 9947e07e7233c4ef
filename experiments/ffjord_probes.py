"""Noise of trace estimates: FFJORD's training curves with and without the bottleneck, and log-densities against D.

(a) is the paper's figure in small: training with one product with the Jacobian. (b) is what it leaves open: the noise
in log p(x) itself, of each estimate at the cost of three products, in fields trained with the exact trace. Two minutes
of one core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from tqdm import tqdm

import cnf
from cnf.data import toy
from experiments.figures.ffjord_probes import PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    pairs: tuple[str, ...] = ("moons", "pinwheel")  # four dimensions of structure; all others are standard normal
    hidden: tuple[int, ...] = (64, 5, 64)  # every path passes the five
    dim: int = 32  # of (a)
    dims: tuple[int, ...] = (8, 16, 32, 64)  # of (b)
    steps: int = 240
    checks: int = 12  # points of a curve
    batch_size: int = 128
    learning_rate: float = 2e-2
    test_rows: int = 2_000
    rows: int = 64  # of (b)
    draws: int = 32  # for each row
    seed: int = 0


def estimates(width: int, probes: int) -> dict[str, cnf.Divergence]:
    """Every estimate of as many products with the Jacobian."""
    noises = ("gaussian", "rademacher", "orthogonal")
    plain = {noise: cnf.Hutchinson(probes, noise) for noise in noises[: 3 if probes > 1 else 2]}
    narrow = {f"{noise}, bottleneck": cnf.Bottleneck(width, probes, noise) for noise in plain}
    return {**plain, **({} if probes % 3 else {"Hutch++": cnf.HutchPP(probes)}), **narrow}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    width = min(config.hidden)
    exact = cnf.Bottleneck(width, width, "orthogonal")
    curves: dict[str, list[float]] = {}
    for name, divergence in tqdm({"exact": exact, **estimates(width, 1)}.items(), desc="trainings"):
        _, losses, entropy = fitted(config, config.dim, divergence)
        curves[name] = [round(loss - entropy, 4) for loss in losses]
    numbers = {f"NLL above the entropy, {name}": curve[-1] for name, curve in curves.items()}
    noise: dict[str, list[float]] = {name: [] for name in estimates(width, 3)}
    for dim in tqdm(config.dims, desc="dimensions"):
        flow, _, _ = fitted(config, dim, exact)
        for name, divergence in estimates(width, 3).items():
            noise[name].append(round(spread(config, flow, divergence), 5))
    numbers |= {f"noise at D = {dim}, {name}": noise[name][i] for name in noise for i, dim in enumerate(config.dims)}
    return {"curves": curves, "noise": noise, **numbers}


def fitted(config: Config, dim: int, divergence: cnf.Divergence) -> tuple[cnf.Flow, list[float], float]:
    """A flow with the exact trace, its NLL on test rows while it trains with another, and the entropy of the data."""
    torch.manual_seed(config.seed)
    solver = cnf.RungeKutta("rk4", steps=4)
    field = cnf.MLPField(dim, hidden=config.hidden, activation="silu")
    # As many orthogonal probes as the bottleneck is wide give the trace itself, whatever the dimension.
    exact = cnf.Bottleneck(min(config.hidden), min(config.hidden), "orthogonal")
    flow = cnf.Flow(cnf.CNF(field, exact, solver=solver), cnf.StandardNormal(dim))
    settings = cnf.FitConfig(
        steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate, warmup=20, ema=0.9,
        divergence=divergence, checks=config.checks, seed=config.seed, patience=None, progress=False,
    )  # fmt: skip
    rows, entropy = data(config, dim, 20_000, 0)
    test, _ = data(config, dim, config.test_rows, 1)
    history = cnf.fit(flow, rows, validation=test, config=settings).history
    return flow, [row["validation_nll"] for row in history], entropy


def data(config: Config, dim: int, rows: int, seed: int) -> tuple[Tensor, float]:
    """Standardised pairs beside normal dimensions, all turned by one rotation, and their entropy."""
    draw = Generator().manual_seed(seed)
    entropy, parts = 0.0, [torch.randn(rows, dim - 2 * len(config.pairs), generator=draw)]
    entropy += parts[0].shape[1] * (math.log(math.tau) + 1) / 2
    for source in map(toy, config.pairs):
        std, mean = torch.std_mean(source.sample(100_000, generator=Generator().manual_seed(0)), 0)
        parts.append((source.sample(rows, generator=draw) - mean) / std)
        entropy += (source.entropy or math.nan) - std.log().sum().item()
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=Generator().manual_seed(0))).Q
    return torch.cat(parts, 1) @ rotation, entropy


@torch.no_grad()
def spread(config: Config, flow: cnf.Flow, divergence: cnf.Divergence) -> float:
    """Standard deviation of an estimated log p(x) around the mean of its draws, over rows of data."""
    x = data(config, flow.event_shape.numel(), config.rows, 4)[0]
    noisy = cnf.reconfigure(flow, divergence=divergence).log_prob(x.expand(config.draws, *x.shape))
    return noisy.var(0).mean().sqrt().item()


SMOKE = {"dim": 8, "dims": (8,), "steps": 6, "checks": 2, "test_rows": 50, "rows": 8, "draws": 4}

if __name__ == "__main__":
    run("ffjord_probes", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
