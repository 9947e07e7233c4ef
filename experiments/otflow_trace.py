"""The exact trace of OT-Flow's potential in closed form next to Hutchinson's estimate, in time and in error.

Onken et al. 2021 (arXiv 2006.00104), figure 2, measured there on a GPU, where vectors follow one another. Claim: the
exact trace costs no more than an estimate with a few vectors, which is far off. On one core, where it costs what its
multiplications do, the exact trace takes as long as 25 to 29 vectors at D = 43 and 63, with errors of 4 per cent then,
and as long as 4 at D = 784, with 12 (its cost stops growing where D passes the width, 64); one vector has 22. A minute
of one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import trange

import cnf
from cnf.plotting import BLUE, GREY, INK, VERMILION
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


def figure(results: dict[str, Any]) -> Figure:
    panels, vectors = results["seeds"][0]["panels"], results["config"]["vectors"]
    picture = Figure(figsize=(10, 2.7), layout="constrained")
    *timings, errors = picture.subplots(1, len(panels) + 1)
    styles = {"autograd": (VERMILION, "Hutchinson, reverse mode"), "forward": (BLUE, "Hutchinson, forward products")}
    for axes, (dim, panel) in zip(timings, panels.items(), strict=True):
        for name, (colour, label) in styles.items():
            band(axes, vectors, 1e3 * np.array(panel[name]), color=colour, label=label)
        exact = 1e3 * np.array(panel["exact"]).repeat(len(vectors), 1)
        band(axes, vectors, exact, color=INK, ls="--", marker="", label="exact, closed form")
        axes.set_title(f"$D = {dim}$", fontsize=10)
    timings[0].set_ylabel(f"processor ms, batch of {results['config']['batch_size']}")
    timings[0].legend(frameon=False, fontsize=7, loc="upper left", borderpad=0)
    for (dim, panel), (colour, ls) in zip(panels.items(), ((GREY, "-"), (BLUE, "--"), (INK, ":")), strict=False):
        band(errors, vectors, np.array(panel["error"]), color=colour, ls=ls, label=f"$D = {dim}$")
    errors.set_title("relative error of the estimate", fontsize=10)
    errors.legend(frameon=False, fontsize=8)
    for axes in (*timings, errors):
        axes.set(xscale="log", yscale="log", xlabel="Rademacher vectors")
        axes.set_xticks(vectors, [str(k) for k in vectors])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    timings[0].set_ylim(top=4 * timings[0].get_ylim()[1])  # room for the legend
    errors.set_yticks([0.03, 0.05, 0.1, 0.2], ["0.03", "0.05", "0.1", "0.2"])
    return picture


def band(axes: Any, x: list[int], rounds: np.ndarray, *, color: str, **style: Any) -> None:
    """The median over the repetitions, and what four in five of them lie in."""
    low, median, high = np.quantile(rounds, [0.1, 0.5, 0.9], axis=0)
    axes.plot(x, median, color=color, lw=1.2, **{"marker": "o", "ms": 3, **style})
    axes.fill_between(x, low, high, color=color, alpha=0.18, lw=0)


if __name__ == "__main__":
    run(
        "otflow_trace", Config(), compute, figure,
        {"dims": (5, 8), "vectors": (1, 3), "batch_size": 16, "repetitions": 2},
    )  # fmt: skip
