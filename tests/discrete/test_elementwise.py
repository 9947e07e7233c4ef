"""Elementwise transforms against their formulas; the contract is in `test_transforms.py`."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import AffineTransform, SigmoidTransform, SoftplusTransform

from cnf.discrete import Affine, Logit, Softplus, Standardize, StandardizeContext
from cnf.discrete.standardize import StandardizeCondition


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def agrees(transform, torch_transform, z: torch.Tensor) -> bool:
    """Whether `decode` is the transform of `torch.distributions`."""
    x, log_det, _ = transform.decode(z)
    expected = torch_transform.log_abs_det_jacobian(z, torch_transform(z)).sum(1)
    return torch.allclose(x, torch_transform(z)) and torch.allclose(log_det, expected)


def test_they_are_those_of_torch_distributions():
    z, shift, scale = draw(6, 3), draw(3), draw(3)
    assert agrees(Affine(3, shift=shift, scale=scale), AffineTransform(shift, scale), z)
    assert agrees(Logit(), SigmoidTransform(), z)
    assert agrees(Softplus(), SoftplusTransform(), z)


def test_scalars_broadcast_to_the_event():
    value, log_det, _ = Affine((2, 2), shift=1.0, scale=-2.0).encode(torch.full((3, 2, 2), 5.0))
    assert torch.equal(value, torch.full((3, 2, 2), -2.0))
    assert torch.allclose(log_det, torch.full((3,), -4 * math.log(2)))


@pytest.mark.parametrize("scale", [0.0, math.nan, math.inf])
def test_an_affine_map_needs_a_usable_scale(scale):
    with pytest.raises(ValueError, match="scale must (not be zero|be a tensor or a number without NaN and infinity)"):
        Affine(2, scale=torch.tensor([1.0, scale]))


def test_standardized_data_have_mean_zero_and_variance_one():
    x = draw(500, 2, 3) * torch.rand(2, 3).double().mul(9).add(0.1) + 50
    transform = Standardize((2, 3)).double()
    before = transform.encode(x).value
    transform.initialize(x)
    z = transform.encode(x).value
    assert torch.equal(before, x)
    assert torch.allclose(z.mean(0), torch.zeros(2, 3).double(), atol=1e-12)
    assert torch.allclose(z.std(0), torch.ones(2, 3).double(), atol=1e-12)


def test_standardization_of_float32_data_far_from_zero_is_accurate():
    x = 1e5 + torch.rand(1000, 1)
    transform = Standardize(1)
    transform.initialize(x)
    assert abs(transform.scale.item() - x.double().std().item()) < 1e-6


def test_constant_elements_are_named():
    x = torch.randn(20, 4)
    x[:, 1], x[:, 3] = 0.1, 0.0
    with pytest.raises(ValueError, match=r"elements \[1, 3\] are constant"):
        Standardize(4).initialize(x)


@pytest.mark.parametrize("alpha", [0.0, 1e-6, 0.05])
def test_the_logit_inverts_itself_where_it_is_steep(alpha):
    transform = Logit(alpha).double()
    z = torch.linspace(-12, 12, 49, dtype=torch.float64)[:, None]
    x, log_det, _ = transform.decode(z)
    back, forth, _ = transform.encode(x)
    assert torch.allclose(back, z, atol=1e-9)
    assert torch.allclose(forth, -log_det, atol=1e-9)


def test_the_margin_of_the_logit_keeps_the_ends_finite():
    value, log_det, _ = Logit(1e-6).encode(torch.tensor([[0.0], [1.0]]))
    assert value.isfinite().all()
    assert log_det.isfinite().all()
    assert value[0] < -13


def test_samples_beyond_the_margin_of_a_logit_can_be_encoded_again():
    transform = Logit(0.05).double()
    z = torch.tensor([[-6.0], [6.0]], dtype=torch.float64)  # decoded outside [0, 1]
    x = transform.decode(z).value
    assert x[0] < 0
    assert x[1] > 1
    assert transform.domain.check(x).all()
    assert torch.allclose(transform.encode(x).value, z)


@pytest.mark.parametrize(
    ("transform", "x", "message"),
    [
        (Logit(1e-6), [[0.5], [1.5], [-0.1]], r"needs data in \[0, 1\]; 2 rows have others, first \[1, 2\]"),
        (Logit(), [[0.5], [1.0]], r"needs data in \(0, 1\), or a margin alpha.*; 1 rows have others, first \[1\]"),
        (Softplus(), [[1.0], [0.0], [-3.0]], r"needs positive data; 2 rows have others, first \[1, 2\]"),
    ],
)
def test_data_outside_the_domain_are_counted_and_named(transform, x, message):
    with pytest.raises(ValueError, match=message):
        transform.encode(torch.tensor(x))


@pytest.mark.parametrize("alpha", [-0.1, 0.5, 1.0])
def test_the_margin_of_a_logit_is_below_one_half(alpha):
    with pytest.raises(ValueError, match="alpha must be"):
        Logit(alpha)


def test_softplus_is_accurate_near_zero_and_far_from_it():
    z = torch.tensor([[-30.0], [-1.0], [19.0], [25.0], [300.0]], dtype=torch.float64)
    x, log_det, _ = Softplus().decode(z)
    back, forth, _ = Softplus().encode(x)
    assert torch.allclose(back, z, rtol=1e-12)
    assert torch.allclose(forth, -log_det, rtol=1e-9, atol=1e-13)
    assert x[3] > 25


def test_a_constant_context_is_shifted_to_zero():
    transform = StandardizeContext(Affine(2), 2)
    transform.initialize(torch.randn(9, 2), torch.stack((torch.randn(9), torch.full((9,), 0.1)), 1))
    seen = transform.standardize.read(torch.tensor([[0.0, 0.1], [1.0, 0.1]]))
    assert seen.isfinite().all()
    torch.testing.assert_close(seen[:, 1], torch.zeros(2), rtol=0, atol=1e-6)


def test_a_condition_far_out_is_seen_logarithmically_near():
    standardize = StandardizeCondition(1)
    standardize.initialize(torch.randn(2000, 1))
    context = standardize.decode(torch.tensor([[-1e15], [-1000.0], [-10.0], [3.0], [10.0], [1e6]])).value
    expected = [-10 * (1 + math.log(1e14)), -10 * (1 + math.log(100)), -10, 3, 10, 10 * (1 + math.log(1e5))]
    torch.testing.assert_close(standardize.read(context)[:, 0], torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_a_few_wild_rows_do_not_set_the_scale():
    x = torch.randn(5000, 2)
    x[:10, 1] = 1e6
    transform = Standardize(2)
    transform.initialize(x)
    torch.testing.assert_close(transform.scale, torch.ones(2), rtol=0.05, atol=0)
    torch.testing.assert_close(transform.shift, torch.zeros(2), rtol=0, atol=0.05)


def test_a_time_stamp_in_float32_is_refused():
    x = (1.7e9 + 9000 * torch.rand(4000, 1).double()).float()
    with pytest.raises(ValueError, match="fewer than 20 numbers within their standard deviation: subtract the offset"):
        Standardize(1).initialize(x)
