"""Autoregressive transforms: triangular Jacobians, the decode that computes every hidden unit once, the IAF."""

from __future__ import annotations

import pytest
import torch
from gradients import gradcheck
from instances import randomized
from torch import Tensor

from cnf.discrete import AffineMap, Autoregressive, LogisticMixture, RationalQuadratic, Shift
from cnf.networks import MADE
from cnf.transforms import Inverse

N, D = 4, 4
MAPS = {"shift": Shift(), "affine": AffineMap(), "spline": RationalQuadratic(5), "mixture": LogisticMixture(2)}
NETS = {
    "residual": {"hidden": 9, "blocks": 2},
    "plain": {"hidden": (8, 13), "blocks": 0},
    "both": {"hidden": (6, 9), "blocks": 1, "order": (2, 0, 3, 1)},
    "reversed": {"hidden": 12, "blocks": 1, "order": (3, 2, 1, 0)},
    "narrow": {"hidden": 2, "blocks": 1},
}
maps = pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS.keys())
nets = pytest.mark.parametrize("options", NETS.values(), ids=NETS.keys())
contexts = pytest.mark.parametrize("context_dim", [0, 2])


def autoregressive(elementwise, context_dim: int = 0, dim: int = D, *, scale: float = 0.6, **options) -> Autoregressive:
    net = MADE(dim, elementwise.size, context_dim=context_dim, activation="silu", **options)
    return randomized(Autoregressive(elementwise, net), scale).double()


def sample(context_dim: int = 0, dim: int = D) -> tuple[Tensor, Tensor | None]:
    return torch.randn(N, dim).double(), torch.randn(N, context_dim).double() if context_dim else None


@maps
@nets
@contexts
def test_decode_undoes_encode_with_opposite_log_dets(elementwise, options, context_dim):
    transform = autoregressive(elementwise, context_dim, **options)
    x, context = sample(context_dim)
    z, forth, _ = transform.encode(x, context)
    back, log_det, _ = transform.decode(z, context)
    assert torch.allclose(back, x, rtol=0, atol=1e-8)
    assert torch.allclose(log_det, -forth, rtol=0, atol=1e-8)


@maps
@nets
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_log_dets_are_those_of_triangular_jacobians(elementwise, options, method):
    transform = autoregressive(elementwise, 2, **options)
    x, context = sample(2)
    run = getattr(transform, method)
    full = torch.autograd.functional.jacobian(lambda x: run(x, context).value, x)
    log_det = run(x, context).log_det
    blocks = torch.stack([full[i, :, i] for i in range(N)])
    order = torch.tensor(options.get("order", range(D)))
    assert (blocks[:, order][:, :, order].triu(1) == 0).all()
    assert torch.allclose(blocks.diagonal(dim1=1, dim2=2).log().sum(1), log_det, rtol=0, atol=1e-8)
    assert torch.allclose(torch.linalg.slogdet(blocks).logabsdet, log_det, rtol=0, atol=1e-8)
    assert all((full[i, :, j] == 0).all() for i in range(N) for j in range(N) if i != j)
    assert isinstance(elementwise, Shift) or log_det.abs().min() > 1e-3


@maps
@contexts
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_are_those_of_differences(elementwise, context_dim, method):
    transform = autoregressive(elementwise, context_dim, scale=0.4, hidden=(5, 7), blocks=1)
    x, context = sample(context_dim)
    inputs = (x[:1],) if context is None else (x[:1], context[:1])
    assert gradcheck(transform, method, *inputs, atol=1e-5, fast_mode=True)


@maps
@nets
def test_it_starts_at_the_identity(elementwise, options):
    transform = Autoregressive(elementwise, MADE(D, elementwise.size, **options)).double()
    x, _ = sample()
    for mapped in (transform.encode(x), transform.decode(x)):
        assert torch.allclose(mapped.value, x, rtol=0, atol=1e-12)
        assert torch.allclose(mapped.log_det, torch.zeros(N).double(), rtol=0, atol=1e-12)


@contexts
def test_decode_is_the_same_with_and_without_a_graph(context_dim):
    transform = autoregressive(RationalQuadratic(4), context_dim, hidden=(9, 9), blocks=1)
    z, context = sample(context_dim)
    with torch.no_grad():
        plain = transform.decode(z, context)
    graph = transform.decode(z, context)
    assert graph.value.requires_grad
    assert torch.equal(plain.value, graph.value)
    assert torch.equal(plain.log_det, graph.log_det)


@contexts
def test_one_dimension_sees_only_the_context(context_dim):
    transform = autoregressive(AffineMap(), context_dim, 1, hidden=5, blocks=1)
    x, context = sample(context_dim, 1)
    z, log_det, _ = transform.encode(x, context)
    assert torch.allclose(transform.decode(z, context).value, x)
    assert (log_det.std() > 1e-3) == bool(context_dim)


def test_the_inverse_is_the_iaf():
    iaf = Inverse(autoregressive(AffineMap(), 2, hidden=8))
    z, context = sample(2)
    x = iaf.decode(z, context).value
    shift, log_scale = iaf.transform.net(z, context).unflatten(1, (D, 2)).unbind(2)
    assert torch.allclose(x, z * (3 * torch.tanh(log_scale / 3)).exp() + shift)
    assert torch.allclose(iaf.encode(x, context).value, z, rtol=0, atol=1e-8)
    assert iaf.context_dim == 2


def test_a_network_of_another_size_is_refused():
    with pytest.raises(ValueError, match="needs 2 outputs for each dimension, the network has 3"):
        Autoregressive(AffineMap(), MADE(4, 3))


def test_a_missing_context_is_refused():
    transform = autoregressive(AffineMap(), 3, hidden=8)
    for method in (transform.encode, transform.decode):
        with pytest.raises(ValueError, match=r"context of shape \(N, 3\)"):
            method(torch.zeros(1, D).double())
