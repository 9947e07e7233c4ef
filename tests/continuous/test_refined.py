"""Refined solves: a known error, so that it can measure that of any solver, and the same noise."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from cnf import (
    CNF,
    Flow,
    RandomEnd,
    RungeKutta,
    Solver,
    StandardNormal,
    Torchdiffeq,
    count_evaluations,
    reconfigure,
)
from cnf.continuous.solvers import RowWise, Solution, State, Statistics
from cnf.continuous.solvers.tableaus import TABLEAUS

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")

SOLVERS = [
    *(RungeKutta(method, steps=4) for method in TABLEAUS),
    RungeKutta("rk4", steps=1, gradient="checkpoint"),
    RungeKutta("bosh3", rtol=1e-3, atol=1e-3),
    RungeKutta(rtol=1e-3, atol=1e-3),
    RungeKutta("tsit5"),
    Torchdiffeq("dopri5", rtol=1e-3, atol=1e-3),
    Torchdiffeq("dopri8", adjoint=False),
    Torchdiffeq("rk4", steps=4),
    Torchdiffeq("midpoint", options={"step_size": 0.25}),
    Torchdiffeq("scipy_solver", options={"solver": "LSODA"}),
]  # fmt: skip


def wave(t: float | Tensor, x: Tensor) -> State:
    """`x' = 3 cos(4t) x`, whose logarithm grows by `¾ sin 4t`, with its trace."""
    speed = 3 * math.cos(4 * float(t))
    return State(speed * x, (torch.full((len(x),), speed, dtype=x.dtype),))


def start() -> State:
    return State(torch.tensor([[0.5], [2.0]], dtype=torch.float64), (torch.zeros(2, dtype=torch.float64),))


def error(solution: Solution, begin: float, end: float) -> float:
    growth = 0.75 * (math.sin(4 * end) - math.sin(4 * begin))
    x, (integral,), _ = solution.state
    off = max((x / start().x - math.exp(growth)).abs().max(), (integral - growth).abs().max())
    return float(off)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_the_error_is_small_beside_that_of_the_solver(solver, begin, end):
    coarse = error(solver(wave, start(), begin, end), begin, end)
    fine = error(solver.tighter()(wave, start(), begin, end), begin, end)
    assert coarse > 1e-9
    assert fine < 0.35 * coarse


@pytest.mark.parametrize("solver", SOLVERS[:-1], ids=repr)
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_the_grid_is_that_of_the_accepted_steps(solver, begin, end):
    times = solver.grid(wave, start(), begin, end)
    direction = 1 if end > begin else -1
    assert (times[0], times[-1]) == (begin, end)
    assert all(direction * (b - a) > 0 for a, b in pairwise(times))
    assert len(times) - 1 == solver(wave, start(), begin, end).statistics.accepted


def test_what_it_takes_is_counted():
    with count_evaluations() as count:
        solution = RungeKutta("rk4", steps=3).tighter()(wave, start(), 0.0, 1.0)
    assert solution.statistics == Statistics(3 * 4 * 4, 12, 0)
    assert (count.evaluations, count.accepted) == (48, 12)
    assert RungeKutta().tighter()(wave, start(), 0.5, 0.5).statistics == Statistics(0, 0, 0)


class Numbered(RowWise):
    """`dx/dt` is the number of times that it was made anew, from 1 on."""

    def __init__(self, made: list[float]) -> None:
        made.append(len(made) + 1.0)
        self.made, self.speed = made, made[-1]

    def __call__(self, t: float | Tensor, x: Tensor) -> State:
        return State(torch.full_like(x, self.speed), (torch.full((len(x),), self.speed, dtype=x.dtype),))

    def of(self, rows: Tensor) -> Numbered:
        return self

    def anew(self, x: Tensor) -> Numbered:
        return Numbered(self.made)

    def takes_times(self, x: Tensor) -> bool:
        return True


@pytest.mark.parametrize("redraw", [False, True])
def test_noise_is_drawn_once_a_step_of_the_solver(redraw):
    solver, made = RungeKutta("rk4", steps=3, redraw=redraw), []
    for each in (solver, solver.tighter(), solver.tighter().tighter()):
        made.clear()
        state = each(Numbered(made), start(), 0.0, 1.0).state
        assert made == ([1.0, 2.0, 3.0] if redraw else [1.0])
        assert torch.allclose(state.integrals[0], torch.full((2,), 2.0 if redraw else 1.0).double())


def test_a_jump_of_the_trace_is_passed_at_any_tolerance():
    def kinked(t: float | Tensor, x: Tensor) -> State:
        return State(x.sign() * 0 + 1, ((x[:, 0] > 0).to(x) * 0.01,))

    x, solver = torch.tensor([[-0.4321]], dtype=torch.float64), RungeKutta(rtol=1e-2, atol=1e-2)
    state = State(x, (torch.zeros(1, dtype=torch.float64),))
    refined = solver.tighter()(kinked, state, 0.0, 1.0).state
    assert abs(refined.integrals[0] - 0.01 * (1 - 0.4321)) < 1e-3
    for tolerance in (1e-3, 1e-5, 1e-7):
        solution = replace(solver, rtol=tolerance, atol=tolerance)(kinked, state, 0.0, 1.0)
        assert abs(solution.state.integrals[0] - 0.01 * (1 - 0.4321)) < 100 * tolerance
        assert solution.statistics.evaluations < 300


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SELU])
def test_a_network_with_kinks_is_solved(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 2)).double()
    flow = Flow(CNF(Steady(network), solver=RungeKutta(rtol=1e-4, atol=1e-4)), StandardNormal(2).double())
    x = torch.randn(20, 2, dtype=torch.float64)
    with torch.no_grad():
        exact = reconfigure(flow, solver=RungeKutta("midpoint", steps=2500)).log_prob(x)
        with count_evaluations() as count:
            error = flow.log_prob(x) - exact
    assert error.square().mean().sqrt() < 5e-3
    assert count.evaluations < 2000


class Steady(nn.Module):
    """A network of x alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.network(x)


def test_solvers_that_cannot_be_refined_say_so():
    class Own(Solver):
        def __call__(self, rhs, state, start, end, parameters=()):
            return Solution(state, Statistics(0, 0, 0))

    for solver in (Own(), RandomEnd()):
        with pytest.raises(TypeError, match=f"{type(solver).__name__} has no tighter.*reconfigure"):
            solver.tighter()
        with pytest.raises(TypeError, match="does not tell its steps"):
            solver.grid(wave, start(), 0.0, 1.0)
