"""Other libraries on the same work, each imported where it is used: one that is missing is an ImportError there."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import cnf
from experiments.parts.work import Augmented, Competitor, Network, Problem, log_normal


def installed(models: Sequence[str]) -> list[str]:
    """The names without those of zuko's flows where zuko is not installed."""
    there = importlib.util.find_spec("zuko") is not None
    if not there:
        print("left out: the peers of zuko, which is not installed")
    return [model for model in models if there or not model.startswith("zuko")]


class ZukoFlow(cnf.Transform):
    """A zuko flow's transform, so that both packages are trained and judged by the same code."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def encode(self, x: Tensor, context: Tensor | None = None) -> cnf.Mapped:
        if not len(x):  # zuko takes no empty batch
            return cnf.Mapped(x, x.new_zeros(0))
        return cnf.Mapped(*self.flow.transform(context).call_and_ladj(x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> cnf.Mapped:
        return cnf.Mapped(*self.flow.transform(context).inv.call_and_ladj(z))


def recipe(problem: Problem, name: str) -> Competitor:
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

    return Competitor(log_prob, sample)


def zuko(problem: Problem) -> Competitor:
    from zuko.transforms import FreeFormJacobianTransform as Transform

    settings: dict[str, Any] = {"phi": list(problem.network.parameters()), "exact": problem.probe is None}
    settings |= problem.tolerances

    def log_prob() -> Tensor:
        with mock.patch.object(torch, "randn_like", return_value=problem.probe):  # its probe is normal
            z, log_det = Transform(problem.network, 1.0, 0.0, **settings).call_and_ladj(problem.x)
        return log_normal(z) + log_det

    return Competitor(log_prob, lambda: Transform(problem.network, 0.0, 1.0, **settings)(problem.z))


def flow_matching(problem: Problem) -> Competitor:
    from flow_matching.solver import ODESolver

    solver = ODESolver(lambda x, t: problem.network(t, x))
    settings: dict[str, Any] = {"step_size": None, "method": "dopri5", **problem.tolerances}

    def log_prob() -> Tensor:
        x, exact = problem.x.clone(), problem.probe is None
        below = None if exact else -problem.probe  # of its normal noise it takes `< 0`
        with mock.patch.object(torch, "randn_like", return_value=below):
            log_p: Tensor = solver.compute_likelihood(x, log_normal, exact_divergence=exact, **settings)[1]
        return log_p

    return Competitor(log_prob, lambda: solver.sample(x_init=problem.z, **settings), trains=False)


class OfState(nn.Module):
    """The network as torchdyn calls it, which leaves the time in `t`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, self.t = network, torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        velocity: Tensor = self.network(self.t, x)
        return velocity


def torchdyn(problem: Problem) -> Competitor:
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

    return Competitor(log_prob, lambda: plain(problem.z, forward)[-1])


Prepare = Callable[[Problem], Competitor]
PEERS: dict[str, Prepare] = {
    "FFJORD's recipe": lambda problem: recipe(problem, "odeint_adjoint"),
    "its backprop": lambda problem: recipe(problem, "odeint"),
    "zuko": zuko,
    "torchdyn": torchdyn,
    "flow_matching": flow_matching,
}
