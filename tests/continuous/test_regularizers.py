"""Path costs: their values along known paths, and that they are free of side effects on the solve."""

from __future__ import annotations

import pytest
import torch
from instances import FIELDS, TIGHT, randomized
from torch import Tensor, nn

from cnf import (
    CNF,
    Bottleneck,
    Compose,
    DirectionalJacobian,
    Exact,
    HamiltonJacobi,
    HigherDerivative,
    Hutchinson,
    HutchPP,
    JacobianFrobenius,
    KineticEnergy,
    PotentialField,
    Regularizer,
    RungeKutta,
    Torchdiffeq,
    count_evaluations,
    reconfigure,
)
from cnf.continuous.chains import ChainLinearization
from cnf.continuous.fields import mlp
from cnf.continuous.linearization import Linearization
from cnf.continuous.regularizers import REGULARIZERS

N = 5


class Linear(nn.Module):
    """`dx/dt = A x + b`."""

    def __init__(self, matrix: Tensor, offset: Tensor | float = 0.0) -> None:
        super().__init__()
        self.matrix, self.offset = matrix, offset

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x @ self.matrix.mT + self.offset


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def z_score(values: Tensor, expected: Tensor) -> float:
    return ((values.mean() - expected) / (values.std() / len(values) ** 0.5)).abs().item()


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_the_kinetic_energy_of_a_constant_velocity_is_its_square(direction):
    velocity = draw(3)
    cnf = CNF(Linear(torch.zeros(3, 3).double(), velocity), regularizers={"kinetic": KineticEnergy()})
    costs = getattr(cnf, direction)(draw(N, 3)).costs
    assert torch.allclose(costs["kinetic"], velocity.square().sum().expand(N))


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(20_000)], ids=["exact", "probes"])
def test_the_frobenius_cost_of_a_linear_field_is_the_norm_of_its_matrix(divergence):
    matrix = draw(3, 3)
    cnf = CNF(Linear(matrix), divergence, {"frobenius": JacobianFrobenius()}, RungeKutta("rk4", steps=1))
    cost = cnf.encode(draw(2, 3)).costs["frobenius"]
    assert torch.allclose(cost, matrix.square().sum().expand(2), rtol=1e-12 if divergence.exact else 0.05)


@pytest.mark.parametrize("divergence", [Hutchinson(), Hutchinson(2, "gaussian"), HutchPP()], ids=repr)
@pytest.mark.parametrize("probes", [None, 1, 3])
def test_the_frobenius_estimate_is_unbiased(divergence, probes):
    matrix = draw(3, 3)
    cnf = CNF(Linear(matrix), divergence, {"frobenius": JacobianFrobenius(probes)}, RungeKutta("euler", steps=1))
    cost = cnf.encode(draw(20_000, 3)).costs["frobenius"]
    assert cost.std() > 0.05
    assert z_score(cost, matrix.square().sum()) < 4


def test_exact_divergence_with_frobenius_probes_is_unbiased_and_random():
    matrix = draw(3, 3)
    costs = {"frobenius": JacobianFrobenius(probes=1)}
    cost = CNF(Linear(matrix), Exact(), costs, RungeKutta("euler", steps=1)).encode(draw(20_000, 3)).costs["frobenius"]
    assert cost.std() > 0.05
    assert z_score(cost, matrix.square().sum()) < 4


def test_the_frobenius_norm_has_probes_of_its_own_where_the_divergence_has_hidden_ones():
    field, x = FIELDS["mlp-bottleneck"].make(0).double(), draw(3)
    costs = {"frobenius": JacobianFrobenius()}
    solver = RungeKutta("rk4", steps=2)
    exact = CNF(field, Exact(), costs, solver).encode(x[None]).costs["frobenius"]
    with torch.no_grad():
        one, four = (
            CNF(field, Bottleneck(2, probes), costs, solver).encode(x.expand(5000, 3)).costs["frobenius"]
            for probes in (1, 4)
        )
    assert z_score(one, exact) < 4
    assert z_score(four, exact) < 4
    assert 0.2 < four.var() / one.var() < 0.3


def test_a_regularizer_never_sees_a_probe_that_does_not_fit():
    seen = []

    class Seeing(Regularizer):
        def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
            seen.append(probe)
            return linearization.velocity.sum(1)

    field = FIELDS["mlp-bottleneck"].make(0)
    for divergence in (Bottleneck(2), Hutchinson(4)):
        CNF(field, divergence, {"seeing": Seeing()}, RungeKutta("euler", steps=1)).encode(torch.randn(N, 3))
    assert seen[0] is None
    assert seen[1].shape == (4, N, 3)


class Counting(ChainLinearization):
    products = 0

    def pushforward(self, v: Tensor) -> Tensor:
        Counting.products += len(v)
        return super().pushforward(v)


@pytest.mark.parametrize(("frobenius", "products"), [(JacobianFrobenius(), 2), (JacobianFrobenius(probes=3), 3)])
def test_trace_and_frobenius_norm_share_the_product(frobenius, products, monkeypatch):
    """With probes of its own, the norm's are the only full ones: the trace has its quadratic form."""
    monkeypatch.setattr(mlp, "ChainLinearization", Counting)
    monkeypatch.setattr(Counting, "products", 0)
    field, costs = FIELDS["mlp-tanh-concat-3"].make(0), {"frobenius": frobenius}
    CNF(field, Hutchinson(2), costs, RungeKutta("euler", steps=7)).encode(torch.randn(N, 3))
    assert Counting.products == 7 * products


def test_another_product_between_them_does_not_part_trace_and_frobenius_norm(monkeypatch):
    monkeypatch.setattr(mlp, "ChainLinearization", Counting)
    monkeypatch.setattr(Counting, "products", 0)
    field, costs = FIELDS["mlp-tanh-concat-3"].make(0), {"d": DirectionalJacobian(), "f": JacobianFrobenius()}
    CNF(field, Hutchinson(2), costs, RungeKutta("euler", steps=7)).encode(torch.randn(N, 3))
    assert Counting.products == 7 * 3


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_higher_derivatives_of_a_rotation_keep_their_length(order):
    matrix = draw(3, 3)
    matrix = (matrix - matrix.mT) / matrix.norm()
    cnf, x = CNF(Linear(matrix), Exact(), {"d": HigherDerivative(order)}, RungeKutta(steps=4)), draw(N, 3)
    expected = (x @ torch.linalg.matrix_power(matrix, order).mT).square().sum(1)
    assert torch.allclose(cnf.encode(x).costs["d"], expected, rtol=1e-5)
    assert torch.allclose(cnf.decode(x).costs["d"], expected, rtol=1e-5)


class Falling(nn.Module):
    """`dx/dt = g t`: all of its acceleration is of time."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 3 * t.reshape(-1, 1) + 0 * x


def test_acceleration_of_time_is_in_the_derivative_and_not_in_the_directional_jacobian():
    costs = {"total": HigherDerivative(), "directional": DirectionalJacobian(), "jerk": HigherDerivative(3)}
    total, directional, jerk = CNF(Falling(), regularizers=costs).encode(draw(N, 2)).costs.values()
    assert torch.allclose(total, torch.tensor(18.0).double().expand(N))
    assert directional.abs().max() == jerk.abs().max() == 0


@pytest.mark.parametrize("name", ["mlp-tanh-concat-2", "potential-2", "planar", "conv", "module"])
def test_the_directional_jacobian_is_the_jacobian_times_the_velocity(name):
    field = FIELDS[name].make(0).double()
    at = field.linearize(torch.tensor(0.3).double(), draw(N, *FIELDS[name].event_shape))
    expected = torch.einsum("nij,nj->ni", at.jacobian, at.velocity.flatten(1)).square().sum(1)
    assert torch.allclose(DirectionalJacobian()(at, None), expected)


def test_the_first_derivative_is_the_kinetic_energy():
    at = FIELDS["mlp-tanh-concat-2"].make(0).linearize(torch.tensor(0.3), torch.randn(N, 3))
    assert torch.equal(HigherDerivative(1)(at, None), KineticEnergy()(at, None))


@pytest.mark.parametrize("order", [0, 2.5])
def test_an_order_that_is_no_number_of_derivatives_is_refused(order):
    with pytest.raises((ValueError, TypeError), match=f"order must be a whole number from 1 to .*, got {order}"):
        HigherDerivative(order)


SMOOTHING = [HigherDerivative(2), HigherDerivative(3), DirectionalJacobian()]


@pytest.mark.parametrize("regularizer", SMOOTHING, ids=repr)
@pytest.mark.parametrize(
    "name",
    ["mlp-tanh-concat-2", "mlp-silu-concatsquash-3", "mlp-softplus-concat-residual-2", "potential-2", "planar",
     "conv", "module"],
)  # fmt: skip
def test_gradients_of_smoothing_costs_are_those_of_finite_differences(regularizer, name):
    instance = FIELDS[name]
    field = instance.make(2).double()
    x, context = draw(N, *instance.event_shape).requires_grad_(), draw(N, 2).requires_grad_()
    wanted = [x, context, *field.parameters()]
    cnf = CNF(field, Exact(), {"cost": regularizer}, RungeKutta("rk4", steps=1))

    def cost() -> Tensor:
        return cnf.encode(x, context).costs["cost"].sum()

    gradients = torch.autograd.grad(cost(), wanted, materialize_grads=True, allow_unused=True)
    directions = [torch.randn_like(tensor) for tensor in wanted]
    values, h = [], 1e-4
    with torch.no_grad():
        for step in (-2, 1, 2, 1):  # now at −2, −1, 1, 2 times h
            for tensor, direction in zip(wanted, directions, strict=True):
                tensor += step * h * direction
            values.append(cost().item())
    difference = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * h)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()
    assert slope == pytest.approx(difference, rel=1e-6)
    assert abs(slope) > 1e-3


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [(Torchdiffeq("rk4", steps=12), 1e-3), (RungeKutta("rk4", steps=12, gradient="checkpoint"), 1e-12)],
)
def test_smoothing_costs_go_with_every_gradient(solver, tolerance):
    field, x = FIELDS["mlp-silu-concatsquash-2"].make(0).double(), draw(N, 3)
    reference = CNF(field, Exact(), {str(r): r for r in SMOOTHING}, RungeKutta("rk4", steps=12))
    gradients = []
    for cnf in (reference, reconfigure(reference, solver=solver)):
        loss = sum(cost.sum() for cost in cnf.encode(x).costs.values())
        gradients.append(torch.autograd.grad(loss, list(field.parameters())))
    for theirs, ours in zip(*gradients, strict=True):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def hamilton_jacobi(field: PotentialField) -> CNF:
    return CNF(field, regularizers={"hjb": HamiltonJacobi()}, solver=TIGHT).double()


def test_the_hamilton_jacobi_cost_of_straight_transport_is_zero():
    field, velocity = randomized(PotentialField(3, hidden=4)), torch.randn(3)
    with torch.no_grad():  # Φ = −v·x + ½ ‖v‖² t moves everything by v
        field.weight.zero_(), field.quadratic.zero_()
        field.linear.weight.copy_(torch.cat([-velocity, velocity.square().sum()[None] / 2]))
    z = draw(N, 3)
    x, _, costs = hamilton_jacobi(field).decode(z)
    assert torch.allclose(x - z, velocity.double().expand(N, 3))
    assert costs["hjb"].abs().max() < 1e-7
    with torch.no_grad():
        field.linear.weight[0, 3] += 0.25
    assert torch.allclose(hamilton_jacobi(field).decode(z).costs["hjb"], torch.full((N,), 0.25).double())


def test_the_hamilton_jacobi_integrand_is_the_residual_of_the_equation():
    field = randomized(PotentialField(3, hidden=6, depth=2, context_dim=1)).double()
    t, x, context = torch.rand(N).double().requires_grad_(), draw(N, 3).requires_grad_(), draw(N, 1)
    in_x, in_t = torch.autograd.grad(field.potential(t, x, context).sum(), [x, t])
    residual = (in_t - 0.5 * in_x.square().sum(1)).abs()
    assert torch.allclose(HamiltonJacobi()(field.linearize(t, x, context), None), residual, atol=1e-12)


def test_hamilton_jacobi_needs_a_potential():
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0), regularizers={"hjb": HamiltonJacobi()})
    with pytest.raises(TypeError, match="build the CNF on a PotentialField"):
        cnf.encode(torch.randn(N, 3))


ALL = {name: regularizer() for name, regularizer in REGULARIZERS.items()}


def test_costs_are_positive_and_the_same_in_both_directions():
    cnf = CNF(randomized(PotentialField(3, hidden=6)), regularizers=ALL, solver=TIGHT).double()
    z, _, forth = cnf.encode(draw(N, 3))
    _, _, back = cnf.decode(z)
    assert list(forth) == list(back) == list(ALL)
    for name in ALL:
        assert (forth[name] > 1e-3).all()
        assert torch.allclose(forth[name], back[name], rtol=1e-2)


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson()], ids=repr)
def test_costs_change_neither_the_steps_nor_the_map(divergence):
    field, x = randomized(PotentialField(3, hidden=6), 1.5).double(), draw(N, 3)
    mapped, counts = [], []
    for costs in ({}, ALL):
        torch.manual_seed(1)
        with count_evaluations() as count:
            mapped.append(CNF(field, divergence, costs).encode(x))
        counts.append((count.evaluations, count.accepted, count.rejected))
    assert counts[0] == counts[1]
    assert torch.equal(mapped[0].value, mapped[1].value)
    assert torch.equal(mapped[0].log_det, mapped[1].log_det)


def test_costs_are_the_integrals_of_their_integrands_along_the_path():
    cnf = CNF(randomized(PotentialField(3, hidden=6)), regularizers=ALL, solver=TIGHT).double()
    z, times = draw(N, 3), (torch.arange(60) + 0.5).double() / 60
    costs = cnf.decode(z).costs
    along = [cnf.field.at(t, x) for t, x in zip(times, cnf.path(z, times), strict=True)]
    for name, regularizer in ALL.items():
        midpoints = torch.stack([regularizer(at, None) for at in along]).mean(0)
        assert torch.allclose(costs[name], midpoints, rtol=5e-3)


def test_costs_of_composed_cnfs_add_up():
    cnf = CNF(randomized(PotentialField(3, hidden=6)), regularizers=ALL, solver=TIGHT).double()
    x = draw(N, 3)
    first = cnf.encode(x)
    second, both = cnf.encode(first.value), Compose([cnf, cnf]).encode(x)
    for name in ALL:
        assert torch.allclose(both.costs[name], first.costs[name] + second.costs[name])


def test_costs_have_gradients():
    field = randomized(PotentialField(3, hidden=6))
    for cost in CNF(field, regularizers=ALL).encode(torch.randn(N, 3)).costs.values():
        gradients = torch.autograd.grad(cost.sum(), list(field.parameters()), allow_unused=True, retain_graph=True)
        assert sum(g.abs().sum() for g in gradients if g is not None) > 0
