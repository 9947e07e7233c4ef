"""Rows with steps of their own: no neighbours, the tolerance, kinks, gradients, costs, failures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from instances import CONTEXT, FIELDS, randomized
from torch import Tensor, nn

import cnf
from cnf import CNF, Exact, Flow, Hutchinson, KineticEnergy, MLPField, RungeKutta, SolverError, StandardNormal
from cnf.continuous.solvers import RowWise, State, row_wise
from cnf.continuous.solvers.row_wise import RowSolve
from cnf.continuous.solvers.runge_kutta import ROWS
from cnf.continuous.solvers.tableaus import TABLEAUS

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")

EACH = RungeKutta(rows="each")
ADAPTIVE = [name for name, tableau in TABLEAUS.items() if tableau.error]


def column(t: float | Tensor) -> float | Tensor:
    return t.unsqueeze(1) if isinstance(t, Tensor) and t.dim() else t


def smooth(t: float | Tensor, x: Tensor) -> State:
    """`x' = (1 + t) x (1 − x)`, whose arithmetic is that of each row, in a batch of any size."""
    speed = 1 + column(t)
    growth = (speed * (1 - 2 * x))[:, 0]
    return State(speed * x * (1 - x), (growth,), ((speed * x).square()[:, 0],))


def kinked(t: float | Tensor, x: Tensor) -> State:
    """`x' = 1 + Σ max(x − k/5, 0)`, with kinks all along."""
    past = [x - k / 5 for k in range(6)]
    velocity = torch.ones_like(x) + column(t) * 0
    slope = torch.zeros_like(x[:, 0])
    for part in past:
        velocity = velocity + part.clamp(min=0)
        slope = slope + (part > 0).to(x)[:, 0]
    return State(velocity, (slope,), (slope,))


def start_of(x: Tensor) -> State:
    zero = x.new_zeros(len(x))
    return State(x, (zero,), (zero,))


def solved(rhs, x: Tensor, start: float = 0.0, end: float = 1.0, solver: RungeKutta = EACH) -> Tensor:
    """Everything that a solve gives, `(N, 3)`."""
    state = solver(rhs, start_of(x), start, end).state
    return torch.cat([state.x, state.integrals[0].unsqueeze(1), state.costs[0].unsqueeze(1)], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("rhs", [smooth, kinked])
def test_a_row_is_bit_for_bit_what_it_is_in_any_batch(rhs, method, dtype):
    x, solver = torch.rand(67, 1, dtype=dtype), replace(EACH, method=method, rtol=1e-4, atol=1e-4)
    whole = solved(rhs, x, solver=solver)
    for _ in range(4):
        rows = torch.randperm(67)[: int(torch.randint(1, 67, ()))]
        assert torch.equal(solved(rhs, x[rows], solver=solver), whole[rows])


@pytest.mark.parametrize("context_dim", [0, CONTEXT])
@pytest.mark.parametrize("name", ["mlp-tanh-concat-2", "mlp-silu-concatsquash-2", "mlp-elu-concat-residual-3", "conv"])
def test_a_row_of_any_field_is_what_it_is_alone(name, context_dim):
    instance = FIELDS[name]
    field = randomized(instance.make(context_dim)).double()
    x = torch.randn(20, *instance.event_shape, dtype=torch.float64)
    context = torch.randn(20, context_dim, dtype=torch.float64) if context_dim else None
    flow = CNF(field, solver=EACH, regularizers={"kinetic": KineticEnergy()})
    whole = flow.encode(x, context)
    for rows in (torch.tensor([3]), torch.tensor([19, 0, 7]), torch.arange(5, 20)):
        part = flow.encode(x[rows], None if context is None else context[rows])
        torch.testing.assert_close(part.value, whole.value[rows], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(part.log_det, whole.log_det[rows], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(part.costs["kinetic"], whole.costs["kinetic"][rows], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0), (0.2, 0.9)])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_every_row_keeps_its_tolerance(method, start, end):
    x = torch.linspace(0.05, 1.1, 300, dtype=torch.float64).unsqueeze(1)
    odds = math.exp(end + end**2 / 2 - start - start**2 / 2)
    exact = 1 / (1 + (1 / x - 1) / odds)
    for tolerance in (1e-2, 1e-4, 1e-6):
        found = solved(smooth, x, start, end, replace(EACH, method=method, rtol=tolerance, atol=tolerance))
        stretch = (exact * (1 - exact) / (x * (1 - x))).abs().log()
        errors = torch.cat([found[:, :1] - exact, found[:, 1:2] - stretch], 1).abs().amax(1)
        assert errors.quantile(0.999) < 10 * tolerance
        assert errors.max() < 100 * tolerance


def test_an_easy_row_does_not_pay_for_a_hard_one():
    x = torch.full((100, 1), 0.01, dtype=torch.float64)
    x[7] = 3.0

    def rhs(t: float | Tensor, x: Tensor) -> State:
        return State(torch.sin(20 * x), ((20 * torch.cos(20 * x))[:, 0],), (x[:, 0],))

    taken = {}
    for rows in ROWS:
        with cnf.count_evaluations() as count:
            RungeKutta(rows=rows)(lambda t, x: rhs(t, x * (x > 1)), start_of(x), 0.0, 1.0)
        taken[rows] = count.row_evaluations / 100
    assert taken["each"] < 0.7 * taken["together"]


def test_what_the_slowest_row_takes_is_counted():
    x = torch.rand(9, 1, dtype=torch.float64)
    with cnf.count_evaluations() as count:
        statistics = EACH(smooth, start_of(x), 0.0, 1.0).statistics
    alone = [EACH(smooth, start_of(row), 0.0, 1.0).statistics for row in x.split(1)]
    assert statistics == max(alone)
    assert statistics == (count.evaluations, count.accepted, count.rejected)
    assert statistics.evaluations == 2 + 6 * (statistics.accepted + statistics.rejected)
    assert count.row_evaluations == sum(one.evaluations for one in alone)
    assert count.solves == 1


@pytest.mark.parametrize("context_dim", [0, CONTEXT])
def test_a_large_batch_is_solved_in_pieces_that_nobody_sees(monkeypatch, context_dim):
    flow = CNF(randomized(FIELDS["mlp-tanh-concat-2"].make(context_dim)).double(), Hutchinson(), solver=EACH)
    x, context = torch.randn(50, 3, dtype=torch.float64), torch.randn(50, context_dim, dtype=torch.float64)
    found, counts = [], []
    for window in (50, 7):
        monkeypatch.setattr(row_wise, "WINDOW", window)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        torch.manual_seed(2)
        with torch.no_grad(), cnf.count_evaluations() as count:
            found.append(flow.encode(x, context if context_dim else None))
        counts.append(vars(count))
    assert counts[0] == counts[1]
    torch.testing.assert_close(found[1].value, found[0].value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1].log_det, found[0].log_det, rtol=1e-12, atol=1e-12)


class Given(RowWise):
    """`x' = c x (1 − x)` with a context c for each row, whose arithmetic is that of each row."""

    def __init__(self, context: Tensor) -> None:
        self.context = context

    def __call__(self, t: float | Tensor, x: Tensor) -> State:
        return State(self.context * x * (1 - x), ((self.context * (1 - 2 * x))[:, 0],), (x[:, 0],))

    def of(self, rows: Tensor) -> Given:
        return Given(self.context[rows])

    def anew(self, x: Tensor) -> Given:
        return self

    def takes_times(self, x: Tensor) -> bool:
        return True


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_is_bit_for_bit_the_same_whoever_is_under_way_with_it(monkeypatch, dtype):
    x, context = torch.rand(60, 1, dtype=dtype), 9 * torch.rand(60, 1, dtype=dtype)
    whole, over_kinks = solved(Given(context), x), solved(kinked, x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for window in (7, 20):
        monkeypatch.setattr(row_wise, "WINDOW", window)
        order = torch.randperm(60)
        assert torch.equal(solved(Given(context[order]), x[order]), whole[order])
        assert torch.equal(solved(kinked, x[order]), over_kinks[order])


@torch.no_grad()
def test_failed_rows_of_all_pieces_are_named(monkeypatch):
    monkeypatch.setattr(row_wise, "WINDOW", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with pytest.raises(SolverError) as caught:
        CNF(Explosion()).push(torch.tensor([[0.1], [2.0], [0.3], [0.2], [4.0]], dtype=torch.float64))
    assert caught.value.samples == [1, 4]


def test_path_costs_do_not_count_in_the_error():
    x = torch.rand(5, 1, dtype=torch.float64)

    def wild(t: float | Tensor, x: Tensor) -> State:
        state = smooth(t, x)
        return state._replace(costs=((1e6 * torch.sin(200 * x))[:, 0],))

    assert torch.equal(solved(wild, x)[:, :2], solved(smooth, x)[:, :2])


def activated(activation: nn.Module, width: int = 12) -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, width), activation, nn.Linear(width, width), activation, nn.Linear(width, 2)
    ).double()  # fmt: skip


class TimeFirst(nn.Module):
    """A network as flow_matching has them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.network(torch.cat([x, t.unsqueeze(1)], 1))


KINKED = [("concat", nn.ReLU()), ("tx", nn.LeakyReLU()), ("tx", nn.ELU()), ("concat", nn.SELU())]


@pytest.mark.parametrize(("style", "activation"), KINKED, ids=repr)
def test_networks_with_kinks_are_solved(style, activation):
    network = activated(activation)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 2.0
    flow = cnf.from_velocity(network if style == "concat" else TimeFirst(network), 2, arguments=style)
    x = 2 * torch.randn(20, 2, dtype=torch.float64)
    with torch.no_grad():
        with cnf.count_evaluations() as count:
            log_prob = flow.log_prob(x)
        reference = cnf.reconfigure(flow, solver=RungeKutta("midpoint", steps=200)).log_prob(x)
    assert (log_prob - reference).abs().max() < 1e-2
    assert count.row_evaluations / 20 < 1000


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
@pytest.mark.parametrize("divergence", [Exact(), Hutchinson()], ids=repr)
@pytest.mark.parametrize("context_dim", [0, CONTEXT])
def test_gradients_are_those_of_one_grid_for_all(gradient, divergence, context_dim):
    field = FIELDS["mlp-tanh-concat-2"].make(context_dim).double()
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    context = torch.randn(7, context_dim, dtype=torch.float64, requires_grad=True) if context_dim else None
    wanted = [x, *field.parameters(), *([] if context is None else [context])]
    found = []
    for rows in ROWS:
        solver = RungeKutta(rtol=1e-9, atol=1e-9, gradient=gradient, rows=rows)
        torch.manual_seed(3)
        mapped = CNF(field, divergence, {"kinetic": KineticEnergy()}, solver).encode(x, context)
        loss = (mapped.value.square().sum(1) + mapped.log_det + mapped.costs["kinetic"]).square().sum()
        found.append(torch.autograd.grad(loss, wanted))
    for each, together in zip(*found, strict=True):
        assert (each - together).abs().max() < 1e-5 * (1 + together.abs().max())


def test_what_a_refused_step_made_infinite_is_in_no_gradient():
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return -self.weight * torch.exp(x)

    module = Steep()
    x = torch.tensor([[0.1], [6.6]], dtype=torch.float64)
    value = CNF(module, solver=replace(EACH, rtol=0.5, atol=0.5)).decode(x).value
    (gradient,) = torch.autograd.grad(value.sum(), [module.weight])
    assert gradient.isfinite()


def test_frames_of_a_path_are_those_of_one_grid():
    flow = Flow(CNF(randomized(MLPField(2, hidden=(16,)), 2.0)), StandardNormal(2)).double()
    z, times = torch.randn(6, 2, dtype=torch.float64), [0.0, 0.3, 1.0]
    tight = cnf.reconfigure(flow, solver=RungeKutta(rtol=1e-9, atol=1e-9, rows="together"))
    each = cnf.reconfigure(flow, solver=RungeKutta(rtol=1e-9, atol=1e-9, rows="each"))
    assert (each.trajectory(z, times) - tight.trajectory(z, times)).abs().max() < 1e-7


class OneTime(nn.Module):
    """A module that a user wrote for one time only; times of as many rows as columns fit it by chance."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.cos(t * x)


class Switch(nn.Module):
    """Another one, which all times of a trial are alike to."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.where((x[:, :1] > 5) & (t >= 0), 0.0, torch.cos(x))


@pytest.mark.parametrize("module", [OneTime(), Switch()], ids=repr)
@pytest.mark.parametrize("dim", [1, 2, 3, 7])
def test_a_module_that_knows_one_time_only_is_solved_with_one(dim, module):
    x = torch.randn(dim, dim, dtype=torch.float64)
    default, together = (CNF(module, solver=RungeKutta(rows=rows)).encode(x) for rows in (None, "together"))
    assert torch.equal(default.value, together.value)
    assert torch.equal(default.log_det, together.log_det)


def test_a_plain_function_keeps_one_grid():
    x = torch.rand(4, 1, dtype=torch.float64)
    assert not RungeKutta().by_rows(smooth, x)
    assert EACH.by_rows(smooth, x)
    assert not RungeKutta(steps=3, rows="each").by_rows(smooth, x)
    with pytest.raises(ValueError, match="rows"):
        RungeKutta(rows="all")
    with pytest.raises(TypeError, match='take rows="together"'):
        EACH.grid(smooth, start_of(x), 0.0, 1.0)


def test_the_error_of_rows_apart_is_measured():
    x = torch.linspace(0.05, 1.5, 30, dtype=torch.float64).unsqueeze(1)
    exact = 1 / (1 + (1 / x - 1) * math.exp(-1.5))
    solver = replace(EACH, rtol=1e-3, atol=1e-3)
    coarse, fine = (solved(smooth, x, solver=one)[:, :1] - exact for one in (solver, solver.tighter()))
    assert fine.abs().max() < 0.05 * coarse.abs().max()
    finer = solved(smooth, x, solver=solver.tighter().tighter())[:, :1] - exact
    assert finer.abs().max() < 0.05 * fine.abs().max()


# Failures


class Explosion(nn.Module):
    """`dx/dt = x²`: infinite at `t = 1/x₀`; NaN for x below −5."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.where(x < -5, torch.nan, x * x)


def test_all_failed_rows_are_named_with_time_and_reason():
    z = torch.tensor([[0.1], [2.0], [0.3], [-6.0], [4.0]], dtype=torch.float64)
    with pytest.raises(SolverError) as caught:
        CNF(Explosion()).push(z)
    error = caught.value.renumbered([10, 11, 12, 13, 14])
    assert error.samples == [11, 13, 14]
    assert [time for _, time in error.each] == pytest.approx([0.5, 0.0, 0.25], abs=1e-6)
    exploded, broken, _ = error.reasons()
    assert exploded.endswith("at t = 0.5")
    assert broken == "the field or the state is NaN or infinite at t = 0"


def test_a_row_that_takes_too_many_steps_fails_alone():
    z = torch.tensor([[0.0], [0.9]], dtype=torch.float64)
    with pytest.raises(SolverError, match="max_steps = 12 steps at t = 0") as caught:
        CNF(Explosion(), solver=RungeKutta(rtol=1e-9, atol=1e-9, max_steps=12)).decode(z)
    assert caught.value.samples == [1]


def test_a_solve_grows_no_slower_than_its_rows():
    """Rows that have ended are not evaluated any more."""
    sizes: list[int] = []

    def watched(t: float | Tensor, x: Tensor) -> State:
        sizes.append(len(x))
        return smooth(t, x)

    x = torch.linspace(-0.2, 40, 50, dtype=torch.float64).unsqueeze(1)
    RowSolve(EACH._embedded_step, EACH._measured, 5, 0.0, 1.0, 1e-14, 10_000)(watched, start_of(x))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 10
