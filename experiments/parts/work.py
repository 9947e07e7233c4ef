"""The same work for every library: a tanh network of `[x, t]`, rows, a probe and tolerances; FFJORD's right side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import grad

import cnf


class Skipped(Exception):
    """A competitor that cannot do a case, with the reason."""


@dataclass(frozen=True)
class Case:
    dim: int
    hidden: tuple[int, ...]
    batch: int
    exact: bool = True
    peers_exact: bool = True


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
    """What all competitors are given; `probe` is None where the trace is to be exact.

    Weights are uniform in ±1.6/√fan_in.
    """

    def __init__(self, case: Case, *, exact: bool, tolerance: float = 1e-5, seed: int = 0) -> None:
        self.case, self.seed = case, seed
        self.tolerances = {"rtol": tolerance, "atol": tolerance}
        torch.manual_seed(seed)
        self.field = cnf.MLPField(case.dim, hidden=case.hidden, activation="tanh")
        for layer in self.field.layers:
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -1.6 / layer.in_features**0.5, 1.6 / layer.in_features**0.5)
        self.network = Network(self.field.layers)
        self.x, self.z = torch.randn(2, case.batch, case.dim)
        self.divergence = cnf.Exact() if exact else cnf.Hutchinson()
        torch.manual_seed(seed)  # as before every solve, so that ours draws the same
        probe = self.divergence.probe(self.x)
        self.probe = None if probe is None else probe[0]


@dataclass
class Competitor:
    """The log-density of a problem's rows, and samples; `trains` where the log-density keeps its gradient."""

    log_prob: Callable[[], Tensor]
    sample: Callable[[], Tensor]
    trains: bool = True


def of_cnf(problem: Problem, **settings: Any) -> Competitor:
    solver = cnf.RungeKutta("dopri5", **problem.tolerances, **settings)
    transform = cnf.CNF(problem.field, problem.divergence, solver=solver)
    flow = cnf.Flow(transform, cnf.StandardNormal((problem.case.dim,)))
    return Competitor(lambda: flow.log_prob(problem.x), lambda: transform.push(problem.z))


def log_normal(z: Tensor) -> Tensor:
    return -0.5 * (z.square().sum(1) + z.shape[1] * np.log(2 * np.pi))


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
