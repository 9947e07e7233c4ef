"""Linear layers against dense matrices and convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from gradients import gradcheck
from instances import randomized
from torch import Tensor

from cnf.discrete import DenseLinear, Householder, Linear, LULinear, Permutation, invertible_conv1x1, random_rotation

LAYERS = {
    "lu": lambda dim: LULinear(dim),
    "lu-rotation": lambda dim: LULinear(dim, rotation=True, bias=False),
    "dense": lambda dim: DenseLinear(dim),
    "householder": lambda dim: Householder(dim),
    "few-reflections": lambda dim: Householder(dim, reflections=2),
    "many-reflections": lambda dim: Householder(dim, reflections=9),
}
every = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def matrix_of(layer: Linear, dim: int) -> Tensor:
    """W, from what the layer makes of the unit vectors."""
    return layer.multiply(torch.eye(dim, dtype=torch.float64)).mT


@every
@pytest.mark.parametrize("dim", [1, 2, 5, 12])
def test_the_log_determinant_and_the_inverse_are_those_of_the_matrix(make, dim):
    layer = randomized(make(dim)).double()
    x = torch.randn(7, dim, dtype=torch.float64)
    weight, offset = matrix_of(layer, dim), 0 if layer.bias is None else layer.bias
    z, log_det, _ = layer.encode(x)
    assert torch.allclose(z, x @ weight.mT + offset, rtol=0, atol=1e-12)
    assert torch.allclose(log_det, torch.linalg.slogdet(weight).logabsdet.expand(7), rtol=0, atol=1e-10)
    back, log_det_back, _ = layer.decode(z)
    assert torch.allclose(back, x, rtol=0, atol=1e-9)
    assert torch.equal(log_det_back, -log_det)


@every
def test_on_images_it_is_a_1x1_convolution(make):
    layer = randomized(make(6)).double()
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    weight = matrix_of(layer, 6)
    z, log_det, _ = layer.encode(x)
    assert torch.allclose(z, F.conv2d(x, weight[:, :, None, None], layer.bias), rtol=0, atol=1e-12)
    assert torch.allclose(log_det, (4 * 5 * torch.linalg.slogdet(weight).logabsdet).expand(3), rtol=0, atol=1e-9)
    assert torch.allclose(layer.decode(z).value, x, rtol=0, atol=1e-9)


def test_lu_and_dense_layers_start_where_they_say():
    identity = torch.eye(5, dtype=torch.float64)
    assert torch.equal(matrix_of(LULinear(5).double(), 5), identity)
    for layer in (LULinear(5, rotation=True), DenseLinear(5), invertible_conv1x1(5), invertible_conv1x1(5, lu=False)):
        weight = matrix_of(layer.double(), 5)
        assert torch.allclose(weight @ weight.mT, identity, atol=1e-5)
        assert (weight - identity).abs().max() > 0.1


def test_lu_reaches_matrices_of_either_sign():
    signs = {torch.linalg.slogdet(matrix_of(LULinear(3, rotation=True).double(), 3)).sign.item() for _ in range(30)}
    assert signs == {-1.0, 1.0}


@pytest.mark.parametrize("reflections", [1, 2, 5, 11])
def test_householder_is_the_product_of_its_reflections(reflections):
    layer = Householder(5, reflections=reflections).double()
    product = torch.eye(5, dtype=torch.float64)
    for v in layer.vectors.detach():
        product = product @ (torch.eye(5).double() - 2 * v.outer(v) / v.dot(v))
    assert torch.allclose(layer.weight, product, rtol=0, atol=1e-12)
    assert torch.linalg.slogdet(layer.weight).sign.item() == (-1) ** reflections


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
def test_householder_takes_any_orthogonal_matrix(dim):
    identity = torch.eye(dim, dtype=torch.float64)
    draws = [torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64)).Q for _ in range(10)]
    for rotation in [identity, -identity, identity.flip(0), *draws]:
        layer = Householder.of(rotation)
        assert torch.allclose(layer.weight, rotation, rtol=0, atol=1e-12)
        assert len(layer.vectors) in (dim, dim + 1)


def test_every_reflection_of_the_identity_can_be_trained():
    layer = Householder.of(torch.eye(4, dtype=torch.float64))
    (layer.weight * torch.randn(4, 4, dtype=torch.float64)).sum().backward()
    assert (layer.vectors.grad.abs().sum(1) > 1e-3).all()


def test_random_rotations_are_uniform():
    rotations = torch.stack([random_rotation(3) for _ in range(4000)]).double()
    mean, square = rotations.mean(0), rotations.square().mean(0)
    assert (mean.abs() < 4.5 * (1 / 3 / 4000) ** 0.5).all()
    assert ((square - 1 / 3).abs() < 4.5 * (0.0889 / 4000) ** 0.5).all()  # var of a squared coordinate: 1/5 − 1/9
    assert abs(torch.linalg.det(rotations).mean().item()) < 4.5 / 4000**0.5


@every
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_against_finite_differences(make, method):
    assert gradcheck(make(3).double(), method, torch.randn(2, 3, dtype=torch.float64))


def test_permutations_move_features():
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(Permutation([2, 0, 1]).encode(x).value, torch.tensor([[2.0, 0.0, 1.0], [5.0, 3.0, 4.0]]))
    assert torch.equal(Permutation.reversal(3).encode(x).value, x.flip(1))
    assert torch.equal(Permutation.reversal(3).encode(x.reshape(1, 3, 2)).value, x.reshape(1, 3, 2).flip(1))
    random = Permutation.random(100, generator=torch.Generator().manual_seed(1))
    y = torch.randn(4, 100, 2)
    assert torch.equal(random.decode(random.encode(y).value).value, y)
    assert not torch.equal(random.encode(y).value, y)
    assert torch.equal(random.encode(y).log_det, torch.zeros(4))


def test_the_state_dict_carries_constants():
    for make in (lambda: Permutation.random(50), lambda: LULinear(6, rotation=True)):
        first, second, x = make(), make(), torch.randn(3, 50)
        x = x if isinstance(first, Permutation) else x[:, :6]
        second.load_state_dict(first.state_dict())
        assert torch.equal(first.encode(x).value, second.encode(x).value)


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="each of 0 … D − 1 once"):
        Permutation([0, 2])
    with pytest.raises(ValueError, match=r"3 features, \(N, 3, ...\), got \(4, 2\)"):
        LULinear(3).encode(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="3 features"):
        Permutation.reversal(3).decode(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="orthogonal"):
        Householder.of(2 * torch.eye(3))
    with pytest.raises(ValueError, match="reflections must be"):
        Householder(3, reflections=0)
    with pytest.raises(ValueError, match="dim must be"):
        DenseLinear(0)
