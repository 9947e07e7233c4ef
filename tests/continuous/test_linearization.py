"""Velocity, products, Jacobian, trace and derivatives in time of every field against automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from instances import FIELDS, Instance, cases
from torch import Tensor, nn
from torch.func import jacrev, vmap

from cnf import RungeKutta
from cnf.continuous.chains import ChainLinearization
from cnf.continuous.fields import MLPField, ModuleField, PlanarField, VectorField
from cnf.continuous.fields.planar import PlanarLinearization
from cnf.continuous.linearization import CHUNK, Linearization
from cnf.continuous.solvers import State

N = 4
every = pytest.mark.parametrize(("instance", "context_dim"), cases(FIELDS))
each_time = pytest.mark.parametrize("times", [(), (N,)], ids=["scalar", "rows"])


@pytest.fixture
def field(instance: Instance, context_dim: int) -> VectorField:
    return instance.make(context_dim).double()


@pytest.fixture
def x(instance: Instance) -> Tensor:
    return torch.randn(N, *instance.event_shape, dtype=torch.float64)


@pytest.fixture
def t(times: tuple[int, ...]) -> Tensor:
    return torch.rand(times, dtype=torch.float64)


@pytest.fixture
def context(context_dim: int) -> Tensor | None:
    return torch.randn(N, context_dim, dtype=torch.float64) if context_dim else None


def jacobians(field: VectorField, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
    """`∂f/∂x` by reverse mode, a row at a time: `(N, D, D)`."""
    size = x[0].numel()

    def row(t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        return field(t[None], x[None], None if context is None else context[None])[0]

    over_context = None if context is None else 0
    full = vmap(jacrev(row, argnums=1), in_dims=(0, 0, over_context))(t.expand(N), x, context)
    return full.reshape(N, size, size)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@every
@each_time
def test_the_linearization_is_that_of_automatic_differentiation(field, t, x, context):
    expected = jacobians(field, t, x, context)
    v = torch.randn(3, *x.shape, dtype=torch.float64)
    at = field.linearize(t, x, context)
    assert close(at.velocity, field(t, x, context))
    assert close(at.trace(), expected.diagonal(dim1=1, dim2=2).sum(1))
    assert close(at.jacobian, expected)
    assert close(at.jvp(v).flatten(2), torch.einsum("nij,knj->kni", expected, v.flatten(2)))
    assert close(at.vjp(v).flatten(2), torch.einsum("nij,kni->knj", expected, v.flatten(2)))
    assert close(at.jvp(v[:1]).flatten(2), torch.einsum("nij,knj->kni", expected, v[:1].flatten(2)))
    assert expected.diagonal(dim1=1, dim2=2).sum(1).abs().min() > 1e-4


@every
@each_time
def test_what_is_prepared_for_a_solve_changes_nothing(field, t, x, context):
    for trace in (False, True):
        prepared = field.prepare(context, trace=trace)
        at, plain = field.linearize(t, x, context, prepared), field.linearize(t, x, context)
        assert close(field.velocity(t, x, context, prepared), plain.velocity)
        assert close(at.velocity, plain.velocity)
        assert close(at.trace(), plain.trace())


@every
def test_the_gradient_of_the_trace_is_that_of_the_autodiff_trace(field, x, context):
    t = torch.tensor(0.3, dtype=torch.float64)
    x.requires_grad_()
    wanted = [x, *field.parameters()]
    weights = torch.arange(1, N + 1, dtype=torch.float64)
    ours = (field.linearize(t, x, context, field.prepare(context, trace=True)).trace() * weights).sum()
    theirs = (jacobians(field, t, x, context).diagonal(dim1=1, dim2=2).sum(1) * weights).sum()
    for a, b in zip(
        torch.autograd.grad(ours, wanted, materialize_grads=True, allow_unused=True),
        torch.autograd.grad(theirs, wanted, materialize_grads=True, allow_unused=True),
        strict=True,
    ):
        assert close(a, b, 1e-11)


def along(g, field: VectorField, context: Tensor | None):
    """`∂g/∂t + (∂g/∂x) f` by reverse mode."""

    def derivative(t: Tensor, x: Tensor) -> Tensor:
        in_t, in_x = jacrev(g, argnums=(0, 1))(t, x)
        velocity = field(t, x, context)
        return in_t + (in_x.flatten(x.dim()) @ velocity.flatten())

    return derivative


DEEP = {name: field for name, field in FIELDS.items() if not name.startswith("mlp") or name.endswith("-2")}


@pytest.mark.parametrize(("instance", "context_dim"), cases(DEEP))
@pytest.mark.parametrize("grad", [True, False])
def test_derivatives_in_time_are_those_of_reverse_mode(field, x, context, grad):
    t, x = torch.tensor(0.3, dtype=torch.float64), x[:2]
    context = None if context is None else context[:2]
    expected = lambda t, x: field(t, x, context)  # noqa: E731
    for order in (1, 2, 3):
        with torch.set_grad_enabled(grad):
            ours = field.derivative(order, t, x, context, field.prepare(context))
        theirs = expected(t, x)
        assert close(ours, theirs, 1e-10)
        assert theirs.abs().max() > 1e-4
        expected = along(expected, field, context)


SMOOTH = {name: FIELDS[name] for name in (
    "mlp-tanh-concat-2", "mlp-silu-concatsquash-3", "mlp-softplus-concat-residual-2", "mlp-bottleneck", "potential-2",
    "planar", "conv", "module",
)}  # fmt: skip


@pytest.mark.parametrize(("instance", "context_dim"), cases(SMOOTH))
@each_time
def test_derivatives_in_time_are_those_of_the_trajectory(field, t, x, context):
    """Differences of the velocity along a tight solve, at a time of its own for each row."""

    def velocity(seconds: float) -> Tensor:
        def rhs(s, x):
            return State(field(t + s, x, context))

        moved = RungeKutta(rtol=1e-13, atol=1e-13)(rhs, State(x), 0.0, seconds).state.x
        return field(t + seconds, moved, context)

    h = 0.004
    with torch.no_grad():
        back, backward, here, forward, ahead = (velocity(i * h) for i in (-2, -1, 0, 1, 2))
    differences = {
        1: here,
        2: (8 * (forward - backward) - (ahead - back)) / (12 * h),
        3: (16 * (forward + backward) - 30 * here - (ahead + back)) / (12 * h * h),
    }
    for order, difference in differences.items():
        derivative = field.derivative(order, t, x, context)
        assert (derivative - difference).abs().max() < 1e-5 * difference.abs().max()


def test_the_derivatives_of_a_linear_field_are_powers_of_its_matrix():
    matrix, offset = torch.randn(3, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)

    class Linear(nn.Module):
        def forward(self, t, x, context=None):
            return x @ matrix.mT + offset

    x = torch.randn(N, 3, dtype=torch.float64)
    field, t = ModuleField(Linear()), torch.tensor(0.2).double()
    for order in range(1, 6):
        power = torch.linalg.matrix_power(matrix, order - 1)
        assert close(field.derivative(order, t, x), (x @ matrix.mT + offset) @ power.mT)


@each_time
def test_the_derivatives_of_a_field_that_changes_with_time_are_known(t):
    """`dx/dt = a x`, `a = cos 5t`: the second is `(ȧ + a²) x`, the third `(ä + 3 a ȧ + a³) x`."""

    class Wave(nn.Module):
        def forward(self, t, x, context=None):
            return torch.cos(5 * t).reshape(-1, 1) * x

    x = torch.randn(N, 2, dtype=torch.float64)
    a, slope, bend = torch.cos(5 * t), -5 * torch.sin(5 * t), -25 * torch.cos(5 * t)
    field = ModuleField(Wave())
    assert close(field.derivative(2, t, x), (slope + a**2).reshape(-1, 1) * x)
    assert close(field.derivative(3, t, x), (bend + 3 * a * slope + a**3).reshape(-1, 1) * x)


def test_a_derivative_in_time_needs_the_field():
    x = torch.randn(5, 3)
    at = ChainLinearization(x, x, [torch.randn(4, 3), torch.randn(3, 4)], [torch.randn(5, 4)])
    assert at.derivative(1) is x
    with pytest.raises(TypeError, match=r"ChainLinearization knows .* make it with field.at\(t, x\)"):
        at.derivative(2)


@pytest.mark.parametrize("t", [torch.tensor(0.4), torch.rand(N)], ids=["scalar", "rows"])
def test_a_scalar_time_is_the_same_time_for_every_row(t):
    for name in ("mlp-tanh-concatsquash-2", "potential-2", "planar", "conv"):
        field = FIELDS[name].make(0)
        x = torch.randn(N, *FIELDS[name].event_shape)
        rows = torch.cat([field(time, row[None]) for time, row in zip(t.expand(N), x, strict=True)])
        assert torch.allclose(field(t, x), rows, atol=1e-6)


def test_more_dimensions_than_a_chunk_are_traced_in_parts():
    dim = CHUNK + 9
    weight = torch.randn(dim, dim, dtype=torch.float64)

    class Wide(nn.Module):
        def forward(self, t, x, context=None):
            return torch.sin(x @ weight.mT)

    x = torch.randn(2, dim, dtype=torch.float64)
    at = ModuleField(Wide()).linearize(torch.zeros(()), x)
    expected = torch.cos(x @ weight.mT).unsqueeze(-1) * weight
    assert close(at.jacobian, expected, 1e-11)
    assert close(at.trace(), expected.diagonal(dim1=1, dim2=2).sum(1), 1e-11)


class Counting(ChainLinearization):
    """Counts the products that are really made."""

    products = 0

    def pushforward(self, v: Tensor) -> Tensor:
        self.products += len(v)
        return super().pushforward(v)


def test_a_product_asked_for_twice_is_made_once():
    x = torch.randn(5, 3)
    at = Counting(x, x, [torch.randn(4, 3), torch.randn(3, 4)], [torch.randn(5, 4)])
    v = torch.randn(2, 5, 3)
    assert at.jvp(v) is at.jvp(v)
    assert at.products == 2
    at.jvp(v.clone())
    assert at.products == 4
    at.jvp(v)
    assert at.products == 4


@pytest.mark.parametrize("depth", [1, 2])
def test_the_closed_form_trace_makes_no_products_in_any_dimension(depth, monkeypatch):
    def forbidden(*args):
        raise AssertionError("the closed form needs no product")

    monkeypatch.setattr(ChainLinearization, "pushforward", forbidden)
    monkeypatch.setattr(ChainLinearization, "_trace_by_tangents", forbidden)
    for time in ("concat", "concatsquash"):
        field = FIELDS[f"mlp-tanh-{time}-residual-{depth}"].make(2)
        field.linearize(torch.tensor(0.5), torch.randn(N, 3), torch.randn(N, 2)).trace()


def test_a_chain_with_a_gate_for_each_row_has_the_right_trace():
    weights = [torch.randn(4, 3), torch.randn(4, 4), torch.randn(3, 4)]
    scales = [torch.randn(N, 4), torch.randn(N, 4)]
    x, gate = torch.randn(N, 3), torch.rand(N, 3)
    at = ChainLinearization(x, x, weights, scales, gate=gate)
    assert torch.allclose(at.trace(), at.jacobian.diagonal(dim1=1, dim2=2).sum(1), atol=1e-5)


def test_second_derivatives_of_a_user_module_are_right():
    class Cubic(nn.Module):
        def forward(self, t, x, context=None):
            return x**3

    field = ModuleField(Cubic())
    x = torch.randn(N, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(field.linearize(torch.zeros(()), x).trace().sum(), x)
    assert close(gradient, 6 * x)


@pytest.mark.parametrize(
    "field",
    [
        MLPField(8, hidden=5, time="concatsquash"), MLPField(8, hidden=(5, 4, 3), time="concatsquash"),
        MLPField(8, hidden=(5, 4)), PlanarField(8, units=3),
    ], ids=repr,
)  # fmt: skip
def test_a_time_for_each_row_takes_no_products_with_basis_vectors(field, monkeypatch):
    x, t = torch.randn(N, 8), torch.rand(N)
    at = field.linearize(t, x)
    expected = at.jacobian.diagonal(dim1=1, dim2=2).sum(1)
    monkeypatch.setattr(Linearization, "pushforward", None)
    for kind in (ChainLinearization, PlanarLinearization):
        monkeypatch.setattr(kind, "pushforward", None)
    monkeypatch.setattr(ChainLinearization, "_trace_by_tangents", None)
    assert torch.allclose(at.trace(), expected, atol=1e-5)


def test_linearization_is_an_interface():
    with pytest.raises(TypeError, match="abstract"):
        Linearization(torch.zeros(1, 2))
