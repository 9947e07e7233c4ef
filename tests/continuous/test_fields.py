"""Fields: their formulas, their derivatives' closed forms that are theirs alone, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from instances import FIELDS, UserField, randomized
from torch import nn

from cnf import CNF, ConvField, MLPField, PlanarField, PotentialField
from cnf.continuous.fields import ModuleField
from cnf.networks import ACTIVATIONS

N = 4


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_the_derivatives_of_their_activations(name):
    a = torch.linspace(-30, 30, 601, dtype=torch.float64, requires_grad=True)
    h, slope = ACTIVATIONS[name].with_slope(a)
    (expected,) = torch.autograd.grad(ACTIVATIONS[name].value(a).sum(), a)
    assert torch.allclose(h, ACTIVATIONS[name].value(a), rtol=1e-14, atol=1e-14)
    assert torch.allclose(slope, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("residual", [False, True])
def test_concat_reads_x_then_time_then_context(residual):
    field = randomized(MLPField(3, hidden=(5, 5), context_dim=2, activation="softplus", residual=residual)).double()
    t, x, context = draw(N), draw(N, 3), draw(N, 2)
    first, second, third = field.layers
    h = nn.functional.softplus(first(torch.cat([x, t[:, None], context], 1)))
    h = nn.functional.softplus(second(h)) + (h if residual else 0)
    assert torch.allclose(field(t, x, context), third(h), atol=1e-14)


def test_concatsquash_is_the_layer_of_ffjord():
    field = randomized(MLPField(3, hidden=(5,), context_dim=0, activation="tanh", time="concatsquash")).double()
    t, h = draw(N), draw(N, 3)
    x = h
    for i, (layer, gate, shift) in enumerate(zip(field.layers, field.gates, field.shifts, strict=True)):
        h = layer(h.tanh() if i else h) * gate(t[:, None]).sigmoid() + shift(t[:, None])
    assert torch.allclose(field(t, x), h, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("context_dim", [0, 2])
def test_a_potential_field_is_minus_the_gradient_of_its_potential(depth, context_dim):
    field = randomized(PotentialField(3, hidden=6, depth=depth, context_dim=context_dim)).double()
    t, x = draw(N).requires_grad_(), draw(N, 3).requires_grad_()
    context = draw(N, context_dim) if context_dim else None
    in_x, in_t = torch.autograd.grad(field.potential(t, x, context).sum(), [x, t])
    at = field.linearize(t, x, context)
    assert torch.allclose(field(t, x, context), -in_x, rtol=0, atol=1e-12)
    assert torch.allclose(at.time_derivative, in_t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_trace_of_a_potential_field_is_minus_the_laplacian(depth):
    field = randomized(PotentialField(3, hidden=6, depth=depth)).double()
    t, x = torch.tensor(0.3, dtype=torch.float64), draw(N, 3)
    rows = [torch.autograd.functional.hessian(lambda y: field.potential(t, y[None])[0], row) for row in x]
    at = field.linearize(t, x)
    v = draw(2, N, 3)
    assert torch.allclose(at.trace(), -torch.stack([row.trace() for row in rows]), rtol=0, atol=1e-12)
    assert torch.allclose(at.jvp(v), -torch.einsum("nij,knj->kni", torch.stack(rows), v), rtol=0, atol=1e-12)
    assert torch.equal(at.vjp(v), at.jvp(v))


def test_the_potential_is_that_of_ot_flow():
    field = randomized(PotentialField(2, hidden=4, depth=2, rank=3)).double()
    t, x = draw(1), draw(1, 2)
    s = torch.cat([x[0], t])
    u = (2 * torch.cosh(field.layers[0](s))).log()
    for layer in field.layers[1:]:
        u = u + 0.5 * (2 * torch.cosh(layer(u))).log()
    expected = field.weight @ u + 0.5 * s @ field.quadratic.mT @ field.quadratic @ s + field.linear(s)[0]
    assert torch.allclose(field.potential(t, x)[0], expected, atol=1e-13)


def test_the_published_toy_potential_has_1229_parameters():
    assert sum(p.numel() for p in PotentialField(2, hidden=32).parameters()) == 1229


@pytest.mark.parametrize(("dim", "rank"), [(2, 3), (9, 10), (30, 10)])
def test_the_default_rank_is_the_published_one(dim, rank):
    assert PotentialField(dim, hidden=4).quadratic.shape == (rank, dim + 1)


def test_a_potential_survives_large_inputs():
    field = randomized(PotentialField(2, hidden=6))
    assert field.potential(torch.tensor(0.0), torch.full((1, 2), 1e4)).isfinite().all()


def test_a_potential_is_smooth_where_its_layers_are_at_zero():
    field = PotentialField(2, hidden=3).double()
    for name, parameter in field.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    t, x = torch.zeros((), dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    at, near = (torch.autograd.functional.hessian(lambda x: field.potential(t, x).sum(), x + e) for e in (0.0, 1e-6))
    assert torch.allclose(at, near, atol=1e-5)


def test_a_planar_field_is_the_mean_of_gated_planar_units():
    field = randomized(PlanarField(2, units=3, hidden=5, context_dim=2), 2.0).double()
    t, x, context = torch.tensor(0.6, dtype=torch.float64), draw(N, 2), draw(N, 2)
    w, u, gate, b = field.hyper(t[None]).split([6, 6, 6, 3])
    total = torch.zeros(N, 2, dtype=torch.float64)
    for m in range(3):
        unit = slice(2 * m, 2 * m + 2)
        a = x @ w[unit] + b[m] + context @ field.conditional.weight[m]
        total += a.tanh()[:, None] * u[unit] * gate[unit].sigmoid() / 3
    assert torch.allclose(field(t, x, context), total, atol=1e-14)


def test_a_conv_field_is_convolutions_with_a_gate_and_a_shift_a_channel():
    field = randomized(ConvField((2, 4, 3), hidden=(5,), context_dim=1, activation="tanh")).double()
    t, x, context = draw(N), draw(N, 2, 4, 3), draw(N, 1)
    read = torch.cat([t[:, None], context], 1)
    h = x
    for i in range(2):
        h = field.layers[i](h.tanh() if i else h)
        h = h * field.gates[i](read).sigmoid()[:, :, None, None] + field.shifts[i](read)[:, :, None, None]
    assert torch.allclose(field(t, x, context), h, atol=1e-14)


def test_a_cnf_wraps_any_module():
    field = CNF(UserField(0)).field
    assert isinstance(field, ModuleField)
    assert field.context_dim is None


def test_a_user_module_that_changes_the_shape_is_named():
    class Summing(nn.Module):
        def forward(self, t, x, context=None):
            return x.sum(1)

    with pytest.raises(ValueError, match=r"shape of x, \(4, 2\); Summing returned \(4,\)"):
        CNF(Summing()).encode(torch.randn(N, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPField(2, activation="relu"), "activation must be one of 'tanh', .* got 'relu'"),
        (lambda: MLPField(2, time="fourier"), "time must be one of 'concat', 'concatsquash', got 'fourier'"),
        (lambda: MLPField(2, hidden=()), r"hidden must be .*, got \(\)"),
        (lambda: MLPField(2, hidden=(8, 9), residual=True), r"one width, got \(8, 9\)"),
        (lambda: PotentialField(2, depth=0), "depth must be .* from 1 to .*, got 0"),
        (lambda: ConvField((3, 4)), r"an event \(C, H, W\), got \(3, 4\)"),
        (lambda: ConvField((1, 4, 4), kernel=2), "kernel must be odd"),
    ],
)
def test_impossible_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["mlp-tanh-concat-2", "mlp-tanh-concatsquash-2", "potential-1", "planar", "conv"])
def test_a_conditional_field_without_its_context_says_so(name):
    field = FIELDS[name].make(2)
    with pytest.raises(ValueError, match=r"conditional: give a context of shape \(N, 2\)"):
        field(torch.tensor(0.0), torch.randn(N, *FIELDS[name].event_shape))


def test_hidden_layers_of_a_field_are_linear_modules_with_the_documented_widths():
    field = MLPField(3, hidden=(7, 5), context_dim=2)
    assert [(layer.in_features, layer.out_features) for layer in field.layers] == [(6, 7), (7, 5), (5, 3)]
    assert math.isclose(sum(p.numel() for p in field.parameters()), 6 * 7 + 7 + 7 * 5 + 5 + 5 * 3 + 3)
