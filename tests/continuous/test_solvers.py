"""Solvers: order, tolerance, gradients, what they count, and how they give up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from instances import FIELDS, UserField, randomized
from scipy.linalg import expm
from torch import Tensor, nn
from torchdiffeq._impl.odeint import SOLVERS

from cnf import (
    CNF,
    Exact,
    Hutchinson,
    HutchPP,
    KineticEnergy,
    MLPField,
    RandomEnd,
    RungeKutta,
    SolverError,
    Torchdiffeq,
    build,
    count_evaluations,
    reconfigure,
)
from cnf.continuous.solvers import State, Statistics
from cnf.continuous.solvers.runge_kutta import GRADIENTS, ROWS
from cnf.continuous.solvers.tableaus import TABLEAUS

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script"),  # torch, when forward mode starts
]

EACH, TOGETHER = (RungeKutta(rows=rows) for rows in ("each", "together"))
ADAPTIVE = [name for name, tableau in TABLEAUS.items() if tableau.error]
FIXED_OF_TORCHDIFFEQ = {"euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams", "fixed_adams"}


class Problem:
    """`x' = (1 + t) x (1 − x)`, whose odds grow by `exp(t + t²/2)`, with the integrals of `∂f/∂x` and of `f`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, t: float | Tensor, x: Tensor) -> State:
        times = torch.as_tensor(t, dtype=x.dtype).expand(len(x)).unsqueeze(1)
        self.calls.append((times, x))
        velocity, growth = (1 + times) * x * (1 - x), (1 + times) * (1 - 2 * x)
        return State(velocity, (growth.sum(1),), (velocity.sum(1),))

    @staticmethod
    def flow(x: Tensor, start: float, end: float) -> Tensor:
        return 1 / (1 + (1 / x - 1) * math.exp(start + start**2 / 2 - end - end**2 / 2))

    def errors(self, solver, x: Tensor, start: float = 0.0, end: float = 1.0) -> tuple[float, Statistics]:
        """The largest error of the state, the integral and the cost."""
        zero = x.new_zeros(len(x))
        (value, (integral,), (cost,)), statistics = solver(self, State(x, (zero,), (zero,)), start, end)
        exact = self.flow(x, start, end)
        stretch = (exact * (1 - exact) / (x * (1 - x))).log().sum(1)
        differences = value - exact, integral - stretch, cost - (exact - x).sum(1)
        return max(difference.abs().max().item() for difference in differences), statistics


def points() -> Tensor:
    return torch.tensor([[0.1], [0.4], [1.5]], dtype=torch.float64)


@pytest.mark.parametrize("method", TABLEAUS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_the_observed_order_is_the_order_of_the_method(method, start, end):
    steps = torch.tensor([32, 48, 64, 96])
    x = Problem.flow(points(), 0.0, start)
    errors = [Problem().errors(RungeKutta(method, steps=int(n)), x, start, end)[0] for n in steps]
    design = torch.stack([-steps.double().log(), torch.ones(len(steps))], 1).double()
    slope = torch.linalg.lstsq(design, torch.tensor(errors).double().log()).solution[0]
    assert abs(slope - TABLEAUS[method].order) < 0.4


@pytest.mark.parametrize("method", ADAPTIVE)
def test_the_embedded_estimate_is_of_the_order_that_the_step_control_assumes(method):
    tableau = TABLEAUS[method]
    x, steps = points(), torch.tensor([0.2, 0.1, 0.05, 0.025], dtype=torch.float64)
    sizes = []
    for h in steps.tolist():
        problem = Problem()
        solver = RungeKutta(method, rtol=1.0, atol=1.0, steps=1)
        slope = problem(0.0, x)
        _, _, errors = solver._embedded_step(problem, 0.0, h, State(x, (x[:, 0],), (x[:, 0],)), slope)
        sizes.append(errors.max())
    design = torch.stack([steps.log(), torch.ones(4)], 1).double()
    slope = torch.linalg.lstsq(design, torch.stack(sizes).log()).solution[0]
    assert abs(slope - tableau.order) < 0.4


@pytest.mark.parametrize("tableau", TABLEAUS.values(), ids=TABLEAUS)
def test_tableaus_are_consistent(tableau):
    assert math.isclose(sum(tableau.b), 1, rel_tol=1e-14)
    for row, c in zip(tableau.a, tableau.c[1:], strict=True):
        assert math.isclose(sum(row), c, rel_tol=1e-13)
    if tableau.error:
        assert abs(sum(tableau.error)) < 1e-14
        assert tableau.a[-1] == tableau.b[:-1]  # the last stage of a step is the first of the next
        assert tableau.b[-1] == 0


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_solves_reach_the_tolerance_and_improve_with_it(method, rows):
    tolerances = [1e-3, 1e-5, 1e-7] if method == "bosh3" else [1e-3, 1e-5, 1e-7, 1e-9, 1e-11]
    errors = [Problem().errors(RungeKutta(method, tol, tol, rows=rows), points())[0] for tol in tolerances]
    assert all(error < 10 * tol for error, tol in zip(errors, tolerances, strict=True))
    assert all(finer < coarser / 10 for coarser, finer in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("solver", [EACH, TOGETHER, Torchdiffeq()], ids=repr)
def test_time_runs_both_ways(solver):
    solver = replace(solver, rtol=1e-9, atol=1e-9)
    end = Problem.flow(points(), 0.2, 0.9)
    assert Problem().errors(solver, points(), 0.2, 0.9)[0] < 1e-7
    assert Problem().errors(solver, end, 0.9, 0.2)[0] < 1e-7


@pytest.mark.parametrize(
    "solver",
    [
        RungeKutta("euler", steps=3),
        RungeKutta("rk4", steps=3),
        RungeKutta("dopri5", steps=3),
        *(RungeKutta(method, rows=rows) for method in ("bosh3", "dopri5") for rows in ROWS),
        *(RungeKutta("tsit5", rtol=1e-9, atol=1e-9, rows=rows) for rows in ROWS),
        Torchdiffeq("dopri5"),
        Torchdiffeq("dopri8", adjoint=False),
        Torchdiffeq("rk4", steps=3),
        Torchdiffeq("rk4", steps=49),
        Torchdiffeq("implicit_adams", steps=6),
        Torchdiffeq("scipy_solver"),
    ],
    ids=repr,
)
def test_statistics_are_what_happened(solver):
    problem = Problem()
    with count_evaluations() as count:
        _, statistics = problem.errors(solver, points())
    assert statistics.evaluations == len(problem.calls) > 0
    assert statistics == (count.evaluations, count.accepted, count.rejected)
    assert count.solves == 1
    if solver.steps:
        assert statistics[1:] == (solver.steps, 0)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("method", "stages"), [("bosh3", 3), ("dopri5", 6), ("tsit5", 6)])
def test_an_adaptive_step_takes_one_evaluation_less_than_it_has_stages(method, stages, rows):
    def sharp(t, x):
        return State(20 * torch.cos(60 * (x.mT * t).mT))

    _, (evaluations, accepted, rejected) = RungeKutta(method, rows=rows)(sharp, State(points()), 0.0, 1.0)
    assert rejected > 0
    assert evaluations == (2 if rows == "each" else 1) + stages * (accepted + rejected)  # one for each first step


@pytest.mark.parametrize("rows", ROWS)
def test_no_point_is_evaluated_twice(rows):
    problem = Problem()
    problem.errors(RungeKutta(rtol=1e-8, atol=1e-8, rows=rows), points())
    evaluated = [tuple(row) for call in problem.calls for row in torch.cat(call, 1).tolist()]
    assert len(set(evaluated)) == len(evaluated)


def test_counts_nest_and_close():
    with count_evaluations() as outer:
        Problem().errors(RungeKutta("rk4", steps=2), points())
        with count_evaluations() as inner:
            Problem().errors(RungeKutta("rk4", steps=3), points())
    Problem().errors(RungeKutta("rk4", steps=5), points())
    assert (outer.evaluations, outer.solves, inner.evaluations, inner.solves) == (20, 2, 12, 1)


@pytest.mark.parametrize("solver", [EACH, TOGETHER, RungeKutta("rk4", steps=2), Torchdiffeq()], ids=repr)
def test_nothing_to_do_is_done_at_once(solver):
    problem, state = Problem(), State(points())
    assert solver(problem, state, 0.5, 0.5) == (state, (0, 0, 0))
    assert len(solver(problem, State(points()[:0]), 0.0, 1.0).state.x) == 0
    assert not problem.calls


@pytest.mark.parametrize("solver", [EACH, TOGETHER], ids=repr)
def test_costs_do_not_count_in_the_error_norm(solver):
    def rhs(t, x):
        return State(-x, (), ((1e6 * torch.sin(200 * x)).sum(1),))

    with_costs = solver(rhs, State(points(), (), (torch.zeros(3),)), 0.0, 1.0)
    without = solver(lambda t, x: State(-x), State(points()), 0.0, 1.0)
    assert with_costs.statistics == without.statistics
    assert torch.equal(with_costs.state.x, without.state.x)


@pytest.mark.parametrize("solver", [EACH, TOGETHER, Torchdiffeq()], ids=repr)
def test_integrals_are_held_to_the_tolerance(solver):
    zero = torch.zeros(3, dtype=torch.float64)
    solution = solver(
        lambda t, x: State(0 * x, (torch.cos(40 * torch.as_tensor(t)).expand(3).double(),)),
        State(points(), (zero,)), 0.0, 1.0,
    )  # fmt: skip
    assert torch.allclose(solution.state.integrals[0], zero + math.sin(40) / 40, atol=1e-4)
    assert solution.statistics.accepted > 5


# A right-hand side for every step


@pytest.mark.parametrize("method", TABLEAUS)
def test_a_plain_function_has_no_noise_to_draw_anew(method):
    solver, x = RungeKutta(method, steps=5), points()
    zero = x.new_zeros(len(x))
    state = State(x, (zero,), (zero,))
    plain = solver(Problem(), state, 0.2, 0.9)
    with count_evaluations() as count:
        redrawn = replace(solver, redraw=True)(Problem(), state, 0.2, 0.9)
    assert torch.equal(plain.state.x, redrawn.state.x)
    assert torch.equal(plain.state.integrals[0], redrawn.state.integrals[0])
    assert torch.equal(plain.state.costs[0], redrawn.state.costs[0])
    assert plain.statistics == redrawn.statistics == (count.evaluations, count.accepted, count.rejected)
    assert count.solves == 1


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_probes_of_every_step_are_those_of_the_backward_pass(gradient):
    setting, solver = Setting(FIELDS["mlp-tanh-concat-2"].make(2).double()), RungeKutta("rk4", steps=3, redraw=True)
    gradients = []
    for each in (solver, replace(solver, gradient=gradient), replace(solver, redraw=False)):
        torch.manual_seed(4)
        gradients.append(setting.gradients(each, Hutchinson()))
    assert distance(gradients[1], gradients[0]) < 1e-12
    assert distance(gradients[2], gradients[0]) > 1e-3


def test_a_solve_with_a_probe_for_every_step_counts_as_one():
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0), Hutchinson(), {"kinetic": KineticEnergy()})
    x, counts = torch.randn(4, 3), []
    for redraw in (False, True):
        cnf.solver = RungeKutta("rk4", steps=6, redraw=redraw)
        with count_evaluations() as count:
            cnf.encode(x)
        counts.append(vars(count))
    expected = {"evaluations": 24, "solves": 1, "accepted": 6, "rejected": 0, "row_evaluations": 96}
    assert counts[0] == counts[1] == expected


# Random ends


def clock(t: float | Tensor, x: Tensor) -> State:
    return State(torch.ones_like(x))


@pytest.mark.parametrize(("start", "end", "width"), [(0.0, 1.0, 0.5), (1.0, 0.0, 0.75), (0.5, 2.5, 0.1)])
def test_end_times_are_uniform_in_their_interval(start, end, width):
    solver, x = RandomEnd(RungeKutta("euler", steps=1), width), torch.full((2, 1), start, dtype=torch.float64)
    ends = torch.cat([solver(clock, State(x), start, end).state.x for _ in range(3000)], 1)
    assert torch.equal(ends[0], ends[1])
    reach = width * abs(end - start)
    ranks = (ends[0].sort().values - (end - reach)) / (2 * reach)
    assert 0 <= ranks[0] < 0.01
    assert 0.99 < ranks[-1] <= 1
    assert (ranks - torch.linspace(0, 1, 3000)).abs().max() < 1.95 / 3000**0.5  # Kolmogorov-Smirnov at 0.1 %


@pytest.mark.parametrize(
    "solver", [RungeKutta(rtol=1e-9, atol=1e-9), RungeKutta(steps=20), Torchdiffeq(rtol=1e-9, atol=1e-9)], ids=repr
)
@pytest.mark.parametrize(("method", "sign"), [("decode", 1), ("encode", -1)])
def test_a_solve_of_random_end_is_the_exponential_to_that_end(solver, method, sign):
    field = nn.Linear(3, 3, bias=False).double()
    matrix = field.weight.detach()

    class Linear(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return field(x)

    cnf, x = CNF(Linear(), regularizers={"kinetic": KineticEnergy()}), torch.randn(4, 3, dtype=torch.float64)
    cnf.solver = RandomEnd(solver, 0.6)
    torch.manual_seed(3)
    mapped, plain = getattr(cnf, method)(x), cnf.push(x)
    torch.manual_seed(3)
    first, second = (1 + 0.6 * (2 * torch.rand(2) - 1)).tolist()
    assert first != second
    flow = torch.as_tensor(expm(sign * first * matrix.numpy()))
    assert torch.allclose(mapped.value, x @ flow.mT, atol=1e-7)
    assert torch.allclose(mapped.log_det, sign * first * matrix.trace().expand(4), atol=1e-7)
    assert (mapped.costs["kinetic"] > 0).all()
    assert torch.allclose(plain, x @ torch.as_tensor(expm(second * matrix.numpy())).mT, atol=1e-7)


def test_a_seed_repeats_the_end_and_a_batch_draws_one():
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0), solver=RandomEnd(RungeKutta("rk4", steps=2)))
    x, values = torch.randn(50, 3), []
    for rows in (x, x, x[:7]):
        torch.manual_seed(5)
        values.append(cnf.encode(rows))
        state = torch.get_rng_state()
        torch.manual_seed(5)
        torch.rand(())
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(values[0].value, values[1].value)
    assert torch.allclose(values[0].log_det[:7], values[2].log_det, atol=1e-6)
    assert not torch.allclose(cnf.encode(x).log_det, values[0].log_det, atol=1e-3)


@pytest.mark.parametrize("solver", [RungeKutta("rk4", steps=3), RungeKutta(gradient="checkpoint"), Torchdiffeq()])
def test_gradients_and_counts_of_a_random_end_are_those_of_a_solve_to_it(solver):
    setting = Setting(FIELDS["mlp-tanh-concat-2"].make(2).double())
    torch.manual_seed(0)
    with count_evaluations() as count:
        ours = setting.gradients(RandomEnd(solver))
    torch.manual_seed(0)
    end = -0.5 * (2 * torch.rand(()).item() - 1)

    class Known(RungeKutta):
        def __call__(self, rhs, state, start, _, parameters=()):
            return solver(rhs, state, start, end, parameters)

    with count_evaluations() as expected:
        theirs = setting.gradients(Known())
    assert distance(ours, theirs) == 0
    assert vars(count) == vars(expected)


def test_random_ends_and_a_probe_for_every_step_go_together():
    grid = RungeKutta("midpoint", steps=4, redraw=True)
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0), Hutchinson(), solver=RandomEnd(grid))
    x = torch.randn(5, 3)
    with count_evaluations() as count:
        torch.manual_seed(1)
        cnf.encode(x)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    torch.rand(())
    for _ in range(4):
        Hutchinson().probe(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert (count.solves, count.evaluations, count.accepted) == (1, 8, 4)


def test_training_with_random_ends_leaves_the_flow_its_own():
    flow, x = randomized(build("cnf", 2, hidden=8)), torch.randn(6, 2)
    before, trained = flow.log_prob(x), reconfigure(flow, solver=RandomEnd())
    assert not torch.equal(trained.log_prob(x), trained.log_prob(x))
    assert torch.equal(flow.log_prob(x), before)


# Gradients


class Setting:
    """A conditional density with costs, whose context is itself what a network makes."""

    def __init__(self, field: nn.Module) -> None:
        self.field = field
        self.encoder = nn.Linear(1, 2).double()
        self.x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        self.raw = torch.randn(4, 1, dtype=torch.float64)
        self.wanted = [self.x, *self.encoder.parameters(), *field.parameters()]

    def loss(self, solver, divergence=Exact()) -> Tensor:
        cnf = CNF(self.field, divergence, {"kinetic": KineticEnergy()}, solver)
        mapped = cnf.encode(self.x, self.encoder(self.raw).tanh())
        weights = torch.arange(1.0, 5.0)
        return (weights * (mapped.value.square().sum(1) - mapped.log_det + mapped.costs["kinetic"])).sum()

    def gradients(self, solver, divergence=Exact()) -> list[Tensor]:
        loss = self.loss(solver, divergence)
        return list(torch.autograd.grad(loss, self.wanted, materialize_grads=True, allow_unused=True))


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference, relative to the largest entry of each tensor."""
    pairs = zip(some, others, strict=True)
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-3)).item() for a, b in pairs)


KINDS = ["mlp-tanh-concat-2", "mlp-silu-concatsquash-2", "mlp-softplus-concat-residual-3", "potential-2", "planar"]


@pytest.fixture(params=[*KINDS, "module"])
def setting(request) -> Setting:
    field = randomized(UserField(2)) if request.param == "module" else FIELDS[request.param].make(2)
    return Setting(field.double())


TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
REFERENCE = RungeKutta("tsit5", **TOLERANCE)


@pytest.mark.parametrize("solver", [EACH, TOGETHER, RungeKutta("bosh3"), RungeKutta("rk4", steps=5)], ids=repr)
def test_checkpointing_gives_the_gradient_of_backprop(setting, solver):
    kept, recomputed = setting.gradients(solver), setting.gradients(replace(solver, gradient="checkpoint"))
    assert distance(recomputed, kept) < 1e-12


@pytest.mark.parametrize(
    "solver",
    [
        Torchdiffeq("dopri5", **TOLERANCE),
        Torchdiffeq("dopri5", **TOLERANCE, seminorm=True),
        Torchdiffeq("dopri5", **TOLERANCE, adjoint=False),
        Torchdiffeq("rk4", steps=40),
        *(RungeKutta("dopri5", **TOLERANCE, gradient="checkpoint", rows=rows) for rows in ROWS),
    ],
    ids=repr,
)
def test_the_adjoint_gives_the_gradient_of_backprop(setting, solver):
    assert distance(setting.gradients(solver), setting.gradients(REFERENCE)) < 1e-6


@pytest.mark.parametrize("divergence", [Hutchinson(), HutchPP()], ids=repr)
@pytest.mark.parametrize(
    "solver", [Torchdiffeq(), *(replace(one, gradient="checkpoint") for one in (EACH, TOGETHER))], ids=repr
)
def test_the_backward_pass_sees_the_noise_of_the_forward_pass(divergence, solver):
    setting = Setting(FIELDS["mlp-tanh-concatsquash-2"].make(2).double())
    gradients = []
    for each in (replace(solver, **TOLERANCE), REFERENCE):
        torch.manual_seed(4)
        gradients.append(setting.gradients(each, divergence))
    assert distance(*gradients) < 1e-6


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_are_those_of_finite_differences(setting, gradient):
    solver = RungeKutta("rk4", steps=3, gradient=gradient)
    gradients = setting.gradients(solver)
    directions = [torch.randn_like(tensor) for tensor in setting.wanted]
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()

    def moved(step: float) -> float:
        with torch.no_grad():
            for tensor, direction in zip(setting.wanted, directions, strict=True):
                tensor += step * direction
            loss = setting.loss(solver).item()
            for tensor, direction in zip(setting.wanted, directions, strict=True):
                tensor -= step * direction
        return loss

    h = 1e-3
    difference = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    assert math.isclose(expected, difference, rel_tol=1e-6)


def test_gradients_in_x_pass_gradcheck():
    cnf = CNF(FIELDS["mlp-tanh-concat-residual-2"].make(0).double(), solver=RungeKutta("dopri5", steps=3))
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cnf.encode(x)[:2], x)
    assert torch.autograd.gradgradcheck(lambda x: cnf.encode(x)[:2], x)


def test_seminorm_takes_fewer_evaluations():
    evaluations = {}
    for seminorm in (False, True):
        torch.manual_seed(0)
        field = randomized(MLPField(3, hidden=(30, 30)), 2.0).double()
        mapped = CNF(field, solver=Torchdiffeq(rtol=1e-6, atol=1e-6, seminorm=seminorm)).encode(
            torch.randn(9, 3).double()
        )
        with count_evaluations() as count:
            (1e3 * mapped.log_det.sum()).backward()
        evaluations[seminorm] = count.evaluations
    assert 0 < evaluations[True] < evaluations[False]


class Watching(MLPField):
    """Counts its linearizations."""

    calls = 0

    def linearize(self, *args, **kwargs):
        self.calls += 1
        return super().linearize(*args, **kwargs)


@pytest.mark.parametrize("steps", [None, 6])
def test_checkpointing_recomputes_the_stages_and_keeps_only_the_states(steps):
    saved, recomputed = {}, {}
    for gradient in GRADIENTS:
        field = Watching(3, hidden=(64, 64))
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            log_det = CNF(field, solver=RungeKutta(steps=steps, gradient=gradient)).encode(torch.randn(50, 3)).log_det
        saved[gradient], forward = kept, field.calls
        log_det.sum().backward()
        recomputed[gradient] = field.calls - forward
    assert recomputed["backprop"] == 0
    assert recomputed["checkpoint"] >= forward - 2  # what chooses the first steps is kept
    assert saved["checkpoint"] < 0.2 * saved["backprop"]


def test_the_adjoint_keeps_nothing_of_the_steps():
    def saved(solver) -> int:
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            CNF(field, solver=solver).encode(x)
        return kept

    field, x = MLPField(3, hidden=(64, 64)), torch.randn(50, 3)
    assert saved(Torchdiffeq("rk4", steps=4)) == saved(Torchdiffeq("rk4", steps=16))
    assert saved(Torchdiffeq("rk4", steps=16, adjoint=False)) > 3 * saved(Torchdiffeq("rk4", steps=4, adjoint=False))


# torchdiffeq as a backend

ACCURACY = {
    "euler": 0.05, "midpoint": 2e-3, "heun2": 2e-3, "heun3": 1e-4, "explicit_adams": 1e-3,
    "adaptive_heun": 1e-4, "fehlberg2": 1e-4, "bosh3": 1e-6,
}  # fmt: skip


def with_method(method: str, **settings) -> Torchdiffeq:
    tolerance = {"adaptive_heun": 1e-5, "fehlberg2": 1e-7, "bosh3": 1e-7}.get(method, 1e-9)
    steps = 40 if method in FIXED_OF_TORCHDIFFEQ else None
    return Torchdiffeq(method, rtol=tolerance, atol=tolerance, steps=steps, **settings)


@pytest.mark.parametrize("method", SOLVERS)
def test_every_method_of_torchdiffeq_agrees_with_ours(method):
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0).double(), regularizers={"kinetic": KineticEnergy()}, solver=REFERENCE)
    x = torch.randn(3, 3, dtype=torch.float64)
    expected = cnf.encode(x)
    cnf.solver = with_method(method)
    mapped = cnf.encode(x)
    tolerance = ACCURACY.get(method, 1e-6)
    assert torch.allclose(mapped.value, expected.value, rtol=0, atol=tolerance)
    assert torch.allclose(mapped.log_det, expected.log_det, rtol=0, atol=tolerance)
    assert torch.allclose(mapped.costs["kinetic"], expected.costs["kinetic"], rtol=0, atol=tolerance)
    assert torch.allclose(cnf.decode(mapped.value).value, x, rtol=0, atol=tolerance)


@pytest.mark.parametrize("adjoint", [True, False])
@pytest.mark.parametrize("method", [method for method in SOLVERS if method != "scipy_solver"])
def test_every_method_of_torchdiffeq_has_gradients(method, adjoint):
    setting = Setting(FIELDS["mlp-tanh-concat-2"].make(2).double())
    gradients = setting.gradients(with_method(method, adjoint=adjoint))
    assert distance(gradients, setting.gradients(REFERENCE)) < 3 * ACCURACY.get(method, 1e-5)


@pytest.mark.parametrize("method", sorted(FIXED_OF_TORCHDIFFEQ))
def test_a_fixed_grid_without_steps_is_refused(method):
    with pytest.raises(ValueError, match=f"{method} works on a fixed grid: give steps=n"):
        Torchdiffeq(method)


@pytest.mark.parametrize("method", ["dopri5", "bosh3"])
@pytest.mark.parametrize(("start", "end"), [(0.2, 0.9), (0.9, 0.2)])
def test_torchdiffeq_stops_at_the_end(method, start, end):
    problem, x = Problem(), Problem.flow(points(), 0.2, start)
    theirs, _ = problem.errors(Torchdiffeq(method, rtol=1e-7, atol=1e-7), x, start, end)
    times = torch.cat([t.flatten() for t, _ in problem.calls])
    assert times.min() >= 0.2 - 1e-12  # no interpolation from beyond the end
    assert times.max() <= 0.9 + 1e-12
    assert theirs < 1e-6


def test_torchdiffeq_holds_every_sample_to_the_tolerance():
    x = torch.zeros(1000, 1, dtype=torch.float64)
    x[0] = 3.0

    def error(**options) -> float:
        solver = Torchdiffeq(rtol=1e-6, atol=1e-6, options=options)
        return abs(solver(lambda t, x: State(-x * x), State(x), 0.0, 1.0).state.x[0].item() - 0.75)

    assert error() < 3e-6
    assert error(norm=lambda parts: parts[0].square().mean().sqrt()) > 1e-5


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RungeKutta("rk5"), "method must be one of 'euler', 'midpoint', 'heun', .* got 'rk5'"),
        (lambda: RungeKutta(gradient="adjoint"), "gradient must be one of 'backprop', 'checkpoint', got 'adjoint'"),
        (lambda: RungeKutta("rk4"), r"no error estimate: give steps=n for a fixed grid.*\(bosh3, dopri5, tsit5\)"),
        (lambda: RungeKutta(steps=0), "steps must be .* from 1 to .*, got 0"),
        (lambda: RungeKutta(rtol=0.0), "rtol must be a number above 0 .*, got 0.0"),
        (lambda: RungeKutta(atol=-1.0), "atol must be a number above 0"),
        (lambda: RungeKutta(rtol=math.nan), "rtol must be a number above 0 .*, got nan"),
        (lambda: RungeKutta(max_steps=0), "max_steps must be .* from 1 to"),
        (lambda: RungeKutta(redraw=True), "redraw=True needs a fixed grid, steps=n: an adaptive solver would judge"),
        (lambda: RandomEnd(width=0.0), "width must be a number above 0 and below 1, got 0.0"),
        (lambda: RandomEnd(width=1.0), "width must be a number above 0 and below 1, got 1.0"),
        (lambda: RandomEnd(width=math.nan), "width must be a number above 0 and below 1, got nan"),
        (lambda: Torchdiffeq("dopri6"), "unknown method 'dopri6': torchdiffeq has .*dopri5"),
        (lambda: Torchdiffeq("dopri5", steps=3), "dopri5 chooses its own steps"),
        (lambda: Torchdiffeq(seminorm=True, adjoint=False), "give adjoint=True"),
        (lambda: Torchdiffeq(rtol=-1.0), "rtol must be a number above 0"),
    ],
)
def test_impossible_solvers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_random_ends_need_a_solver():
    with pytest.raises(TypeError, match=r"solver must be a Solver such as .*, got 0\.5"):
        RandomEnd(0.5)


class Nan(nn.Module):
    """NaN where the first coordinate is larger than 5; from time `since` on."""

    def __init__(self, since: float = 0.0) -> None:
        super().__init__()
        self.since = since

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.where((x[:, :1] > 5) & (t.reshape(-1, 1) >= self.since), torch.nan, 0.1 * x)


class Explosion(nn.Module):
    """`dx/dt = x²`: infinite at `t = 1/x₀`."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x * x


SOLVER_KINDS = [EACH, TOGETHER, RungeKutta(gradient="checkpoint"), Torchdiffeq(), Torchdiffeq(adjoint=False)]
GRIDS = [RungeKutta("rk4", steps=4), Torchdiffeq("rk4", steps=4)]


@pytest.mark.parametrize("solver", [*SOLVER_KINDS, *GRIDS, Torchdiffeq("scipy_solver")], ids=repr)
def test_a_field_that_is_nan_names_its_samples(solver):
    z = torch.tensor([[0.0, 1.0], [6.0, 0.0], [1.0, 1.0], [9.0, 9.0]], dtype=torch.float64)
    with pytest.raises(
        SolverError, match=r"NaN or infinite at t = [01]\. Samples: 1, 3 \(2 in all\)\. Try: "
    ) as caught:
        CNF(Nan(), solver=solver).decode(z)
    assert caught.value.samples == [1, 3]
    assert caught.value.time in (0.0, 1.0)


@pytest.mark.parametrize("solver", [EACH, TOGETHER, Torchdiffeq()], ids=repr)
def test_a_field_that_becomes_nan_on_the_way_stops_there(solver):
    z = torch.tensor([[0.0, 1.0], [6.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    with pytest.raises(SolverError) as caught:
        CNF(Nan(since=0.5), solver=solver).decode(z)
    assert caught.value.samples == [1]
    assert 0.1 < caught.value.time <= 0.75


@pytest.mark.parametrize("solver", [EACH, TOGETHER, Torchdiffeq()], ids=repr)
def test_an_explosion_is_located(solver):
    z = torch.tensor([[0.1], [2.0], [0.3]], dtype=torch.float64)
    with pytest.raises(
        SolverError, match=r"(max_steps|step size|underflow in dt).* at t = 0\.5.*Samples: 1 "
    ) as caught:
        CNF(Explosion(), solver=replace(solver, max_steps=2000)).decode(z)
    assert abs(caught.value.time - 0.5) < 1e-4


def test_scipy_cannot_hang_on_an_explosion():
    with pytest.raises(SolverError, match="max_steps = 200 evaluations"):
        CNF(Explosion(), solver=Torchdiffeq("scipy_solver", max_steps=200)).decode(torch.full((1, 1), 2.0).double())


@pytest.mark.parametrize(
    ("solver", "reason"),
    [(EACH, "max_steps = 4 steps"), (TOGETHER, "max_steps = 4 steps"), (Torchdiffeq(), r"\(4>=4\)")],
)
def test_max_steps_ends_a_solve(solver, reason):
    with pytest.raises(SolverError, match=reason) as caught:
        CNF(Explosion(), solver=replace(solver, rtol=1e-9, atol=1e-9, max_steps=4)).decode(
            torch.full((1, 1), 0.9).double()
        )
    assert 0 < caught.value.time < 1


def test_a_tolerance_below_the_precision_is_no_endless_loop():
    solver = RungeKutta(rtol=1e-14, atol=1e-14, max_steps=200)
    with pytest.raises(SolverError, match="float64"):
        CNF(Explosion(), solver=solver).decode(torch.tensor([[0.1], [0.5]]))


@pytest.mark.parametrize("solver", [EACH, TOGETHER], ids=repr)
def test_max_steps_are_enough_where_they_are_needed_and_one_less_is_not(solver):
    taken = Problem().errors(solver, points())[1]
    needed = taken.accepted + taken.rejected
    assert Problem().errors(replace(solver, max_steps=needed), points())[1] == taken
    with pytest.raises(SolverError, match="max_steps"):
        Problem().errors(replace(solver, max_steps=needed - 1), points())
