"""Rotations fitted to data: orthogonal, and what each of them looks for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cnf.discrete import ROTATIONS, Rotation

every = pytest.mark.parametrize("kind", ROTATIONS)


def fitted(x: Tensor, kind: str, seed: int = 0) -> Rotation:
    layer = Rotation(x.shape[1], kind=kind, seed=seed).double()
    layer.initialize(x)
    return layer


def mixed(n: int = 5000) -> tuple[Tensor, Tensor]:
    """Independent uniform columns of variance 1, turned: the rows and the rotation."""
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    sources = (torch.rand(n, 4, dtype=torch.float64) - 0.5) * math.sqrt(12)
    return sources @ turn.mT, turn


@every
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_it_is_orthogonal_and_undone(kind, dim):
    x = torch.randn(200, dim, dtype=torch.float64)
    layer = fitted(x, kind)
    torch.testing.assert_close(layer.weight @ layer.weight.mT, torch.eye(dim).double())
    z, log_det, _ = layer.encode(x)
    assert torch.equal(log_det, torch.zeros(200).double())
    torch.testing.assert_close(z.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(layer.decode(z).value, x)


@pytest.mark.parametrize("kind", ["pca", "ica"])
def test_correlated_data_are_turned_to_their_principal_components(kind):
    x = torch.randn(1000, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    covariance = fitted(x, kind).encode(x).value.mT.cov()
    torch.testing.assert_close(covariance, covariance.diagonal().diag(), rtol=0, atol=1e-10)


def test_independent_components_are_found():
    x, turn = mixed()
    product = (fitted(x, "ica").weight @ turn).abs()
    torch.testing.assert_close(product.max(1).values, torch.ones(4).double(), rtol=0, atol=5e-3)
    assert sorted(product.argmax(1).tolist()) == [0, 1, 2, 3]


def test_uncorrelated_data_are_turned_at_random():
    x, _ = mixed()
    assert torch.equal(fitted(x, "pca", 3).weight, fitted(x, "random", 3).weight)
    assert not torch.allclose(fitted(x, "random", 3).weight, fitted(x, "random", 4).weight)


def test_random_rotations_are_uniform():
    """A Haar matrix has `E R² = 1/D` in every place, and both signs of the determinant."""
    x, weights = torch.randn(2, 3), []
    for seed in range(2000):
        layer = Rotation(3, kind="random", seed=seed)
        layer.initialize(x)
        weights.append(layer.weight)
    squares = torch.stack(weights).square()
    assert ((squares.mean(0) - 1 / 3).abs() < 4 * squares.std(0) / 2000**0.5).all()
    assert abs(torch.linalg.det(torch.stack(weights)).sign().mean()) < 4 / 2000**0.5


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="'pca', 'ica', 'random', got 'svd'"):
        Rotation(2, kind="svd")
