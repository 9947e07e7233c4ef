"""Planar and radial layers against the formulas of the paper, their inverses and implicit gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from gradients import gradcheck
from instances import randomized
from torch import Tensor

from cnf.discrete import Planar, Radial
from cnf.errors import ConvergenceError

LAYERS = {"planar": Planar, "radial": Radial}
every = pytest.mark.parametrize("kind", LAYERS.values(), ids=LAYERS.keys())


def with_parameters(kind, dim: int, scale: float) -> Planar | Radial:
    layer = kind(dim).double()
    with torch.no_grad():
        layer.parameters_of.value.normal_(std=scale)
    return layer


def planar_of_the_paper(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """`z + û tanh(wᵀz + b)`, one row."""
    inner = w @ u
    u = u + (-1 + torch.log(1 + inner.exp()) - inner) * w / (w @ w)
    return z + u * torch.tanh(w @ z + b)


def radial_of_the_paper(z: Tensor, centre: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """`z + β̂ (z − z₀) / (α + r)`, one row."""
    return z + (-alpha + F.softplus(beta)) * (z - centre) / (alpha + (z - centre).norm())


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_planar_decode_is_the_formula_of_the_paper(dim, scale):
    layer, z = with_parameters(Planar, dim, scale), torch.randn(20, dim, dtype=torch.float64)
    u, w, b = layer.parameters_of.value.detach().split([dim, dim, 1])
    x, log_det, _ = layer.decode(z)
    for i in range(20):
        assert torch.allclose(x[i], planar_of_the_paper(z[i], u, w, b), rtol=0, atol=1e-10)
        jacobian = torch.autograd.functional.jacobian(lambda z: planar_of_the_paper(z, u, w, b), z[i])
        assert torch.allclose(torch.linalg.det(jacobian).log(), log_det[i], rtol=0, atol=1e-8)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_radial_decode_is_the_formula_of_the_paper(dim, scale):
    layer, z = with_parameters(Radial, dim, scale), torch.randn(20, dim, dtype=torch.float64)
    centre, alpha, beta = layer.parameters_of.value.detach().split([dim, 1, 1])
    x, log_det, _ = layer.decode(z)
    for i in range(20):
        assert torch.allclose(x[i], radial_of_the_paper(z[i], centre, F.softplus(alpha), beta), rtol=0, atol=1e-10)
        jacobian = torch.autograd.functional.jacobian(
            lambda z: radial_of_the_paper(z, centre, F.softplus(alpha), beta), z[i]
        )
        assert torch.allclose(torch.linalg.det(jacobian).log(), log_det[i], rtol=0, atol=1e-8)


def test_planar_is_invertible_whatever_its_parameters():
    for scale in (0.1, 1.0, 10.0):
        for _ in range(50):
            layer = with_parameters(Planar, 4, scale)
            u, w, _, margin = layer._constrained(torch.zeros(1, 4).double(), None)
            assert margin.item() >= 0  # 1 + wᵀû
            assert math.isclose((u * w).sum().item(), margin.item() - 1, rel_tol=1e-9, abs_tol=1e-9)


@every
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("spread", [0.1, 1.0, 100.0])
def test_encode_undoes_decode(kind, scale, spread):
    for _ in range(10):
        layer, z = with_parameters(kind, 3, scale), spread * torch.randn(100, 3, dtype=torch.float64)
        x, log_det, _ = layer.decode(z)
        back, log_det_back, _ = layer.encode(x)
        steepest = (-log_det).exp().amax().clamp(min=1)  # rounding of x is amplified by the slope of encode
        assert (back - z).abs().max() <= 1e-13 * steepest * (1 + spread)
        assert (log_det + log_det_back).abs().max() <= 1e-10 * steepest * (1 + spread)


def test_radial_inverts_at_its_centre_and_far_away():
    layer = with_parameters(Radial, 3, 2.0)
    centre = layer.parameters_of.value[:3].detach()
    for distance in (0.0, 1e-12, 1e-3, 1e6):
        z = (centre + distance * torch.tensor([0.6, 0.0, 0.8]).double()).unsqueeze(0)
        x, log_det, _ = layer.decode(z)
        back, log_det_back, _ = layer.encode(x)
        assert torch.allclose(back, z, rtol=1e-13, atol=1e-13)
        assert torch.allclose(log_det, -log_det_back, rtol=0, atol=1e-10)


@every
def test_float32_survives(kind):
    for _ in range(20):
        layer, z = with_parameters(kind, 3, 1.0).float(), torch.randn(200, 3)
        x, log_det, _ = layer.decode(z)
        back, log_det_back, _ = layer.encode(x)
        steepest = (-log_det).exp().amax().clamp(min=1)
        assert (back - z).abs().max() <= 1e-5 * steepest
        assert log_det_back.isfinite().all()


@every
def test_gradients_of_encode_are_those_of_the_inverse_function(kind):
    layer, z = with_parameters(kind, 3, 1.5), torch.randn(1, 3, dtype=torch.float64)
    x = layer.decode(z).value.detach()
    forth = torch.autograd.functional.jacobian(lambda z: layer.decode(z).value, z).reshape(3, 3)
    back = torch.autograd.functional.jacobian(lambda x: layer.encode(x).value, x).reshape(3, 3)
    assert torch.allclose(back @ forth, torch.eye(3).double(), rtol=0, atol=1e-10)


@every
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_against_finite_differences(kind, method):
    layer = randomized(kind(3, context_dim=2, hidden=4), 1.5).double()
    assert gradcheck(layer, method, torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64))


@every
@pytest.mark.parametrize("hidden", [0, 5])
def test_a_context_moves_the_parameters(kind, hidden):
    layer = randomized(kind(3, context_dim=2, hidden=hidden)).double()
    plain, x, context = kind(3).double(), torch.randn(4, 3).double(), torch.randn(4, 2).double()
    conditional = layer.encode(x, context)
    for i in range(4):
        with torch.no_grad():
            plain.parameters_of.value.copy_(layer.parameters_of(context[i : i + 1])[0])
        value, log_det, _ = plain.encode(x[i : i + 1])
        assert torch.allclose(value[0], conditional.value[i], rtol=0, atol=1e-12)
        assert torch.allclose(log_det[0], conditional.log_det[i], rtol=0, atol=1e-12)


@every
def test_layers_start_near_the_identity_without_a_context_in_them(kind):
    layer, x = kind(4, context_dim=3), torch.randn(50, 4)
    first, second = layer.encode(x, torch.randn(50, 3)), layer.encode(x, torch.randn(50, 3))
    assert torch.equal(first.value, second.value)
    assert (first.value - x).abs().max() < 0.3
    assert (first.value - x).abs().max() > 0


def test_a_failure_to_converge_names_the_samples():
    x = torch.randn(6, 3)
    x[[1, 4]] = math.nan
    with pytest.raises(ConvergenceError, match=r"Samples: 1, 4 \(2 in all\)") as error:
        Planar(3).encode(x)
    assert error.value.samples == [1, 4]


@every
def test_errors_say_what_was_expected(kind):
    with pytest.raises(ValueError, match=r"expected vectors \(N, 3\), got \(2, 4\)"):
        kind(3).encode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="conditional"):
        kind(3, context_dim=2).encode(torch.zeros(2, 3))
