"""Seconds of a training step, an evaluation and a sampling beside those of every peer, on the very same work.

One tanh MLP of `[x, t]` with the same weights for all, rows and probes the same, [0, 1], dopri5 at 1e-5, float32, two
threads; repetitions interleaved (A B C A B C …), ratios taken within a round. FFJORD's recipe (Grathwohl et al. 2019,
arXiv 1810.01367) is written here from its formulas on torchdiffeq. Expect a training step 3 times as fast as zuko's on
toy2d, 2 on tab8, 1.8 on tab43 and 20 on exact43, and NLL and gradient norm of all the same. 12 minutes on two cores,
a third of them compiling. Diffrax needs an interpreter that has it: `CNF_JAX=…/bin/python`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from torch import Tensor, nn
from torch.autograd import grad
from tqdm import tqdm

import cnf
from cnf.plotting import BLUE, INK, VERMILION
from experiments.run import run


@dataclass(frozen=True)
class Case:
    dim: int
    hidden: tuple[int, ...]
    batch: int
    exact: bool = True
    peers_exact: bool = True


CASES = {
    "toy2d": Case(2, (64, 64, 64), 512),
    "tab8": Case(8, (128, 128, 128), 512),
    "tab43": Case(43, (256, 256, 256), 512, exact=False, peers_exact=False),
    "exact43": Case(43, (256, 256), 512),
    "exact784": Case(784, (1024, 1024), 200, peers_exact=False),
}
TASKS = ("train", "evaluate", "sample")
TITLES = {"train": "training step", "evaluate": "evaluation", "sample": "sampling"}


@dataclass(frozen=True)
class Config:
    cases: tuple[str, ...] = tuple(CASES)
    rounds: int = 15
    patience: float = 10.0  # seconds of one task after which three rounds are enough
    tolerance: float = 1e-5
    threads: int = 2
    jax: str = ""  # an interpreter with diffrax; the environment's CNF_JAX by default
    memory: bool = True
    seed: int = 0


class Skipped(Exception):
    """A competitor that cannot do a case, with the reason."""


# The work.


class Network(nn.Module):
    """The field as peers are given it; it counts its calls."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers, self.calls = layers, 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        h = torch.cat([x, t.expand(len(x), 1)], 1)
        for layer in self.layers[:-1]:
            h = layer(h).tanh()
        velocity: Tensor = self.layers[-1](h)
        return velocity


class Problem:
    """What all competitors are given; `probe` is None where the trace is to be exact."""

    def __init__(self, config: Config, case: Case, *, exact: bool) -> None:
        self.config, self.case = config, case
        self.tolerances = {"rtol": config.tolerance, "atol": config.tolerance}
        torch.manual_seed(config.seed)
        self.field = cnf.MLPField(case.dim, hidden=case.hidden, activation="tanh")
        for layer in self.field.layers:
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -1.6 / layer.in_features**0.5, 1.6 / layer.in_features**0.5)
        self.network = Network(self.field.layers)
        self.x, self.z = torch.randn(2, case.batch, case.dim)
        self.divergence = cnf.Exact() if exact else cnf.Hutchinson()
        torch.manual_seed(config.seed)  # as before every solve, so that ours draws the same
        probe = self.divergence.probe(self.x)
        self.probe = None if probe is None else probe[0]


def log_normal(z: Tensor) -> Tensor:
    return -0.5 * (z.square().sum(1) + z.shape[1] * np.log(2 * np.pi))


class Runner(Protocol):
    def __call__(self, task: str) -> dict[str, float]: ...


@dataclass
class Local:
    """A competitor in this process, by its log-density of the problem's rows and its samples."""

    problem: Problem
    log_prob: Callable[[], Tensor]
    sample: Callable[[], Tensor]
    trains: bool = True

    def __call__(self, task: str) -> dict[str, float]:
        if task == "train" and not self.trains:
            raise Skipped("it keeps no gradient of the divergence")
        network = self.problem.network
        network.zero_grad()
        network.calls = 0
        torch.manual_seed(self.problem.config.seed)
        with cnf.count_evaluations() as count:
            begun = time.perf_counter()
            value = getattr(self, f"_{task}")()
            seconds = time.perf_counter() - begun
        outcome = {"seconds": seconds, "evaluations": network.calls + count.evaluations, "accepted": count.accepted}
        if task != "sample":
            outcome["nll"] = value.item()
        if task == "train":
            outcome["gradient_norm"] = sum(p.grad.square().sum().item() for p in network.parameters()) ** 0.5
        return outcome

    def _train(self) -> Tensor:
        loss = -self.log_prob().mean()
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _evaluate(self) -> Tensor:
        return -self.log_prob().mean()

    @torch.no_grad()
    def _sample(self) -> Tensor:
        return self.sample()


# The competitors: each makes a runner of a problem.


def ours(problem: Problem, **settings: Any) -> Local:
    solver = cnf.RungeKutta("dopri5", **problem.tolerances, **settings)
    transform = cnf.CNF(problem.field, problem.divergence, solver=solver)
    flow = cnf.Flow(transform, cnf.StandardNormal((problem.case.dim,)))
    return Local(problem, lambda: flow.log_prob(problem.x), lambda: transform.push(problem.z))


def ours_compiled(problem: Problem) -> Local:
    if "compile" not in {entry.name for entry in fields(cnf.RungeKutta)}:
        raise Skipped("RungeKutta has no compile")
    return ours(problem, compile=True)


def divergence(velocity: Tensor, x: Tensor, probe: Tensor | None, *, create_graph: bool) -> Tensor:
    """In reverse mode: a vector product, or one for each dimension."""
    if probe is not None:
        return (grad(velocity, x, probe, create_graph=create_graph)[0] * probe).sum(1)
    rows = (grad(v.sum(), x, create_graph=create_graph, retain_graph=True)[0] for v in velocity.unbind(1))
    return torch.stack([row[:, i] for i, row in enumerate(rows)]).sum(0)


class Augmented(nn.Module):
    """FFJORD's right-hand side, `(f, tr ∂f/∂x)`; it keeps a graph of the trace only where gradients are wanted."""

    def __init__(self, network: Network, probe: Tensor | None) -> None:
        super().__init__()
        self.network, self.probe = network, probe

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, wanted = state[0], torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            velocity = self.network(t, x)
            trace = divergence(velocity, x, self.probe, create_graph=wanted)
        return (velocity, trace) if wanted else (velocity.detach(), trace.detach())


def recipe(problem: Problem, name: str) -> Local:
    """FFJORD's recipe on torchdiffeq's `odeint_adjoint` or `odeint`."""
    import torchdiffeq

    solve, right = getattr(torchdiffeq, name), Augmented(problem.network, problem.probe)
    backward, forward = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

    def log_prob() -> Tensor:
        state = (problem.x, torch.zeros(len(problem.x)))
        z, log_det = solve(right, state, backward, method="dopri5", **problem.tolerances)
        return log_normal(z[-1]) + log_det[-1]

    def sample() -> Tensor:
        x: Tensor = torchdiffeq.odeint(problem.network, problem.z, forward, method="dopri5", **problem.tolerances)[-1]
        return x

    return Local(problem, log_prob, sample)


def zuko(problem: Problem) -> Local:
    from zuko.transforms import FreeFormJacobianTransform as Transform

    settings: dict[str, Any] = {"phi": list(problem.network.parameters()), "exact": problem.probe is None}
    settings |= problem.tolerances

    def log_prob() -> Tensor:
        with mock.patch.object(torch, "randn_like", return_value=problem.probe):  # its probe is normal
            z, log_det = Transform(problem.network, 1.0, 0.0, **settings).call_and_ladj(problem.x)
        return log_normal(z) + log_det

    return Local(problem, log_prob, lambda: Transform(problem.network, 0.0, 1.0, **settings)(problem.z))


def flow_matching(problem: Problem) -> Local:
    from flow_matching.solver import ODESolver

    solver = ODESolver(lambda x, t: problem.network(t, x))
    settings: dict[str, Any] = {"step_size": None, "method": "dopri5", **problem.tolerances}

    def log_prob() -> Tensor:
        x, exact = problem.x.clone(), problem.probe is None
        below = None if exact else -problem.probe  # of its normal noise it takes `< 0`
        with mock.patch.object(torch, "randn_like", return_value=below):
            log_p: Tensor = solver.compute_likelihood(x, log_normal, exact_divergence=exact, **settings)[1]
        return log_p

    return Local(problem, log_prob, lambda: solver.sample(x_init=problem.z, **settings), trains=False)


class OfState(nn.Module):
    """The network as torchdyn calls it, which leaves the time in `t`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, self.t = network, torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        velocity: Tensor = self.network(self.t, x)
        return velocity


def torchdyn(problem: Problem) -> Local:
    from torchdyn.core import NeuralODE
    from torchdyn.models import CNF, autograd_trace, hutch_trace

    net, noise = OfState(problem.network), mock.Mock()
    noise.sample = lambda _: problem.probe
    traced = CNF(net, *((autograd_trace,) if problem.probe is None else (hutch_trace, noise)))
    settings: dict[str, Any] = {"solver": "dopri5", "return_t_eval": False, **problem.tolerances}
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it wraps them
        density, plain = NeuralODE(traced, **settings), NeuralODE(net, **settings)
    backward, forward = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

    def log_prob() -> Tensor:
        state = density(torch.cat([torch.zeros(len(problem.x), 1), problem.x], 1), backward)[-1]
        return log_normal(state[:, 1:]) - state[:, 0]

    return Local(problem, log_prob, lambda: plain(problem.z, forward)[-1])


class Diffrax:
    """A process of another interpreter that does what it is told, line by line."""

    def __init__(self, problem: Problem) -> None:
        python = problem.config.jax or os.environ.get("CNF_JAX", "")
        if not python:
            raise Skipped("give an interpreter that has diffrax: CNF_JAX=…/bin/python")
        arrays: dict[str, Any] = {"x": problem.x, "z": problem.z, "tolerance": problem.config.tolerance}
        for i, layer in enumerate(problem.network.layers):
            arrays |= {f"weight{i}": layer.weight.detach(), f"bias{i}": layer.bias.detach()}
        if problem.probe is not None:
            arrays["probe"] = problem.probe
        path = Path(tempfile.mkdtemp()) / "problem.npz"
        np.savez(path, **arrays)
        command = [python, str(Path(__file__).with_name("diffrax_peer.py")), str(path), str(problem.config.threads)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def __call__(self, task: str) -> dict[str, float]:
        assert self.process.stdin
        assert self.process.stdout
        print(task, file=self.process.stdin, flush=True)
        answer: dict[str, float] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate()


class Floor:
    """Nothing but the matrix products of our own evaluations.

    An evaluation takes the products `(N, H) (H, H')` of all layers, and for the trace those between hidden layers
    with k times the columns: k is 1 for a probe, whose products with the outer layers are the same all the time, and
    for the closed form of two hidden layers, which is one product; it is D for the exact trace of three, as much as D
    tangents take. A gradient takes two more products for each one of the accepted steps; rejected ones have none.
    """

    def __init__(self, problem: Problem, ours: Runner) -> None:
        case, layers = problem.case, problem.network.layers
        tangents = 1 if problem.probe is not None or len(case.hidden) <= 2 else case.dim
        value = [(case.batch, layer.in_features, layer.out_features) for layer in layers]
        trace = [(rows, inputs, tangents * outputs) for rows, inputs, outputs in value[1:-1]]
        self.shapes = {"train": value + trace, "evaluate": value + trace, "sample": value}
        self.ours = {task: ours(task) for task in TASKS}

    def __call__(self, task: str) -> dict[str, float]:
        evaluations = int(self.ours[task]["evaluations"])
        backward = 1 + 6 * int(self.ours[task]["accepted"]) if task == "train" else 0
        products = [product for shape in self.shapes[task] for product in self._products(shape)]
        passes = [(products[::3], evaluations), (products[1::3] + products[2::3], backward)]
        begun = time.perf_counter()
        for group, times in passes:
            for _ in range(times):
                for a, b, out in group:
                    torch.mm(a, b, out=out)
        return {"seconds": time.perf_counter() - begun, "evaluations": evaluations}

    def _products(self, shape: tuple[int, int, int]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """That of a layer, and the two of its gradients."""
        rows, inputs, outputs = shape
        h, weight, out = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
        return [(h, weight.mT, out), (out, weight, torch.empty_like(h)), (out.mT, h, torch.empty_like(weight))]


Prepare = Callable[[Problem], Runner]
PEERS: dict[str, Prepare] = {
    "FFJORD's recipe": lambda problem: recipe(problem, "odeint_adjoint"),
    "its backprop": lambda problem: recipe(problem, "odeint"),
    "zuko": zuko,
    "torchdyn": torchdyn,
    "flow_matching": flow_matching,
    "diffrax": Diffrax,
}
OURS: dict[str, Prepare] = {"cnf": ours, "cnf (compiled)": ours_compiled}


# Measuring.


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    panels: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for case in config.cases:
        panels[case] = measured(config, case)
        print(table(case, panels[case]), flush=True)
        for name, row in panels[case].items():
            for task, ours in itertools.product(TASKS, OURS):
                if ours in row.get(task, {}).get("ratios", {}):
                    numbers[f"{case}, {task}: {name} ÷ {ours}"] = row[task]["ratios"][ours][1]
    return {"cases": panels, **numbers}


def measured(config: Config, name: str) -> dict[str, Any]:
    """Of each competitor: of each task its seconds, its ratio to ours, its numbers; or why it was left out."""
    case = CASES[name]
    runners, rows = prepared(config, case)
    for task in TASKS:
        able = {}
        for rival, runner in runners.items():
            try:
                rows[rival][task] = runner(task)
                if rows[rival][task]["seconds"] < 1:  # warm by now, and caches with it
                    rows[rival][task] |= runner(task)
                able[rival] = runner
            except Skipped as reason:
                rows[rival]["skipped"] = f"{task}: {reason}"
        rounds: list[dict[str, float]] = []
        begun = time.perf_counter()
        for _ in tqdm(range(config.rounds), desc=f"{name}, {task}"):
            if len(rounds) < 3 or time.perf_counter() - begun < config.patience:
                rounds.append({rival: runner(task)["seconds"] for rival, runner in able.items()})
        for rival in able:
            rows[rival][task] |= compared(rounds, rival)
    if config.memory:
        for rival, runner in runners.items():
            if isinstance(runner, Local) and runner.trains:
                rows[rival]["train"]["megabytes"] = peak_megabytes(lambda: runner("train"))  # noqa: B023
    for runner in runners.values():
        if isinstance(runner, Diffrax):
            runner.close()
    return rows


def prepared(config: Config, case: Case) -> tuple[dict[str, Runner], dict[str, Any]]:
    problem, theirs = (Problem(config, case, exact=exact) for exact in (case.exact, case.peers_exact))
    competitors = [(name, prepare, problem) for name, prepare in OURS.items()]
    if case.exact != case.peers_exact:
        competitors.append(("cnf (probe)", ours, theirs))
    competitors += [(name, prepare, theirs) for name, prepare in PEERS.items()]
    runners: dict[str, Runner] = {}
    rows: dict[str, Any] = {}
    for name, prepare, given in competitors:
        rows[name] = {}
        try:
            runners[name] = prepare(given)
        except (Skipped, ImportError) as reason:
            rows[name]["skipped"] = str(reason)
    runners["matrix products"], rows["matrix products"] = Floor(problem, runners["cnf"]), {}
    return runners, rows


def compared(rounds: Sequence[dict[str, float]], name: str) -> dict[str, Any]:
    """Quantiles (10, 50, 90 per cent) of its milliseconds, and of its ratios to ours within rounds."""

    def quantiles(values: Sequence[float]) -> list[float]:
        return [float(f"{value:.4g}") for value in np.quantile(values, [0.1, 0.5, 0.9])]

    ratios = {ours: quantiles([each[name] / each[ours] for each in rounds]) for ours in OURS if ours in rounds[0]}
    return {"milliseconds": quantiles([1e3 * each[name] for each in rounds]), "ratios": ratios}


def peak_megabytes(function: Callable[[], object]) -> float:
    """The most that tensors held at once, above what they held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return float(f"{max(changes.max(initial=0), 0) / 2**20:.4g}")


def table(case: str, rows: dict[str, Any]) -> str:
    """A line for each competitor: milliseconds, their ratios to ours (plain, compiled), and proof of equal work."""
    titles = "".join(f"{TITLES[task] + ', ms':>17}{'÷ cnf':>8}{'÷ comp.':>8}" for task in TASKS)
    lines = [f"\n{case:16}{titles}{'NLL':>11}{'|gradient|':>11}{'evaluations':>13}{'MB':>7}"]
    for name, row in rows.items():
        cells = [f"{name:16}"]
        for task in TASKS:
            part = row.get(task, {})
            cells.append(f"{part['milliseconds'][1]:17.1f}" if "milliseconds" in part else f"{'–':>17}")
            ratios = part.get("ratios", {})
            cells += [f"{ratios[ours][1]:8.2f}" if ours in ratios else " " * 8 for ours in OURS]
        best = row.get("train", row.get("evaluate", {}))
        cells += [f"{best[key]:11.5f}" if key in best else " " * 11 for key in ("nll", "gradient_norm")]
        counts = "/".join(f"{row[task]['evaluations']:.0f}" for task in TASKS if task in row)
        cells.append(f"{counts:>13}" + (f"{best['megabytes']:7.1f}" if "megabytes" in best else " " * 7))
        lines.append("".join(cells) + (f"  ({row['skipped']})" if "skipped" in row else ""))
    return "\n".join(lines)


# The picture.

TARGETS = {  # peer ÷ ours to reach, on two cores
    "train": {
        "zuko": {"toy2d": 3, "tab8": 2, "tab43": 1.8, "exact43": 20},
        "FFJORD's recipe": {"toy2d": 5, "tab8": 2.5, "tab43": 3, "exact43": 20, "exact784": 1},
        "diffrax": {"toy2d": 2.5, "tab8": 2, "tab43": 2.5},
        "matrix products": {"toy2d": 1 / 2.5, "tab8": 1 / 1.5, "tab43": 1 / 1.5, "exact43": 1 / 1.5},
    },
    "evaluate": {
        "zuko": {"toy2d": 2.5, "tab8": 3, "tab43": 1.8, "exact43": 20},
        "matrix products": {"toy2d": 1 / 2.5, "tab8": 1 / 1.5, "tab43": 1 / 1.5, "exact43": 1 / 1.5},
    },
    "sample": {"matrix products": dict.fromkeys(CASES, 1 / 1.5)},
}


COLOURS = {"cnf": INK, "cnf (compiled)": BLUE}


def figure(results: dict[str, Any]) -> Figure:
    panels = results["seeds"][0]["cases"]
    places = [
        (case, name)
        for case, rows in panels.items()
        for name in ("", *(name for name, row in rows.items() if name not in OURS and set(row) & set(TASKS)))
    ]
    picture = Figure(figsize=(9.5, 1.1 + 0.15 * len(places)), layout="constrained")
    for axes, task in zip(picture.subplots(1, 3, sharey=True), TASKS, strict=True):
        for y, (case, name) in enumerate(places):
            draw(axes, panels[case].get(name, {}).get(task, {}), TARGETS[task].get(name, {}).get(case), y)
        dress(axes, TITLES[task])
    left = picture.axes[0]
    left.set_ylim(len(places) - 0.4, -0.8)
    left.set_yticks(range(len(places)), [name or headline(case) for case, name in places], fontsize=7)
    for label, (_, name) in zip(left.get_yticklabels(), places, strict=True):
        label.set_weight("normal" if name else "bold")
    shown = [ours for ours in OURS if any(ours in rows and "train" in rows[ours] for rows in panels.values())]
    handles = [Line2D([], [], color=COLOURS[ours], marker="o", ms=4, label=f"÷ {ours}") for ours in shown]
    handles.append(Line2D([], [], color=VERMILION, marker="|", ls="", ms=8, mew=1.6, label="aim"))
    picture.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return picture


def headline(case: str) -> str:
    sizes = CASES[case]
    return f"{case}: D = {sizes.dim}, {len(sizes.hidden)} × {sizes.hidden[0]}"


def draw(axes: Any, row: dict[str, Any], target: float | None, y: float) -> None:
    """The medians of the ratios with the middle 80 per cent, and what was aimed at."""
    for shift, (ours, (low, middle, high)) in enumerate(row.get("ratios", {}).items()):
        place = y + 0.3 * shift - 0.15 * (len(row["ratios"]) - 1)
        axes.plot([low, high], [place, place], color=COLOURS[ours], lw=1)
        axes.plot(middle, place, "o", color=COLOURS[ours], ms=3.5)
    if target is not None:
        axes.plot(target, y, "|", color=VERMILION, ms=9, mew=1.6)


def dress(axes: Any, title: str) -> None:
    axes.axvline(1, color="0.5", lw=1)
    axes.set(xscale="log", xlabel="their time ÷ ours")
    low, high = axes.get_xlim()
    axes.set(title=title, xlim=(min(low, 0.25), max(high, 4)))
    axes.title.set_fontsize(10)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)


if __name__ == "__main__":
    run(
        "benchmark_speed", Config(), compute, figure,
        {"cases": ("toy2d",), "rounds": 2, "threads": 1},
    )  # fmt: skip
