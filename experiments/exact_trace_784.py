"""The exact trace in 784 dimensions next to a Hutchinson probe: seconds and memory of a training step.

With two hidden layers the trace has a closed form whose cost is one H×H product a sample, whatever the dimension; the
paper makes the point for its potential. MNIST digits, two hidden layers of 512. Half a minute on one core.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

import cnf
from cnf.data.sources import open_source
from cnf.plotting import style_axes
from experiments.paper import Paper, numbers
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: str = "mnist"
    data_root: str = ""  # folder of the IDX files; the environment's CNF_DATA by default
    preprocess: str = "logit"  # of images in [0, 1]
    hidden: int = 512
    batch_size: int = 200
    steps: int = 20
    seed: int = 0


DIVERGENCES = {"exact": cnf.Exact(), "hutchinson": cnf.Hutchinson()}


def measure(config: Config, name: str) -> dict[str, Any]:
    """Times of training steps in a process of its own, so that its peak memory is its own."""
    source = open_source(config.data, root=config.data_root or None)
    torch.manual_seed(config.seed)
    hidden = (config.hidden, config.hidden)
    flow = cnf.build(
        "cnf", source.event_shape, hidden=hidden, preprocess=config.preprocess, regularizers={}
    )  # the trace alone
    start = source.train.read(range(min(5_000, len(source.train))))[0]
    flow.initialize(start)
    trained = cnf.reconfigure(flow, divergence=DIVERGENCES[name], solver=cnf.RungeKutta("rk4", steps=4))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times, losses = [], []
    for step in range(config.steps):
        x = source.train.read(range(step * config.batch_size, (step + 1) * config.batch_size))[0]
        begun = time.perf_counter()
        loss = -trained.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - begun)
        losses.append(loss.item())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"times": times[3:], "nll": losses, "peak_megabytes": peak / 1024, "data_megabytes": before / 1024}


def compute(config: Config) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in DIVERGENCES:  # a child that dies is an error here, and not a wait for ever
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            results[name] = pool.submit(measure, config, name).result()
        results[f"seconds_{name}"] = statistics.median(results[name]["times"])
    results["ratio"] = results["seconds_exact"] / results["seconds_hutchinson"]
    return results


def figure(results: dict[str, Any]) -> Figure:
    numbers = results["seeds"][0]
    picture = Figure(figsize=(6.5, 2.8), layout="constrained")
    left, right = picture.subplots(1, 2)
    names = list(DIVERGENCES)
    left.boxplot([[1e3 * t for t in numbers[name]["times"]] for name in names], tick_labels=names, widths=0.5)
    left.set(ylabel="ms a training step", ylim=(0, None))
    right.bar(names, [numbers[name]["peak_megabytes"] - numbers[name]["data_megabytes"] for name in names], width=0.5)
    right.set_ylabel("peak memory of training, MB")
    style_axes(left, right)
    picture.suptitle(f"MNIST, D = 784, two layers of {results['config']['hidden']}", fontsize=10)
    return picture


PAPER = Paper(
    "Onken et al. 2021, OT-Flow", "figure 2, D = 784", "An exact trace costs about what a few probes do.", "in small",
    "A plain network in the place of their potential, and a whole training step; one thread of a processor, not a GPU.",
    read="the authors' code", arxiv="2006.00104",
)  # fmt: skip
SMOKE = {"steps": 5, "hidden": 32, "data": "digits", "preprocess": "none", "batch_size": 50}


def ours(results: dict[str, Any]) -> str:
    """Medians, and memory above the data."""
    seed = results["seeds"][0]
    memory = [f"{seed[name]['peak_megabytes'] - seed[name]['data_megabytes']:.0f}" for name in DIVERGENCES]
    times = numbers(results, [f"seconds_{name}" for name in DIVERGENCES], 2)
    return f"a training step with the exact trace / one probe: {times} s, {' / '.join(memory)} MB"


if __name__ == "__main__":
    run("exact_trace_784", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
