"""Uniform, importance-weighted and variational dequantisation: how far the bounds are below the likelihood.

Counts of eight simulated neurons in bins of time: a common state of four sets their rates, a refractory period makes
them more regular than Poisson's (Conway and Maxwell's distribution), so that the entropy is known, up to the error of a
mean over 100,000 draws. And scikit-learn's digits, whose entropy nobody knows. The density is our default for tables
and for images, 40 seconds of one core each; the noise of the variational one is a RealNVP on the data (Ho et al. 2019,
arXiv 1902.00275). 10 minutes for three seeds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import cnf
from cnf.discrete import Dequantize
from cnf.metrics import importance_log_prob, mean_and_error
from experiments.figures.dequantization import PAPER, figure, ours
from experiments.parts.image_sets import digits
from experiments.parts.spikes import Population
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = ("counts", "digits")
    rows: int = 10_000  # of counts, to train
    tested: int = 500
    samples: tuple[int, ...] = (1, 4, 16, 64)  # K of the importance-weighted bound
    seconds: float = 40.0  # of one core
    entropy_rows: int = 100_000
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    numbers: dict[str, float] = {}
    for name in config.data:
        train, validation, test, levels = rows_of(name, config)
        if name == "counts":
            exact = Population().log_prob(Population().sample(config.entropy_rows))
            numbers["counts entropy"] = -exact.mean().item()
            numbers["counts exact on the test rows"] = -Population().log_prob(test).mean().item()
        for noise in ("uniform", "variational"):
            flow = trained(noise, train, validation, levels, config)
            for samples in config.samples:
                bound = mean_and_error(bounds(flow, test, samples))
                numbers[f"{name} {noise} K={samples}"] = -bound.mean
                print(f"{name} {noise} K={samples}: {-bound.mean:.3f} ± {bound.standard_error:.3f} nats", flush=True)
    return numbers


def rows_of(name: str, config: Config) -> tuple[Tensor, Tensor, Tensor, int | None]:
    """Rows to train, to validate and to test, and the number of levels."""
    if name == "digits":
        images = digits(config.seed)
        return images.train, images.validation, images.test[: config.tested], images.levels
    population = Population()
    return population.sample(config.rows), population.sample(1_000), population.sample(config.tested), None


def trained(noise: str, train: Tensor, validation: Tensor, levels: int | None, config: Config) -> cnf.Flow:
    """The default density after dequantisation by uniform noise, or by that of a flow."""
    torch.manual_seed(config.seed)
    shape, dim = train.shape[1:], train[0].numel()
    flow = cnf.build("cnf", shape, **({} if levels is None else {"levels": levels}))
    if levels is None:
        flow = cnf.Flow(cnf.Compose([Dequantize(None), flow.transform]), flow.base, recipe=flow.recipe)
    if noise == "variational":
        dequantize = next(part for part in flow.modules() if isinstance(part, Dequantize))
        dequantize.noise = at_rest(cnf.build("realnvp", shape, dim, layers=4, hidden=64, preprocess="none"))
    settings = cnf.FitConfig(seconds=config.seconds, seed=config.seed, progress=False)
    cnf.fit(flow, train, validation=validation, config=settings, clock=time.process_time)
    return flow


def at_rest(flow: cnf.Flow) -> cnf.Flow:
    """The flow with the last layer of each coupling at zero, so that its noise begins as uniform."""
    for conditioner in (part for part in flow.modules() if isinstance(part, cnf.networks.Conditioner)):
        last = [layer for layer in conditioner.modules() if isinstance(layer, nn.Linear)][-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return flow


def bounds(flow: cnf.Flow, rows: Tensor, samples: int) -> Tensor:
    """Bounds of log P of rows, some at a time."""
    with torch.no_grad():
        if samples == 1:
            return flow.log_prob(rows)
        return torch.cat([importance_log_prob(flow, part, samples=samples).value for part in rows.split(100)])


SMOKE = {
    "data": ("counts",), "rows": 300, "tested": 20, "samples": (1, 4), "seconds": 0.5, "entropy_rows": 100,
}  # fmt: skip

if __name__ == "__main__":
    run("dequantization", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
