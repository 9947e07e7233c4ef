"""Likelihood against seconds of training: FFJORD's recipe, RNODE, OT-Flow, our default three ways, zuko's flows.

KL(data ‖ model) on toys of known density, test NLL in standardised units on two tables. FFJORD's recipe (Grathwohl et
al. 2019, arXiv 1810.01367) is as published for toys: ConcatSquash layers of 64-64-64, tanh, dopri5 at 1e-5 by
torchdiffeq's adjoint, Adam at 1e-3, batches of 100; its rate falls by a cosine here, in its favour. Claim: the default
reaches the KL that this recipe has after ten minutes at least 30 times sooner, and is no worse than zuko's best in
two minutes of one core. Seconds are those that one thread had of a processor, so that a machine shared with others
gives the same curves. A curve is one run, its averaged weights judged by 1,000 held-out rows with the trace of its
training; its dot judges what the run returns by 10,000 others with the exact trace. 50 minutes of one core:
`CNF_DATA=… python -m experiments.time_to_quality`; tables whose files are missing are left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from torch import Tensor

import cnf
from cnf.continuous.solvers import Torchdiffeq
from cnf.data import TOYS, DataError, data_root, split, toy
from cnf.discrete import Standardize
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = ("8gaussians", "checkerboard", "pinwheel", "power_plant", "kin8nm", "power_plant_noise")
    models: tuple[str, ...] = (
        "ffjord", "rnode", "ot_flow", "cnf", "cnf_matching", "cnf_both", "zuko_cnf", "zuko_nsf", "zuko_maf",
        "zuko_realnvp",
    )  # fmt: skip
    seconds: float = 20.0  # of one core
    # These have two minutes on tables, and are alone on the one with noise.
    judged: tuple[str, ...] = ("cnf", "zuko_nsf", "zuko_maf", "zuko_realnvp")
    judged_seconds: float = 120.0
    long: tuple[str, ...] = ("8gaussians", "ffjord")  # the run of ten minutes
    long_seconds: float = 600.0
    short: tuple[float, ...] = (10.0, 15.0)  # budgets of the default there, each a run with its own schedule
    checks: int = 10  # points of a curve: one run, its averaged weights judged by fresh rows
    rows: int = 100_000
    validation_rows: int = 1_000
    test_rows: int = 10_000
    seed: int = 0


PUBLISHED: dict[str, Any] = {
    "batch_size": 100, "learning_rate": 1e-3, "weight_decay": 1e-5, "warmup": 0, "clip": 0.0, "ema": 0.0,
}  # fmt: skip
DISCRETE: dict[str, Any] = {"batch_size": 512, "learning_rate": 2e-3}  # as in `tabular_baselines`
RESOLUTION = 0.01  # of all columns of power_plant


@dataclass(frozen=True)
class Task:
    """Rows, and the exact log-density where there is one."""

    train: Tensor
    validation: Tensor
    test: Tensor
    log_prob: Callable[[Tensor], Tensor] | None = None

    def floor(self, rows: Tensor) -> Tensor:
        """The best NLL there is, `(N,)`; 0 where nobody knows."""
        return rows.new_zeros(len(rows)) if self.log_prob is None else -self.log_prob(rows.double())


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    curves: dict[str, dict[str, Any]] = {}
    for name in config.data:
        try:
            task = task_of(name, config)
        except DataError as error:
            print(f"left out: {error}")
            continue
        models = [model for model in config.models if not name.endswith("_noise") or model in config.judged]
        curves[name] = {model: trained(model, name, task, budget(model, name, config), config) for model in models}
    name, slow = config.long
    results: dict[str, Any] = {"curves": curves}
    if slow in curves.get(name, {}):
        task = task_of(name, config)
        results["short"] = [trained("cnf", name, task, seconds, config) for seconds in config.short]
        results |= speedup(curves[name][slow], [*results["short"], curves[name]["cnf"]])
    return results


def budget(model: str, data: str, config: Config) -> float:
    if (data, model) == tuple(config.long):
        return config.long_seconds
    return config.judged_seconds if data not in TOYS and model in config.judged else config.seconds


def task_of(name: str, config: Config) -> Task:
    if name in TOYS:
        source, draw = toy(name), torch.Generator().manual_seed(config.seed)
        parts = (source.sample(n, generator=draw) for n in (config.rows, config.validation_rows, config.test_rows))
        return Task(*parts, source.log_prob)
    path = data_root() / f"{name.removesuffix('_noise')}.npy"
    if not path.is_file():
        raise DataError(f"{name}: no file {path}")
    x = np.load(path).astype(np.float64)
    if name.endswith("_noise"):
        x = x + RESOLUTION * (np.random.default_rng(config.seed).random(x.shape) - 0.5)
    rows = split(len(x))
    mean, std = x[rows.train].mean(0), x[rows.train].std(0)
    x = torch.tensor((x - mean) / std, dtype=torch.float32)
    return Task(x[rows.train], x[rows.validation], x[rows.test])


def trained(model: str, data: str, task: Task, seconds: float, config: Config) -> dict[str, Any]:
    """One run: its curve over time, and the test of what it returns."""
    torch.manual_seed(config.seed)
    flow, phases, settings = MODELS[model](task.train.shape[1])
    given = cnf.FitConfig(
        seconds=seconds, checks=config.checks, patience=None, seed=config.seed, progress=False, **settings
    )
    with mock.patch.object(time, "perf_counter", time.process_time):
        fitted = cnf.fit(flow, task.train, phases, task.validation, given)
    floor = task.floor(task.validation).mean().item()
    gaps = np.minimum.accumulate([row["validation_nll"] - floor for row in fitted.history])
    loss = mean_and_error(-log_prob_of_rows(flow, task.test).double() - task.floor(task.test))
    print(f"{data} {model}: {loss.mean:.4f} ± {loss.standard_error:.4f} after {fitted.seconds:.0f} s", flush=True)
    return {
        "seconds": [row["seconds"] for row in fitted.history], "validation": gaps.tolist(),
        "budget": seconds, "steps": fitted.steps, "test": loss.mean, "error": loss.standard_error,
    }  # fmt: skip


def speedup(slow: dict[str, Any], fast: list[dict[str, Any]]) -> dict[str, float]:
    """How much sooner the default has the KL that the other recipe ends with."""
    enough = [run["budget"] for run in fast if run["test"] <= slow["test"]]
    return {"kl_slow": slow["test"], "speedup": slow["budget"] / min(enough, default=math.inf)}


class Peer(cnf.Transform):
    """A zuko flow's transform, so that it is trained and judged by the same code."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def encode(self, x: Tensor, context: Tensor | None = None) -> cnf.Mapped:
        if not len(x):  # zuko takes no empty batch
            return cnf.Mapped(x, x.new_zeros(0))
        return cnf.Mapped(*self.flow.transform(context).call_and_ladj(x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> cnf.Mapped:
        return cnf.Mapped(*self.flow.transform(context).inv.call_and_ladj(z))


Model = tuple[cnf.Flow, tuple[cnf.Phase, ...] | None, dict[str, Any]]


def _ffjord(dim: int) -> Model:
    return cnf.build("ffjord", dim, solver=Torchdiffeq("dopri5", 1e-5, 1e-5, adjoint=True)), None, PUBLISHED


def _matching(dim: int) -> Model:
    flow, likelihood = _default(dim)
    return flow, (replace(likelihood, objective=cnf.FlowMatching()),), {}


def _both(dim: int) -> Model:
    """Matching for a third of the time, then the default."""
    flow, likelihood = _default(dim)
    return flow, (replace(likelihood, objective=cnf.FlowMatching()), replace(likelihood, share=2.0)), {}


def _default(dim: int) -> tuple[cnf.Flow, cnf.Phase]:
    flow = cnf.build("cnf", dim)
    return flow, flow.recipe[-1]


def _zuko_cnf(dim: int) -> Model:
    import zuko  # only the peers need it

    return _standardised(zuko.flows.CNF(dim, 0, hidden_features=(64, 64, 64))), None, {"learning_rate": 1e-3}


def _zuko(kind: str, dim: int, **options: Any) -> Model:
    import zuko

    flow = getattr(zuko.flows, kind)(dim, 0, transforms=5, hidden_features=(128, 128), **options)
    return _standardised(flow), None, DISCRETE


def _standardised(peer: Any) -> cnf.Flow:
    dim = peer.base().event_shape[0]
    return cnf.Flow(cnf.Compose([Standardize(dim), Peer(peer)]), cnf.StandardNormal(dim))


MODELS: dict[str, Callable[[int], Model]] = {
    "ffjord": _ffjord,
    "rnode": lambda dim: (cnf.build("rnode", dim), None, {}),
    "ot_flow": lambda dim: (cnf.build("ot_flow", dim), None, {}),
    "cnf": lambda dim: (cnf.build("cnf", dim), None, {}),
    "cnf_matching": _matching,
    "cnf_both": _both,
    "zuko_cnf": _zuko_cnf,
    "zuko_nsf": lambda dim: _zuko("NSF", dim, bins=8),
    "zuko_maf": lambda dim: _zuko("MAF", dim),
    "zuko_realnvp": lambda dim: _zuko("RealNVP", dim),
}

LABELS = {
    "ffjord": "FFJORD as published", "rnode": "RNODE", "ot_flow": "OT-Flow", "cnf": "cnf (default: likelihood)",
    "cnf_matching": "cnf by matching", "cnf_both": "cnf by both", "zuko_cnf": "zuko CNF", "zuko_nsf": "zuko NSF",
    "zuko_maf": "zuko MAF", "zuko_realnvp": "zuko RealNVP",
}  # fmt: skip

COLOURS = {
    "ffjord": "tab:red", "rnode": "tab:orange", "ot_flow": "tab:olive", "cnf": "tab:blue",
    "cnf_matching": "tab:cyan", "cnf_both": "tab:purple", "zuko_cnf": "tab:brown", "zuko_nsf": "tab:green",
    "zuko_maf": "0.35", "zuko_realnvp": "tab:pink",
}  # fmt: skip


def figure(results: dict[str, Any]) -> Figure:
    curves = {name: runs for name, runs in results["seeds"][0]["curves"].items() if not name.endswith("_noise")}
    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    picture = Figure(figsize=(max(9.0, 3.7 * columns), 3.4 * rows + 0.6), layout="constrained")
    panels = picture.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, runs) in zip(panels, curves.items(), strict=False):
        for model, one in runs.items():
            ours = model == "cnf"
            (line,) = axes.plot(
                one["seconds"], one["validation"], color=COLOURS[model], label=LABELS[model],
                linewidth=2.5 if ours else 1.3, zorder=3 if ours else 2,
            )  # fmt: skip
            axes.plot(one["seconds"][-1], one["test"], "o", color=line.get_color(), markersize=5, zorder=4)
        table = name not in TOYS
        axes.set(xscale="log", title=name, xlabel="seconds of one core")
        axes.set_ylabel("held-out NLL, nats" if table else "KL(data ‖ model), nats")
        if table:
            _cut(axes, runs)
        else:
            axes.set(yscale="log", ylim=(None, 1.7 * max(one["test"] for one in runs.values())))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(curves) :]:
        axes.axis("off")
    known = {line.get_label(): line for axes in panels for line in axes.get_lines() if line.get_label()[0] != "_"}
    picture.legend(known.values(), known.keys(), frameon=False, loc="outside lower center", ncols=5)
    return picture


def _cut(axes: Axes, runs: dict[str, Any]) -> None:
    """Leave out the first steps of all: what matters is who ends where."""
    best = min(min(one["test"], *one["validation"]) for one in runs.values())
    last = max(one["test"] for one in runs.values())
    axes.set_ylim(best - 0.05 * (last - best) - 0.02, last + 0.3 * (last - best) + 0.02)


if __name__ == "__main__":
    run(
        "time_to_quality", Config(), compute, figure,
        {
            "data": ("8gaussians",), "seconds": 0.5, "long_seconds": 0.5, "short": (0.5,), "checks": 2, "rows": 2_000,
            "validation_rows": 100, "test_rows": 100,
        },
    )  # fmt: skip
