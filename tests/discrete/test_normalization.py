"""ActNorm and batch norm: the moments they make, and the caveat of batch norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnf.discrete import ActNorm, BatchNorm, Standardize
from cnf.transforms import Compose

SHAPES = [(5,), (5, 4, 3)]
shapes = pytest.mark.parametrize("shape", SHAPES)


def skewed(n: int, shape: tuple[int, ...]) -> Tensor:
    """Rows whose features have means and scales of their own."""
    features = torch.arange(1.0, 6.0).double().reshape(-1, *[1] * (len(shape) - 1))
    return 10 * features + features.square() * torch.randn(n, *shape, dtype=torch.float64)


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    flat = z.movedim(1, 0).flatten(1)
    return flat.mean(1), flat.var(1, correction=0)


@shapes
def test_initialized_actnorm_gives_every_feature_mean_0_and_variance_1(shape):
    x, layer = skewed(200, shape), ActNorm(5).double()
    assert torch.equal(layer.encode(x).value, x)
    layer.initialize(x)
    z, log_det, _ = layer.encode(x)
    mean, variance = moments(z)
    assert torch.allclose(mean, torch.zeros(5).double(), atol=1e-12)
    assert torch.allclose(variance, torch.ones(5).double(), atol=1e-12)
    pixels = x[0, 0].numel()
    assert torch.allclose(log_det, (-0.5 * pixels * moments(x)[1].log().sum()).expand(200), rtol=1e-12)
    assert torch.allclose(layer.decode(z).value, x, rtol=0, atol=1e-11)


def test_actnorm_starts_in_float32_from_data_far_from_the_origin():
    x = (1e3 + 1e-1 * torch.randn(500, 2)).float()
    layer = ActNorm(2)
    layer.initialize(x)
    mean, variance = moments(layer.encode(x).value.double())
    assert mean.abs().max() < 1e-2
    assert (variance - 1).abs().max() < 1e-2


def test_a_constant_feature_is_an_error_that_names_it():
    x = torch.randn(20, 3)
    x[:, 1] = 2.5
    with pytest.raises(ValueError, match=r"features \[1\] are constant in the 20 rows"):
        ActNorm(3).initialize(x)


def test_compose_initializes_actnorms_in_turn():
    layers = Compose([ActNorm(5), Standardize(5), ActNorm(5)]).double()
    layers.initialize(skewed(300, (5,)))
    assert layers.transforms[2].log_scale.abs().max() < 1e-2  # nothing is left to do


@shapes
def test_batch_norm_in_training_is_that_of_torch(shape):
    x, ours = skewed(64, shape), BatchNorm(5).double()
    peer = (nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(5, dtype=torch.float64)
    with torch.no_grad():
        ours.log_scale.normal_()
        ours.shift.normal_()
        peer.weight.copy_(ours.log_scale.exp())
        peer.bias.copy_(ours.shift)
    z, log_det, _ = ours.encode(x)
    assert torch.allclose(z, peer(x), rtol=0, atol=1e-10)
    slope = ours.log_scale - 0.5 * (moments(x)[1] + 1e-5).log()
    assert torch.allclose(log_det, (x[0, 0].numel() * slope.sum()).expand(64), rtol=1e-12)
    assert torch.allclose(ours.mean, peer.running_mean, rtol=1e-12)
    n = x.numel() / 5  # torch keeps the unbiased variance
    assert torch.allclose((ours.variance - 0.9) * n / (n - 1) + 0.9, peer.running_var, rtol=1e-12)


@shapes
def test_batch_norm_in_evaluation_is_a_fixed_affine_map(shape):
    x, layer = skewed(64, shape), BatchNorm(5).double()
    layer.initialize(x)
    layer.eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    z, log_det, _ = layer.encode(x)
    back, log_det_back, _ = layer.decode(z)
    assert torch.allclose(back, x, rtol=0, atol=1e-10)
    assert torch.equal(log_det_back, -log_det)
    assert torch.equal(layer.encode(x[:3]).value, z[:3])
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    mean, variance = moments(z)
    assert torch.allclose(mean, torch.zeros(5).double(), atol=1e-12)
    assert torch.allclose(variance, torch.ones(5).double(), atol=1e-4)


def test_the_caveat_rows_of_a_training_batch_influence_each_other():
    x, layer = skewed(8, (5,)), BatchNorm(5).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: layer.encode(x).value, x)
    assert jacobian[0, :, 1].abs().max() > 1e-3
    layer.eval()
    jacobian = torch.autograd.functional.jacobian(lambda x: layer.encode(x).value, x)
    assert jacobian[0, :, 1].abs().max() == 0


def test_running_statistics_move_in_training_encodes_only_and_find_those_of_the_data():
    layer = BatchNorm(5, momentum=0.2).double()
    start = layer.mean.clone()
    layer.decode(skewed(8, (5,)))
    layer.eval().encode(skewed(8, (5,)))
    assert torch.equal(layer.mean, start)
    layer.train()
    for _ in range(200):
        layer.encode(skewed(2000, (5,)))
    assert torch.allclose(layer.mean, 10 * torch.arange(1.0, 6.0).double(), rtol=0.05)
    assert torch.allclose(layer.variance, torch.arange(1.0, 6.0).double() ** 4, rtol=0.05)


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match=r"needs 2 values a feature in training, got \(1, 5\)"):
        BatchNorm(5).encode(torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"5 features, \(N, 5, ...\), got \(2, 4\)"):
        BatchNorm(5).encode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="5 features"):
        ActNorm(5).decode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="momentum must be"):
        BatchNorm(5, momentum=0.0)
