"""Competitors timed in turns on the same work, and what they show to be equal work."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import cnf
from experiments.parts.work import Competitor, Problem, Skipped

TASKS = ("train", "evaluate", "sample")


class Runner(Protocol):
    def __call__(self, task: str) -> dict[str, float]: ...


class Local:
    """A competitor in this process."""

    def __init__(self, problem: Problem, competitor: Competitor) -> None:
        self.problem, self.competitor = problem, competitor

    def __call__(self, task: str) -> dict[str, float]:
        if task == "train" and not self.competitor.trains:
            raise Skipped("it keeps no gradient of the divergence")
        network = self.problem.network
        network.zero_grad()
        network.calls = 0
        torch.manual_seed(self.problem.seed)
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
        loss = -self.competitor.log_prob().mean()
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _evaluate(self) -> Tensor:
        return -self.competitor.log_prob().mean()

    @torch.no_grad()
    def _sample(self) -> Tensor:
        return self.competitor.sample()


class Diffrax:
    """A process of another interpreter that does what it is told, line by line."""

    def __init__(self, problem: Problem, python: str) -> None:
        python = python or os.environ.get("CNF_JAX", "")
        if not python:
            raise Skipped("give an interpreter that has diffrax: CNF_JAX=…/bin/python")
        arrays: dict[str, Any] = {"x": problem.x, "z": problem.z, "tolerance": problem.tolerances["rtol"]}
        for i, layer in enumerate(problem.network.layers):
            arrays |= {f"weight{i}": layer.weight.detach(), f"bias{i}": layer.bias.detach()}
        if problem.probe is not None:
            arrays["probe"] = problem.probe
        path = Path(tempfile.mkdtemp()) / "problem.npz"
        np.savez(path, **arrays)
        command = [python, str(Path(__file__).with_name("diffrax_process.py")), str(path), str(torch.get_num_threads())]
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


def warmed(task: str, runners: dict[str, Runner], rows: dict[str, Any]) -> dict[str, Runner]:
    """Those that can do a task, after one run of it; `rows` get its numbers, or the reason why not."""
    able = {}
    for rival, runner in runners.items():
        try:
            rows[rival][task] = runner(task)
            if rows[rival][task]["seconds"] < 1:  # warm by now, and caches with it
                rows[rival][task] |= runner(task)
            able[rival] = runner
        except Skipped as reason:
            rows[rival]["skipped"] = f"{task}: {reason}"
    return able


def interleaved(label: str, task: str, able: dict[str, Runner], rounds: int, patience: float) -> list[dict[str, float]]:
    """Seconds of each in every round (A B C A B C …); after `patience` seconds three rounds are enough."""
    found: list[dict[str, float]] = []
    begun = time.perf_counter()
    for _ in tqdm(range(rounds), desc=f"{label}, {task}"):
        if len(found) < 3 or time.perf_counter() - begun < patience:
            found.append({rival: runner(task)["seconds"] for rival, runner in able.items()})
    return found


def compared(rounds: Sequence[dict[str, float]], name: str, ours: Sequence[str]) -> dict[str, Any]:
    """Quantiles (10, 50, 90 per cent) of its milliseconds, and of its ratios to ours within rounds."""

    def quantiles(values: Sequence[float]) -> list[float]:
        return [float(f"{value:.4g}") for value in np.quantile(values, [0.1, 0.5, 0.9])]

    ratios = {each: quantiles([row[name] / row[each] for row in rounds]) for each in ours if each in rounds[0]}
    return {"milliseconds": quantiles([1e3 * row[name] for row in rounds]), "ratios": ratios}
