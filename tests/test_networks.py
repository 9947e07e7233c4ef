"""Activations, residual networks, and what a masked one may see."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from instances import randomized
from torch import Tensor, nn

from cnf.networks import CONDITIONER_ACTIVATIONS, MADE, ConvResNet, ResidualMLP, activation

D = 6
ORDERS = {"ascending": None, "descending": range(D)[::-1], "mixed": (3, 0, 5, 1, 4, 2)}
LAYERS = {"residual": (36, 2), "plain": ((24, 36), 0), "both": ((36, 24), 1)}
orders = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
layers = pytest.mark.parametrize(("hidden", "blocks"), LAYERS.values(), ids=LAYERS.keys())
contexts = pytest.mark.parametrize("context_dim", [0, 3])


def made(context_dim: int = 0, *, outputs: int = 2, activation: str = "silu", **options) -> MADE:
    return randomized(MADE(D, outputs, context_dim=context_dim, activation=activation, **options), 1.5).double()


def a_context(context_dim: int, n: int = 1) -> Tensor | None:
    return torch.randn(n, context_dim).double() if context_dim else None


@pytest.mark.parametrize("name", CONDITIONER_ACTIVATIONS)
def test_slopes_of_activations_are_those_of_autograd(name):
    a = torch.linspace(-5, 5, 100).double().requires_grad_()
    found = activation(name, CONDITIONER_ACTIVATIONS)
    value, slope = found.with_slope(a)
    assert torch.allclose(value, found.value(a))
    assert torch.allclose(torch.autograd.grad(value.sum(), a)[0], slope)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'relu'"):  # fields have to be smooth
        activation("relu")
    with pytest.raises(ValueError, match="unknown activation 'gelu': known ones are tanh"):
        activation("gelu")


@orders
@layers
@contexts
def test_outputs_see_all_dimensions_before_theirs_and_no_other(order, hidden, blocks, context_dim):
    net = made(context_dim, hidden=hidden, blocks=blocks, order=order)
    context = a_context(context_dim)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, context)[0], torch.randn(1, D).double())
    seen = jacobian.reshape(D, 2, D)
    place = torch.tensor(list(order or range(D))).argsort()
    allowed = (place[:, None] > place)[:, None].expand(D, 2, D)
    assert (seen[~allowed] == 0).all()
    assert (seen[allowed].abs() > 1e-8).all()


@layers
def test_outputs_of_every_dimension_see_the_context(hidden, blocks):
    net, x = made(3, hidden=hidden, blocks=blocks), torch.randn(1, D).double()
    jacobian = torch.autograd.functional.jacobian(lambda c: net(x, c)[0], torch.randn(1, 3).double())
    assert (jacobian.abs() > 1e-8).all()


@orders
@layers
@contexts
def test_steps_are_the_network_one_dimension_at_a_time(order, hidden, blocks, context_dim):
    net, x, context = made(context_dim, hidden=hidden, blocks=blocks, order=order), torch.randn(7, D).double(), None
    context = a_context(context_dim, 7)
    whole = net(x, context).unflatten(1, (D, 2))
    steps, last = net.steps(context), x[:, :0]
    for i in net.order:
        assert torch.allclose(steps(last), whole[:, i], rtol=0, atol=1e-12)
        last = x[:, i : i + 1]


@contexts
def test_every_parameter_has_a_gradient_in_both_evaluations(context_dim):
    net, x = made(context_dim, hidden=(12, 18), blocks=1), torch.randn(9, D).double()
    context = a_context(context_dim, 9)
    net(x, context).square().sum().backward()
    wanted = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert all(gradient.abs().sum() > 0 for gradient in wanted.values())
    net.zero_grad()
    steps = net.steps(context)
    outputs = [steps(x[:, i : i + 1] if i >= 0 else x[:, :0]) for i in range(-1, D - 1)]
    torch.cat(outputs, 1).square().sum().backward()
    assert all(torch.allclose(p.grad, wanted[name], atol=1e-10) for name, p in net.named_parameters())


def test_few_hidden_units_still_keep_the_order():
    net = made(hidden=2, blocks=1)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x)[0], torch.randn(1, D).double()).reshape(D, 2, D)
    assert (jacobian.abs().sum(1).triu() == 0).all()
    assert (jacobian[-1].abs().sum(0)[:-1] > 0).all()  # the last dimension still sees all the others


def test_it_is_zukos_masked_network_with_copied_weights():
    zuko = pytest.importorskip("zuko")
    order = (3, 0, 5, 1, 4, 2)
    ranks = torch.tensor(order).argsort()
    theirs = zuko.flows.autoregressive.MaskedAutoregressiveTransform(D, 3, order=ranks, hidden_features=(24, 36))
    ours = MADE(D, 2, hidden=(24, 36), blocks=0, context_dim=3, order=order)
    first, second, last = (layer for layer in theirs.hyper if isinstance(layer, nn.Linear))
    a = first.mask[:, :D].sum(1).argsort(stable=True)  # ours are sorted by what they see
    b = (second.mask * 1.0 @ first.mask[:, :D].float()).gt(0).sum(1).argsort(stable=True)
    with torch.no_grad():
        ours.layers[0].weight.copy_(first.weight[a, :D])
        ours.context.weight.copy_(first.weight[a, D:])
        ours.layers[0].bias.copy_(first.bias[a])
        ours.layers[1].weight.copy_(second.weight[b][:, a])
        ours.layers[1].bias.copy_(second.bias[b])
        ours.last.weight.copy_(last.weight[:, b])
        ours.last.bias.copy_(last.bias)
    x, context = torch.randn(50, D), torch.randn(50, 3)
    assert torch.allclose(ours(x, context), theirs.hyper(torch.cat((x, context), 1)), atol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 1), (0, 1), (1, 2, 3)])
def test_an_order_has_every_dimension_once(order):
    with pytest.raises(ValueError, match="order must have each of 0 … 2 once"):
        MADE(3, 1, order=order)


@pytest.mark.parametrize("hidden", [0, (), (8, 0)])
def test_widths_are_positive(hidden):
    with pytest.raises(ValueError, match="hidden must be a whole number from 1"):
        ResidualMLP(2, 2, hidden=hidden)


def test_a_residual_mlp_is_its_formula():
    net = randomized(ResidualMLP(3, 2, hidden=(5, 7), blocks=2, context_dim=4, activation="silu")).double()
    x, context = torch.randn(6, 3).double(), torch.randn(6, 4).double()
    first, second = net.layers
    h = second(F.silu(first(x) + context @ net.context.weight.T))
    for inner, outer in net.pairs:
        h = h + outer(F.silu(inner(F.silu(h))))
    assert torch.allclose(net(x, context), net.last(F.silu(h)))


@contexts
def test_networks_start_at_zero(context_dim):
    for net in (
        ResidualMLP(3, 4, context_dim=context_dim),
        MADE(3, 2, context_dim=context_dim),
        ConvResNet(3, 5, context_dim=context_dim),
    ):
        x = torch.randn(2, 3, 4, 4) if isinstance(net, ConvResNet) else torch.randn(2, 3)
        assert not net(x, torch.randn(2, context_dim) if context_dim else None).any()


def test_a_convolutional_network_keeps_places_and_reads_the_context_everywhere():
    net = randomized(ConvResNet(2, 3, hidden=6, blocks=1, context_dim=4, activation="silu")).double()
    x, context = torch.randn(2, 2, 12, 5).double(), torch.randn(2, 4).double()
    y = net(x, context)
    assert y.shape == (2, 3, 12, 5)
    moved = net(x.roll(1, 2), context)
    assert torch.allclose(moved[:, :, 5:8], y.roll(1, 2)[:, :, 5:8])  # away from the border
    assert ((net(x, context + 1) - y).abs() > 1e-8).all()


def test_a_missing_context_is_refused():
    for net in (ResidualMLP(3, 2, context_dim=2), MADE(3, 2, context_dim=2)):
        with pytest.raises(ValueError, match=r"is conditional: give a context of shape \(N, 2\)"):
            net(torch.zeros(1, 3))
