"""The error of a log-density: exactness, the standard error of estimates, the error of the solver."""

from __future__ import annotations

import copy

import pytest
import torch
from instances import affine, randomized
from scipy.stats import t as student
from torch import Tensor

from cnf import (
    CNF,
    Augment,
    Compose,
    Exact,
    Flow,
    Hutchinson,
    HutchPP,
    Inverse,
    JacobianFrobenius,
    KineticEnergy,
    MLPField,
    RandomEnd,
    RungeKutta,
    Solver,
    SolverError,
    StandardNormal,
    Torchdiffeq,
    VectorField,
    build,
    count_evaluations,
    reconfigure,
)
from cnf.continuous.twins import refined, smoothed
from cnf.discrete import (
    ExactLogDet,
    FactorOut,
    PowerSeries,
    Residual,
    RussianRoulette,
    StandardizeContext,
    with_log_det,
)
from cnf.transforms import Flatten

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")

GAUSSIAN = Hutchinson(noise="gaussian")


def flow_of(dim: int = 6, scale: float = 1.0, **settings) -> Flow:
    return Flow(CNF(randomized(MLPField(dim, hidden=(16, 16)), scale), **settings), StandardNormal(dim))


# Exactness


@pytest.mark.parametrize(
    "wrap",
    [
        lambda part: Compose([affine((3,)), part, affine((3,))]),
        Inverse,
        lambda part: Flatten(part, (1, 3)),
        lambda part: StandardizeContext(part, 2),
        lambda part: Compose([Inverse(Compose([part])), affine((3,))]),
        lambda part: FactorOut(Compose([part]), kept=2),
    ],
)
def test_exactness_travels(wrap):
    assert affine((3,)).exact
    for part, exact in (
        (CNF(MLPField(3)), True),
        (CNF(MLPField(3), Hutchinson()), False),
        (CNF(MLPField(3), HutchPP()), False),
        (Residual(3), True),
        (Residual(3, log_det=PowerSeries()), False),
        (Residual(3, log_det=RussianRoulette()), False),
    ):
        assert part.exact is wrap(part).exact is exact


def test_exactness_follows_the_settings_of_now():
    flow = build("ffjord", 3, divergence=Hutchinson(), blocks=2)
    assert not flow.exact
    assert reconfigure(flow, divergence=Exact()).exact
    assert not flow.exact
    residual = build("residual", 2)
    assert residual.exact
    assert not with_log_det(residual, PowerSeries()).exact
    assert with_log_det(with_log_det(residual, PowerSeries()), ExactLogDet()).exact


# The standard error


@pytest.mark.parametrize("probes", [3, 8, 20])
@pytest.mark.parametrize("divergence", [GAUSSIAN, Hutchinson(2)], ids=repr)
def test_the_standard_error_covers_the_exact_value_at_the_nominal_rate(probes, divergence):
    flow = flow_of(divergence=divergence).double()
    x = torch.randn(6, dtype=torch.float64)
    exact = reconfigure(flow, divergence=Exact()).log_prob(x)
    value, error, _ = flow.log_prob_with_error(x.expand(400, 6), probes=probes)
    for rate in (0.68, 0.95):
        covered = ((value - exact).abs() < student.ppf(0.5 + rate / 2, probes - 1) * error).double().mean()
        assert abs(covered - rate) < 4 * (rate * (1 - rate) / 400) ** 0.5


def test_the_value_is_unbiased_and_its_error_is_that_of_repetitions():
    flow = flow_of(divergence=GAUSSIAN).double()
    x = torch.randn(6, dtype=torch.float64)
    value, error, _ = flow.log_prob_with_error(x.expand(2000, 6), probes=4)
    exact = reconfigure(flow, divergence=Exact()).log_prob(x)
    assert abs(value.mean() - exact) < 4 * value.std() / 2000**0.5
    assert abs(error.square().mean() / value.var() - 1) < 0.15


def test_exact_flows_are_evaluated_once_and_have_no_standard_error():
    flow, x = flow_of(), torch.randn(4, 5, 6)
    with count_evaluations() as once:
        expected = flow.log_prob(x)
    flow.transform.solver = Once(flow.transform.solver)
    value, error, _ = flow.log_prob_with_error(x, probes=1)
    assert torch.equal(value, expected)
    assert (error == 0).all()
    assert flow.transform.solver.rows == [20]
    assert once.solves == 1


class Once(Solver):
    """Notes how many rows are solved."""

    def __init__(self, solver: Solver) -> None:
        self.solver, self.rows = solver, []

    def __call__(self, rhs, state, start, end, parameters=()):
        self.rows.append(len(state.x))
        return self.solver(rhs, state, start, end, parameters)

    def tighter(self) -> Solver:
        return self.solver.tighter()


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("divergence", [Exact(), GAUSSIAN], ids=repr)
def test_all_three_have_the_batch_shape_and_no_gradient(batch, divergence):
    flow = flow_of(divergence=divergence)
    for part in flow.log_prob_with_error(torch.randn(*batch, 6), probes=3):
        assert (part.shape, part.dtype, part.requires_grad) == (batch, torch.float32, False)


def test_discrete_flows_have_no_error_of_a_solver():
    exact, estimated = (build("residual", 3, log_det=log_det, blocks=2) for log_det in (None, RussianRoulette()))
    estimated.load_state_dict(randomized(exact, 2.0).state_dict())
    x = torch.randn(150, 3)
    value, error, solver = exact.log_prob_with_error(x)
    assert torch.equal(value, exact.log_prob(x))
    assert (error == 0).all()
    assert (solver == 0).all()
    value, error, solver = estimated.log_prob_with_error(x, probes=50)
    assert (solver == 0).all()
    assert ((value - exact.log_prob(x)).abs() < 4 * error + 1e-5).double().mean() > 0.97


def test_one_probe_has_no_standard_error():
    with pytest.raises(ValueError, match="probes must be a whole number from 2 to .*, got 1"):
        flow_of(divergence=GAUSSIAN).log_prob_with_error(torch.randn(6), probes=1)
    with pytest.raises(ValueError, match=r"must have shape \(\*batch, 6\)"):
        flow_of().log_prob_with_error(torch.randn(5))
    with pytest.raises(TypeError, match="RandomEnd has no tighter"):
        flow_of(solver=RandomEnd()).log_prob_with_error(torch.randn(6))


def test_a_context_is_read_by_every_probe():
    flow = Flow(CNF(randomized(MLPField(3, hidden=8, context_dim=2)), GAUSSIAN), StandardNormal(3))
    x, context = torch.randn(4, 5, 3), torch.randn(5, 2)
    value, error, solver = flow.log_prob_with_error(x, context, probes=200)
    exact = reconfigure(flow, divergence=Exact()).log_prob(x, context)
    assert ((value - exact).abs() < 4.5 * error).all()
    assert solver.max() < 1e-4


# The error of the solver


SOLVERS = [
    RungeKutta(rtol=1e-3, atol=1e-3),
    RungeKutta(rtol=1e-5, atol=1e-5),
    RungeKutta("bosh3", rtol=1e-3, atol=1e-3),
    RungeKutta("rk4", steps=2),
    RungeKutta("rk4", steps=8),
    RungeKutta("euler", steps=8),
    Torchdiffeq(rtol=1e-3, atol=1e-3),
    Torchdiffeq("rk4", steps=4),
]  # fmt: skip


def reference(flow: Flow, x: Tensor) -> Tensor:
    """Tight, in float64."""
    return reconfigure(refined(flow), solver=RungeKutta(rtol=1e-11, atol=1e-11)).log_prob(x.double())


def within_a_factor(estimate: Tensor, truth: Tensor, factor: float = 5.0) -> float:
    """The share of rows where the estimate is within the factor of the truth."""
    ratio = estimate.double() / truth
    return ((ratio > 1 / factor) & (ratio < factor)).double().mean().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.3, 0.6, 1.2])
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@torch.no_grad()
def test_the_error_of_the_solver_is_the_true_one_row_by_row(solver, scale, dtype):
    flow, x = flow_of(3, scale, solver=solver).to(dtype), 1.5 * torch.randn(300, 3, dtype=dtype)
    value, _, error = flow.log_prob_with_error(x)
    truth = (value - reference(flow, x)).abs()
    assert within_a_factor(error, truth) > 0.98
    assert 0.5 < error.double().mean() / truth.mean() < 2


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
@pytest.mark.parametrize("redraw", [False, True])
@torch.no_grad()
def test_the_error_of_the_solver_is_told_from_the_noise(noise, redraw):
    generator = torch.Generator()
    settings = {"steps": 3, "redraw": redraw} if redraw else {"rtol": 1e-3, "atol": 1e-3}
    solver = RungeKutta("rk4" if redraw else "dopri5", **settings)
    flow = flow_of(4, 1.2, divergence=Hutchinson(noise=noise, generator=generator), solver=solver).double()
    x = torch.randn(100, 4, dtype=torch.float64)
    generator.manual_seed(1)
    _, noise_error, error = flow.log_prob_with_error(x, probes=4)
    flow = smoothed(flow)
    finer = reconfigure(flow, solver=solver.tighter().tighter() if redraw else RungeKutta(rtol=1e-11, atol=1e-11))
    differences = []
    for part, sign in ((flow, 1), (finer, -1)):
        generator.manual_seed(1)
        differences.append(sign * part.log_prob(x.expand(4, 100, 4)).mean(0))
    truth = sum(differences).abs()
    assert within_a_factor(error, truth) > 0.97
    assert noise_error.median() > 20 * error.median()


@torch.no_grad()
def test_regularizers_and_noise_of_other_layers_are_no_error_of_the_solver():
    costs = {"kinetic": KineticEnergy(), "frobenius": JacobianFrobenius(probes=2)}
    parts = [Residual(4, log_det=RussianRoulette()), Augment(2), CNF(MLPField(6, hidden=8), GAUSSIAN, costs)]
    flow, x = Flow(randomized(Compose(parts)), StandardNormal(6)), torch.randn(50, 4)
    _, noise, error = flow.log_prob_with_error(x)
    assert noise.median() > 0.05
    assert error.max() < 1e-4


def test_a_kinked_field_has_an_error_where_it_can_be_solved():
    class Kinked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))

        def forward(self, t, x, context=None):
            return self.layers(x)

    flow, x = Flow(CNF(Kinked(), solver=RungeKutta("rk4", steps=8)), StandardNormal(2)), torch.randn(60, 2)
    value, _, error = flow.log_prob_with_error(x)
    truth = (value - reconfigure(refined(flow), solver=RungeKutta("rk4", steps=200)).log_prob(x.double())).abs()
    assert 0.2 < error.double().mean() / truth.mean() < 5


def test_measuring_changes_nothing():
    flow = flow_of(divergence=Hutchinson(generator=torch.Generator()))
    before, solver = copy.deepcopy(flow.state_dict()), flow.transform.solver
    flow.log_prob_with_error(torch.randn(5, 6))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), flow.state_dict().values(), strict=True))
    assert flow.transform.solver is solver
    assert all(parameter.dtype == torch.float32 for parameter in flow.parameters())


class Rank(VectorField):
    """A linear field whose Jacobian has rank one: the estimates of its trace are as skewed as they can be."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.context_dim, self.direction = (
            0,
            torch.nn.functional.normalize(torch.randn(dim, dtype=torch.float64), dim=0),
        )

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return (x @ self.direction).unsqueeze(1) * self.direction


@pytest.mark.parametrize("probes", [2, 3, 8])
@pytest.mark.parametrize("divergence", [Hutchinson(), Hutchinson(2, "orthogonal"), HutchPP(3)], ids=repr)
@pytest.mark.parametrize("dim", [2, 3, 10])
def test_the_standard_error_covers_in_few_dimensions_with_few_probes(dim, divergence, probes):
    flow = Flow(CNF(Rank(dim), divergence, solver=RungeKutta("euler", steps=1)), StandardNormal(dim)).double()
    x, rows = torch.randn(dim, dtype=torch.float64), 4000
    exact = reconfigure(flow, divergence=Exact()).log_prob(x)
    value, error, _ = flow.log_prob_with_error(x.expand(rows, dim), probes=probes)
    covered = ((value - exact).abs() < student.ppf(0.975, probes - 1) * error).double().mean()
    assert error.min() > 0
    assert 0.93 - 3 * 0.0035 < covered < 0.97 + 3 * 0.0035
    assert abs(value.mean() - exact) < 4 * value.std() / rows**0.5


@pytest.mark.parametrize("log_det", [PowerSeries(2), RussianRoulette()], ids=repr)
def test_the_standard_error_of_a_series_covers_the_exact_value(log_det):
    torch.manual_seed(1)
    layer = randomized(Residual(2, hidden=(16, 16), lipschitz=0.9, log_det=log_det), 10.0)
    flow, x = Flow(layer, StandardNormal(2)).double(), torch.randn(2, dtype=torch.float64)
    exact = with_log_det(flow, ExactLogDet()).log_prob(x)
    value, error, _ = flow.log_prob_with_error(x.expand(2000, 2), probes=3)
    covered = ((value - exact).abs() < student.ppf(0.975, 2) * error).double().mean()
    assert error.min() > 0
    assert 0.93 - 3 * 0.005 < covered < 0.97 + 3 * 0.005
    assert layer.log_det == log_det


def test_a_field_with_numbers_of_its_own_is_refined_in_the_dtype_of_the_flow():
    class Embedded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.frequencies = torch.nn.Linear(6, 2), torch.arange(4.0)

        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            time = (t.float() * self.frequencies).sin().expand(len(x), 4)
            return self.layer(torch.cat([x, time], 1)).tanh()

    flow = Flow(CNF(Embedded()), StandardNormal(2))
    value, error, of_solver = flow.log_prob_with_error(torch.randn(5, 2))
    assert (error == 0).all()
    assert (of_solver < 1e-4).all()
    assert value.dtype == torch.float32


def test_rows_that_fail_are_numbered_as_they_were_given():
    flow = flow_of(2, 3.0, divergence=Hutchinson(), solver=RungeKutta("dopri5", max_steps=1))
    with pytest.raises(SolverError) as caught:
        flow.log_prob_with_error(torch.randn(3, 2))
    assert set(caught.value.samples) <= {0, 1, 2}
    with pytest.raises(SolverError) as caught:
        flow.log_prob_with_error(torch.randn(2, 3, 2), probes=3)
    assert set(caught.value.samples) <= set(range(6))
    assert len(caught.value.samples) == len(set(caught.value.samples))


def test_half_a_probe_is_refused():
    with pytest.raises(TypeError, match=r"probes must be a whole number .*, got 2.5"):
        flow_of(divergence=Hutchinson()).log_prob_with_error(torch.randn(3, 6), probes=2.5)
    with pytest.raises(TypeError, match=r"probes must be a whole number .*, got True"):
        flow_of(divergence=Hutchinson()).log_prob_with_error(torch.randn(3, 6), probes=True)


def test_a_random_end_is_not_exact():
    assert not flow_of(solver=RandomEnd()).exact
