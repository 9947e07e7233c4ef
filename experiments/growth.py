"""Seconds of a training step against dimension, batch and width, and what the closed form of the trace costs.

A CNF of two hidden layers has its exact trace for one more product of hidden width. Here a plain MLP: `[x, t]`, tanh,
dopri5 at 1e-5, loss and backward; zuko and FFJORD's recipe on torchdiffeq get the very same weights and rows. The last
panel divides an evaluation of field and trace by one of the field alone. 4 minutes on two cores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from experiments.figures.growth import PAPER, figure, ours
from experiments.parts.evaluations import cost, quantiles, seconds
from experiments.parts.peers import recipe, zuko
from experiments.parts.work import Case, Competitor, Problem, of_cnf
from experiments.run import run


@dataclass(frozen=True)
class Config:
    dims: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # at `width` and `batch`
    batches: tuple[int, ...] = (32, 128, 512, 2048, 8192)  # at `dim` and `width`
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)  # at `dim` and `batch`
    dim: int = 43
    batch: int = 512
    width: int = 128
    evaluations: tuple[tuple[int, int, int], ...] = ((43, 256, 512), (784, 1024, 200))  # D, H, batch
    repeated: int = 19  # evaluations of a solve, which share what is prepared for it: as many as dopri5 takes here
    rounds: int = 7
    limit: float = 1.0  # seconds of a step beyond which a curve ends
    tolerance: float = 1e-5
    threads: int = 2
    seed: int = 0


LIBRARIES: dict[str, Callable[[Problem], Competitor]] = {
    "cnf": of_cnf, "zuko": zuko, "FFJORD's recipe": lambda problem: recipe(problem, "odeint_adjoint"),
}  # fmt: skip
KINDS = {"exact": True, "one probe": False}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    sweeps = {
        "dimension D": [(dim, (dim, config.width, config.batch)) for dim in config.dims],
        "batch": [(batch, (config.dim, config.width, batch)) for batch in config.batches],
        "width H": [(width, (config.dim, width, config.batch)) for width in config.widths],
    }
    curves = {name: sweep(config, name, points) for name, points in sweeps.items()}
    costs = [
        cost(problem(config, sizes, exact=True), config.repeated, 10 * config.rounds)
        for sizes in tqdm(config.evaluations, desc="evaluations")
    ]
    numbers = {f"trace ÷ field, {entry['sizes']}": entry["closed form"][1] for entry in costs}
    return {"curves": curves, "costs": costs, **numbers}


def sweep(config: Config, name: str, points: Sequence[tuple[int, tuple[int, int, int]]]) -> dict[str, Any]:
    """Of each library and kind: the sizes it did, and of its milliseconds the quartiles."""
    curves: dict[str, Any] = {}
    slow: set[str] = set()
    for size, sizes in tqdm(points, desc=name):
        steps = {label: step for label, step in trained(config, sizes).items() if label not in slow}
        first = {label: step() for label, step in steps.items()}
        slow |= {label for label, time in first.items() if time > config.limit}
        quick = {label: step for label, step in steps.items() if label not in slow}
        rounds = [{label: step() for label, step in quick.items()} for _ in range(config.rounds)]
        for label in steps:  # a slow step has its first time only
            curve = curves.setdefault(label, {"x": [], "ms": []})
            curve["x"].append(size)
            curve["ms"].append(quantiles([1e3 * each.get(label, first[label]) for each in rounds]))
    return curves


def problem(config: Config, sizes: tuple[int, int, int], *, exact: bool) -> Problem:
    dim, width, batch = sizes
    return Problem(Case(dim, (width, width), batch), exact=exact, tolerance=config.tolerance, seed=config.seed)


def trained(config: Config, sizes: tuple[int, int, int]) -> dict[str, Callable[[], float]]:
    """The timed training step of every library that is installed, with either trace."""
    steps = {}
    for (library, prepare), (kind, exact) in itertools.product(LIBRARIES.items(), KINDS.items()):
        work = problem(config, sizes, exact=exact)
        try:
            log_prob = prepare(work).log_prob
        except ImportError:
            continue
        steps[f"{library}, {kind}"] = lambda work=work, log_prob=log_prob: seconds(
            lambda: -log_prob().mean(), work.field
        )
    return steps


SMOKE = {
    "dims": (2, 4),
    "batches": (16, 32),
    "widths": (8, 16),
    "dim": 3,
    "batch": 16,
    "width": 8,
    "rounds": 1,
    "threads": 1,
    "evaluations": ((3, 8, 16),),
}

if __name__ == "__main__":
    run("growth", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
