"""Seconds of a training step against dimension, batch and width, and what the closed form of the trace costs.

A CNF of two hidden layers has its exact trace for one more product of hidden width. Onken et al. 2021 (arXiv
2006.00104) make the point for their potential, here it is a plain MLP: `[x, t]`, tanh, dopri5 at 1e-5, loss and
backward; zuko and FFJORD's recipe (arXiv 1810.01367) on torchdiffeq get the very same weights and rows. Claim: an
exact step of ours grows like the field, that of reverse mode D times as fast; per evaluation the trace costs at most
1.8 times the field alone at D = 43, H = 256, and 1.5 times at D = 784, H = 1024. 6 minutes on two cores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor, nn
from torch.autograd import grad
from tqdm import tqdm

import cnf
from cnf.plotting import BLUE, GREY, INK, VERMILION
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


Step = Callable[[], Tensor]  # the mean NLL of a batch, with its graph


def made(config: Config, dim: int, width: int, batch: int) -> tuple[cnf.MLPField, Tensor]:
    """A field with weights uniform in ±1.6/√fan_in, and rows."""
    torch.manual_seed(config.seed)
    field = cnf.MLPField(dim, hidden=(width, width), activation="tanh")
    for layer in field.layers:
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -1.6 / layer.in_features**0.5, 1.6 / layer.in_features**0.5)
    return field, torch.randn(batch, dim)


def ours(config: Config, field: cnf.MLPField, x: Tensor, *, exact: bool) -> Step:
    solver = cnf.RungeKutta("dopri5", config.tolerance, config.tolerance)
    transform = cnf.CNF(field, cnf.Exact() if exact else cnf.Hutchinson(), solver=solver)
    flow = cnf.Flow(transform, cnf.StandardNormal((x.shape[1],)))
    return lambda: -flow.log_prob(x).mean()


def velocity(field: cnf.MLPField, t: Tensor, x: Tensor) -> Tensor:
    """The field as peers see it."""
    h = torch.cat([x, t.expand(len(x), 1)], 1)
    for layer in field.layers[:-1]:
        h = layer(h).tanh()
    last: Tensor = field.layers[-1](h)
    return last


def zuko(config: Config, field: cnf.MLPField, x: Tensor, *, exact: bool) -> Step:
    from zuko.transforms import FreeFormJacobianTransform

    transform = FreeFormJacobianTransform(
        lambda t, x: velocity(field, t, x), 1.0, 0.0, field.parameters(),
        atol=config.tolerance, rtol=config.tolerance, exact=exact,
    )  # fmt: skip

    def nll() -> Tensor:
        z, log_det = transform.call_and_ladj(x)
        return -(cnf.StandardNormal((x.shape[1],)).log_prob(z) + log_det).mean()

    return nll


class Augmented(nn.Module):
    """FFJORD's right-hand side: the trace in reverse mode, a product for each dimension or one with a probe."""

    def __init__(self, field: cnf.MLPField, probe: Tensor | None) -> None:
        super().__init__()
        self.field, self.probe = field, probe

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            x = state[0] if state[0].requires_grad else state[0].detach().requires_grad_()
            v = velocity(self.field, t, x)
            if self.probe is not None:
                trace = (grad(v, x, self.probe, create_graph=create)[0] * self.probe).sum(1)
            else:
                rows = (grad(part.sum(), x, create_graph=create, retain_graph=True)[0] for part in v.unbind(1))
                trace = torch.stack([row[:, i] for i, row in enumerate(rows)]).sum(0)
        return (v, trace) if create else (v.detach(), trace.detach())


def recipe(config: Config, field: cnf.MLPField, x: Tensor, *, exact: bool) -> Step:
    from torchdiffeq import odeint_adjoint

    right = Augmented(field, None if exact else torch.randint(0, 2, x.shape).to(x) * 2 - 1)
    times, tolerances = torch.tensor([1.0, 0.0]), {"rtol": config.tolerance, "atol": config.tolerance}

    def nll() -> Tensor:
        z, log_det = odeint_adjoint(right, (x, torch.zeros(len(x))), times, method="dopri5", **tolerances)
        return -(cnf.StandardNormal((x.shape[1],)).log_prob(z[-1]) + log_det[-1]).mean()

    return nll


LIBRARIES: dict[str, Callable[..., Step]] = {"cnf": ours, "zuko": zuko, "FFJORD's recipe": recipe}
KINDS = {"exact": True, "one probe": False}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    sweeps = {
        "dimension D": [(dim, (dim, config.width, config.batch)) for dim in config.dims],
        "batch": [(batch, (config.dim, config.width, batch)) for batch in config.batches],
        "width H": [(width, (config.dim, width, config.batch)) for width in config.widths],
    }
    curves = {name: sweep(config, name, points) for name, points in sweeps.items()}
    costs = [cost(config, *sizes) for sizes in tqdm(config.evaluations, desc="evaluations")]
    numbers = {f"trace ÷ field, {entry['sizes']}": entry["closed form"][1] for entry in costs}
    return {"curves": curves, "costs": costs, **numbers}


def sweep(config: Config, name: str, points: Sequence[tuple[int, tuple[int, int, int]]]) -> dict[str, Any]:
    """Of each library and kind: the sizes it did, and of its milliseconds the quartiles."""
    curves: dict[str, Any] = {f"{library}, {kind}": {"x": [], "ms": []} for library in LIBRARIES for kind in KINDS}
    slow: set[str] = set()
    for size, sizes in tqdm(points, desc=name):
        field, x = made(config, *sizes)
        steps = {
            f"{library}, {kind}": prepare(config, field, x, exact=exact)
            for (library, prepare), (kind, exact) in itertools.product(LIBRARIES.items(), KINDS.items())
        }
        steps = {label: step for label, step in steps.items() if label not in slow}
        first = {label: seconds(step, field) for label, step in steps.items()}
        slow |= {label for label, time in first.items() if time > config.limit}
        rounds = [
            {label: seconds(step, field) for label, step in steps.items() if label not in slow}
            for _ in range(config.rounds)
        ]
        for label in steps:  # a slow step has its first time only
            curves[label]["x"].append(size)
            curves[label]["ms"].append(quantiles([1e3 * each.get(label, first[label]) for each in rounds]))
    return curves


def seconds(step: Step, field: nn.Module) -> float:
    field.zero_grad()
    begun = time.perf_counter()
    step().backward()
    return time.perf_counter() - begun


def quantiles(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in np.quantile(values, [0.25, 0.5, 0.75])]


def cost(config: Config, dim: int, width: int, batch: int) -> dict[str, Any]:
    """An evaluation of velocity and trace, forward and backward, divided by one of the velocity alone."""
    field, x = made(config, dim, width, batch)
    x.requires_grad_()
    t = torch.tensor(0.5)

    def alone() -> list[Tensor]:
        prepared = field.prepare()
        return [field.velocity(t, x, None, prepared).sum() for _ in range(config.repeated)]

    def with_trace(divergence: cnf.Divergence) -> list[Tensor]:
        probe = divergence.probe(x)
        prepared = divergence.prepare(field, None, probe)
        at = [field.linearize(t, x, None, prepared) for _ in range(config.repeated)]
        return [each.velocity.sum() + divergence(each, probe).sum() for each in at]

    kinds: dict[str, Step] = {
        "field alone": lambda: torch.stack(alone()).sum(),
        "closed form": lambda: torch.stack(with_trace(cnf.Exact())).sum(),
        "one probe": lambda: torch.stack(with_trace(cnf.Hutchinson())).sum(),
    }
    rounds = [{name: seconds(step, field) for name, step in kinds.items()} for _ in range(10 * config.rounds)]
    ratios = {name: quantiles([each[name] / each["field alone"] for each in rounds[2:]]) for name in kinds}
    milliseconds = 1e3 * np.median([each["field alone"] for each in rounds[2:]]) / config.repeated
    return {"sizes": f"D = {dim}, H = {width}", "field alone, ms": float(f"{milliseconds:.3g}"), **ratios}


COLOURS = {"cnf": BLUE, "zuko": VERMILION, "FFJORD's recipe": GREY}


def figure(results: dict[str, Any]) -> Figure:
    numbers = results["seeds"][0]
    picture = Figure(figsize=(11, 3.2), layout="constrained")
    *panels, last = picture.subplots(1, 4, width_ratios=[1.3, 1, 1, 1])
    for axes, (name, curves) in zip(panels, numbers["curves"].items(), strict=True):
        for label, curve in curves.items():
            library, kind = label.split(", ")
            low, middle, high = np.array(curve["ms"]).reshape(-1, 3).T
            style = {"color": COLOURS[library], "ls": "-" if kind == "exact" else (0, (2, 1.5))}
            axes.plot(curve["x"], middle, "o", ms=3, lw=1.3, label=label, **style)
            axes.fill_between(curve["x"], low, high, color=COLOURS[library], alpha=0.15, lw=0)
        axes.set(xscale="log", yscale="log", xlabel=name)
        axes.set_title(held(results["config"], name), fontsize=9)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].set_ylabel("ms a training step")
    costs(last, numbers["costs"])
    for axes in (*panels, last):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return picture


def held(config: dict[str, Any], swept: str) -> str:
    """What is the same along a curve."""
    sizes = {"dimension D": f"D = {config['dim']}", "width H": f"H = {config['width']}"}
    sizes["batch"] = f"batch {config['batch']}"
    return ", ".join(text for name, text in sizes.items() if name != swept)


def costs(axes: Any, entries: Sequence[dict[str, Any]]) -> None:
    """Bars of the cost of an evaluation, in units of the field alone."""
    colours = {"field alone": "0.8", "closed form": BLUE, "one probe": INK}
    for place, entry in enumerate(entries):
        for shift, (name, color) in enumerate(colours.items()):
            low, middle, high = entry[name]
            x = place + 0.27 * (shift - 1)
            axes.bar(x, middle, 0.24, color=color, label=None if place else name)
            axes.errorbar(x, middle, [[middle - low], [high - middle]], color="0.3", lw=0.8, capsize=1.5)
            axes.text(x, high + 0.04, f"{middle:.2f}", ha="center", fontsize=7)
    axes.set_xticks(range(len(entries)), [entry["sizes"].replace(", ", "\n") for entry in entries])
    axes.set(ylabel="an evaluation ÷ field alone", ylim=(0, 3.6))
    axes.legend(frameon=False, fontsize=8, loc="upper right")


if __name__ == "__main__":
    run(
        "growth", Config(), compute, figure,
        {
            "dims": (2, 4), "batches": (16, 32), "widths": (8, 16), "dim": 3, "batch": 16, "width": 8, "rounds": 1,
            "evaluations": ((3, 8, 16),),
        },
    )  # fmt: skip
