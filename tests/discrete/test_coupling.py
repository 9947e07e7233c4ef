"""Couplings of vectors, channels and pixels, with every elementwise map."""

from __future__ import annotations

import warnings

import pytest
import torch
from gradients import gradcheck
from instances import randomized
from torch import Tensor

from cnf.discrete import (
    AffineMap,
    CouplingLayer,
    LogisticMixture,
    RationalQuadratic,
    Shift,
    alternating,
    checkerboard,
    half,
)
from cnf.networks import ConvResNet, ResidualMLP

N = 4
MAPS = {"shift": Shift(), "affine": AffineMap(), "spline": RationalQuadratic(5), "mixture": LogisticMixture(2)}
MASKS = {
    "alternating": (alternating(5), (5,)),
    "alternating-flipped": (alternating(5, flip=True), (5,)),
    "half": (half(5), (5,)),
    "scattered": (torch.tensor([True, False, False, True]), (4,)),
    "channels": (half(3, flip=True), (3, 2, 2)),
    "checkerboard": (checkerboard(2, 3), (2, 2, 3)),
    "checkerboard-flipped": (checkerboard(2, 3, flip=True), (2, 2, 3)),
}
maps = pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS.keys())
masks = pytest.mark.parametrize(("mask", "shape"), MASKS.values(), ids=MASKS.keys())
contexts = pytest.mark.parametrize("context_dim", [0, 2])


def coupling(
    elementwise, mask: Tensor, shape: tuple[int, ...], context_dim: int = 0, *, scale: float = 0.6
) -> CouplingLayer:
    seen = shape[0] if mask.dim() == 2 else int(mask.sum())
    moved = shape[0] if mask.dim() == 2 else int((~mask).sum())
    kind = ResidualMLP if len(shape) == 1 else ConvResNet
    net = kind(seen, moved * elementwise.size, hidden=8, blocks=1, context_dim=context_dim, activation="silu")
    return randomized(CouplingLayer(elementwise, net, mask), scale).double()


def sample(shape: tuple[int, ...], context_dim: int = 0) -> tuple[Tensor, Tensor | None]:
    context = torch.randn(N, context_dim).double() if context_dim else None
    return torch.randn(N, *shape).double(), context


@maps
@masks
@contexts
def test_decode_undoes_encode_with_opposite_log_dets(elementwise, mask, shape, context_dim):
    transform = coupling(elementwise, mask, shape, context_dim)
    x, context = sample(shape, context_dim)
    z, forth, _ = transform.encode(x, context)
    back, log_det, _ = transform.decode(z, context)
    assert torch.allclose(back, x, rtol=0, atol=1e-8)
    assert torch.allclose(log_det, -forth, rtol=0, atol=1e-8)


@maps
@masks
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_log_dets_are_those_of_the_jacobian(elementwise, mask, shape, method):
    transform = coupling(elementwise, mask, shape, 2)
    x, context = sample(shape, 2)
    run = getattr(transform, method)
    full = torch.autograd.functional.jacobian(lambda x: run(x, context).value, x).reshape(N, x[0].numel(), N, -1)
    log_det = run(x, context).log_det
    blocks = torch.stack([full[i, :, i] for i in range(N)])
    assert torch.allclose(torch.linalg.slogdet(blocks).logabsdet, log_det, rtol=0, atol=1e-8)
    assert all((full[i, :, j] == 0).all() for i in range(N) for j in range(N) if i != j)
    assert isinstance(elementwise, Shift) or log_det.abs().min() > 1e-3


@maps
@masks
def test_what_is_masked_stays_and_the_rest_sees_only_that(elementwise, mask, shape):
    transform = coupling(elementwise, mask, shape)
    x, _ = sample(shape)
    kept = (mask if mask.dim() == 2 else mask.reshape(-1, *[1] * (len(shape) - 1))).expand(shape)
    z = transform.encode(x).value
    assert torch.equal(z[:, kept], x[:, kept])
    assert ((z - x)[:, ~kept].abs() > 1e-6).all()
    jacobian = torch.autograd.functional.jacobian(lambda x: transform.encode(x[None]).value[0], x[0])
    among_moved = jacobian.reshape(x[0].numel(), -1)[~kept.flatten()][:, ~kept.flatten()]
    assert torch.equal(among_moved, among_moved.diag().diag())
    by_kept = jacobian.reshape(x[0].numel(), -1)[~kept.flatten()][:, kept.flatten()]
    assert (by_kept != 0).float().mean() > 0.5


@maps
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_are_those_of_differences(elementwise, method):
    for name in ("alternating", "checkerboard"):
        transform = coupling(elementwise, *MASKS[name], 2, scale=0.4)
        x, context = sample(MASKS[name][1], 2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert gradcheck(transform, method, x[:1], context[:1], atol=1e-5, fast_mode=True)


@maps
@masks
def test_it_starts_at_the_identity(elementwise, mask, shape):
    transform = coupling(elementwise, mask, shape, 2)
    torch.nn.init.zeros_(transform.net.last.weight)
    torch.nn.init.zeros_(transform.net.last.bias)
    x, context = sample(shape, 2)
    z, log_det, _ = transform.encode(x, context)
    assert torch.allclose(z, x, rtol=0, atol=1e-12)
    assert torch.allclose(log_det, torch.zeros(N).double(), rtol=0, atol=1e-12)


def test_an_additive_coupling_keeps_volumes_and_is_its_formula():
    transform = coupling(Shift(), half(4), (4,))
    x, _ = sample((4,))
    z, log_det, _ = transform.encode(x)
    assert torch.equal(log_det, torch.zeros(N).double())
    assert torch.allclose(z[:, 2:], x[:, 2:] + transform.net(x[:, :2]))


def test_an_affine_coupling_is_its_formula():
    transform = coupling(AffineMap(bound=2.0), alternating(4), (4,))
    x, _ = sample((4,))
    z, log_det, _ = transform.encode(x)
    shift, log_scale = transform.net(x[:, ::2]).unflatten(1, (2, 2)).unbind(2)
    log_scale = 2 * torch.tanh(log_scale / 2)
    assert torch.allclose(z[:, 1::2], x[:, 1::2] * log_scale.exp() + shift)
    assert torch.allclose(log_det, log_scale.sum(1))


def test_masks():
    assert alternating(5).tolist() == [True, False, True, False, True]
    assert half(5).tolist() == [True, True, True, False, False]
    assert checkerboard(2, 3).tolist() == [[True, False, True], [False, True, False]]
    for mask, flipped in (
        (alternating(5), alternating(5, flip=True)),
        (half(4), half(4, flip=True)),
        (checkerboard(3, 3), checkerboard(3, 3, flip=True)),
    ):
        assert torch.equal(mask, ~flipped)


@pytest.mark.parametrize(
    "mask", [torch.ones(3).bool(), torch.zeros(3).bool(), torch.tensor([1.0, 0.0]), torch.ones(1, 2, 2).bool()]
)
def test_a_mask_has_two_sides(mask):
    with pytest.raises(ValueError, match="mask must be boolean"):
        CouplingLayer(Shift(), ResidualMLP(1, 1), mask)


def test_a_network_of_another_size_is_refused():
    transform = CouplingLayer(AffineMap(), ResidualMLP(2, 2), half(4))
    with pytest.raises(ValueError, match="needs 4 outputs of the network, got 2"):
        transform.encode(torch.zeros(1, 4))


def test_a_missing_context_is_refused():
    transform = CouplingLayer(Shift(), ResidualMLP(2, 2, context_dim=3), half(4))
    with pytest.raises(ValueError, match=r"context of shape \(N, 3\)"):
        transform.encode(torch.zeros(1, 4))


def test_a_layer_says_what_it_maps_with():
    assert "elementwise=AffineMap(bound=2.0)" in repr(CouplingLayer(AffineMap(bound=2.0), ResidualMLP(2, 4), half(4)))
