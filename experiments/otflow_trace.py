"""The exact trace of OT-Flow's potential in closed form next to Hutchinson's estimate, in time and in error.

The paper measured on a GPU, where vectors follow one another; here is one core, where work costs what its
multiplications do. Vectors by reverse mode, as there, and by forward products. Four minutes of one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import trange

import cnf
from experiments.figures.otflow_trace import PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    dims: tuple[int, ...] = (43, 63, 784)  # of MINIBOONE, BSDS300, MNIST
    vectors: tuple[int, ...] = (1, 4, 16, 64)  # theirs go to D; the estimate is the dearer one before
    width: int = 64
    batch_size: int = 512
    repetitions: int = 20  # each with weights, inputs and vectors of its own
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    panels: dict[str, dict[str, list[list[float]]]] = {}
    for dim in config.dims:
        measured(config, dim)  # warms up
        rounds = [measured(config, dim) for _ in trange(config.repetitions, desc=f"D = {dim}")]
        panels[str(dim)] = {name: [each[name] for each in rounds] for name in rounds[0]}
    numbers: dict[str, float] = {}
    for label, panel in panels.items():
        numbers |= {f"D = {label}: {name}": value for name, value in compared(panel, config.vectors).items()}
    return {"panels": panels, **numbers}


def compared(panel: dict[str, list[list[float]]], vectors: tuple[int, ...]) -> dict[str, float]:
    """How many vectors cost as much as the exact trace, and how good the estimate is then."""
    median = {name: np.median(values, 0) for name, values in panel.items()}
    counts = np.log([*vectors, 10 * vectors[-1]])  # beyond the last one, time is taken as proportional
    errors = np.log([*median["error"], median["error"][-1] / 10**0.5])
    numbers = {"exact, ms": 1e3 * median["exact"][0], "error of one vector": median["error"][0]}
    for name in ("forward", "autograd"):
        times = np.log([*median[name], 10 * median[name][-1]])
        affordable = np.interp(np.log(median["exact"][0]), times, counts)
        numbers[f"{name} vectors in that time"] = np.exp(affordable)
        numbers[f"{name} error then"] = np.exp(np.interp(affordable, counts, errors))
    return {name: float(f"{value:.3g}") for name, value in numbers.items()}


def measured(config: Config, dim: int) -> dict[str, list[float]]:
    """Processor seconds for velocity and trace of one batch, and the relative errors of the estimates."""
    field = cnf.PotentialField(dim, hidden=config.width)
    t, x = torch.rand(()), torch.randn(config.batch_size, dim)
    with torch.no_grad():
        exact, seconds = timed(lambda: cnf.Exact()(field.linearize(t, x)))
    times: dict[str, list[float]] = {"exact": [seconds], "forward": [], "autograd": [], "error": []}
    for k in config.vectors:
        # Drawn before the clock starts, for a solve draws them once. (Theirs draws them in the time measured.)
        estimator = cnf.Hutchinson(probes=k)
        probe = estimator.probe(x)
        with torch.no_grad():
            estimate, seconds = timed(lambda: estimator(field.linearize(t, x), probe))  # noqa: B023
        again, reverse = timed(lambda: by_autograd(field, t, x, probe))  # noqa: B023
        torch.testing.assert_close(again, estimate, rtol=1e-3, atol=1e-3)
        times["forward"].append(seconds)
        times["autograd"].append(reverse)
        times["error"].append(((estimate - exact).norm() / exact.norm()).item())
    return {name: [float(f"{value:.4g}") for value in values] for name, values in times.items()}


def by_autograd(field: cnf.PotentialField, t: Tensor, x: Tensor, probe: Tensor) -> Tensor:
    """The estimate by one reverse pass a vector. (Theirs also evaluates the gradient again for each.)"""
    x = x.clone().requires_grad_()
    velocity = field(t, x)
    products = (torch.autograd.grad(velocity, x, v, retain_graph=True)[0] for v in probe)
    return torch.stack([(v * product).sum(1) for v, product in zip(probe, products, strict=True)]).mean(0)


def timed(function: Callable[[], Tensor]) -> tuple[Tensor, float]:
    begun = time.process_time()
    return function(), time.process_time() - begun


SMOKE = {"dims": (5, 8), "vectors": (1, 3), "batch_size": 16, "repetitions": 2}

if __name__ == "__main__":
    run("otflow_trace", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
