"""Rational-quadratic splines against nflows and zuko on the same knots, and where those fail."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cnf.discrete import RationalQuadratic
from cnf.discrete.splines import Bins

START = math.log(math.expm1(1 - 1e-3))  # softplus(START) + 1e-3 = 1


def draw(spline: RationalQuadratic, n: int = 500, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    x = spline.bound * torch.randn(n, 3).double()  # a third of it outside
    return x, scale * torch.randn(n, 3, spline.size).double()


def knots(spline: RationalQuadratic, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places and slopes of all knots, as the paper has them: `(…, K + 1)` each."""
    k = spline.bins
    edges = []
    for logits in (raw[..., :k], raw[..., k : 2 * k]):
        sizes = 2 * spline.bound * (1e-3 + (1 - 1e-3 * k) * logits.softmax(-1))
        edges.append(torch.nn.functional.pad(sizes.cumsum(-1), (1, 0)) - spline.bound)
    slopes = 1e-3 + torch.nn.functional.softplus(raw[..., 2 * k :] + START)
    return *edges, torch.nn.functional.pad(slopes, (1, 1), value=1.0)


def of_zuko(spline: RationalQuadratic, raw: Tensor):
    zuko = pytest.importorskip("zuko")
    k = spline.bins
    theirs = zuko.transforms.MonotonicRQSTransform(raw[..., :k], raw[..., k : 2 * k], raw[..., 2 * k :])
    theirs.horizontal, theirs.vertical, theirs.derivatives = knots(spline, raw)
    return theirs


@pytest.mark.parametrize("spline", [RationalQuadratic(), RationalQuadratic(2, 1.0), RationalQuadratic(20, 3.0)])
def test_values_inverses_and_log_slopes_are_those_of_zuko_on_the_same_knots(spline):
    x, raw = draw(spline)
    theirs = of_zuko(spline, raw)
    value, log_slope = spline.encode(x, raw)
    expected, expected_slope = theirs.call_and_ladj(x)
    assert torch.allclose(value, expected, rtol=0, atol=1e-11)
    assert torch.allclose(log_slope, expected_slope, rtol=0, atol=1e-9)
    assert torch.allclose(spline.decode(x, raw)[0], theirs.inv(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("spline", [RationalQuadratic(), RationalQuadratic(2, 1.0), RationalQuadratic(20, 3.0)])
@pytest.mark.parametrize("inverse", [False, True])
def test_values_inverses_and_log_slopes_are_those_of_nflows_for_the_same_raw_numbers(spline, inverse):
    module = pytest.importorskip("nflows.transforms.splines.rational_quadratic")
    x, raw = draw(spline)
    k = spline.bins
    expected, expected_slope = module.unconstrained_rational_quadratic_spline(
        x, raw[..., :k], raw[..., k : 2 * k], raw[..., 2 * k :] + START, inverse=inverse, tail_bound=spline.bound
    )
    value, log_slope = (spline.decode if inverse else spline.encode)(x, raw)
    assert torch.allclose(value, expected, rtol=0, atol=1e-9)
    assert torch.allclose(log_slope, expected_slope, rtol=0, atol=1e-9)


def test_the_spline_meets_its_knots_and_slopes():
    spline = RationalQuadratic(5, 2.0)
    _, raw = draw(spline, 20)
    x, y, slopes = knots(spline, raw)
    for i in range(1, 5):
        for side in (-1e-9, 1e-9):
            value, log_slope = spline.encode(x[..., i] + side, raw)
            assert torch.allclose(value, y[..., i], rtol=0, atol=1e-6)
            assert torch.allclose(log_slope.exp(), slopes[..., i], rtol=1e-4, atol=0)


def test_outside_it_is_the_identity_and_at_the_border_it_is_smooth():
    spline = RationalQuadratic()
    raw = torch.randn(4, spline.size).double()
    x = torch.tensor([-1e9, -5.0, 5.0, 7.3]).double()
    for method in (spline.encode, spline.decode):
        value, log_slope = method(x, raw)
        assert torch.equal(value, x)
        assert torch.equal(log_slope, torch.zeros(4).double())
    value, log_slope = spline.encode(torch.tensor([5 - 1e-9, -5 + 1e-9]).double(), raw[:2])
    assert torch.allclose(value, torch.tensor([5.0, -5.0]).double(), atol=1e-8)
    assert log_slope.abs().max() < 1e-4


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_outside_are_those_of_the_identity(method):
    spline = RationalQuadratic()
    x = torch.tensor([-1e30, -6.0, -5.0, 5.0, 5.5, 1e30], requires_grad=True)
    raw = (100 * torch.randn(6, spline.size)).requires_grad_()
    value, log_slope = getattr(spline, method)(x, raw)
    (value.sum() + log_slope.sum()).backward()
    assert torch.equal(x.grad, torch.ones(6))
    assert torch.equal(raw.grad, torch.zeros_like(raw))


def test_the_inverse_needs_no_assertion_about_its_discriminant():
    """Float32, extreme bins, points at and next to the knots: the usual formula gives complex roots there."""
    spline = RationalQuadratic(8, 3.0)
    raw = torch.randn(20_000, spline.size) * torch.tensor([1.0, 5.0, 50.0, 500.0]).repeat(5_000)[:, None]
    edges = knots(spline, raw)[1]
    y = edges.gather(1, torch.randint(0, 9, (20_000, 1))).squeeze(1)
    for z in (y, y.nextafter(torch.tensor(9.0)), y.nextafter(torch.tensor(-9.0)), y + 1e-4 * torch.randn(20_000)):
        z = z.clone().requires_grad_()
        x, log_slope = spline.decode(z, raw)
        (x.sum() + log_slope.sum()).backward()
        assert x.isfinite().all()
        assert log_slope.isfinite().all()
        assert z.grad.isfinite().all()
        assert ((spline.encode(x, raw)[0] - z).abs() < 1e-5 * (1 + (-log_slope).exp())).all()


def test_the_quadratic_is_solved_to_the_last_places():
    """In a single bin, against the root in 200 bits; slopes from 1e-6 to 1e6, heights from the flat to the steep."""
    mpmath = pytest.importorskip("mpmath")
    n = 300
    left, right, slope = torch.exp(14 * (2 * torch.rand(3, n) - 1).double())
    zero, one = torch.zeros(n).double(), torch.ones(n).double()
    y = slope * torch.rand(n).double() ** 4
    x, _ = Bins(zero, zero, one, slope, left, right).decode(y)
    with mpmath.workprec(200):
        for i in range(n):
            s, d, e, t = (mpmath.mpf(v[i].item()) for v in (slope, left, right, y))
            t = t / s
            a, b, c = s - d + t * (d + e - 2 * s), d - t * (d + e - 2 * s), -s * t
            exact = -2 * c / (b + mpmath.sqrt(b * b - 4 * a * c))
            assert abs(x[i].item() - exact) <= 1e-13 * abs(exact) + 1e-15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 1}, "bins must be .* from 2"),
        ({"bound": 0.0}, "bound must be"),
        ({"bins": 8, "min_size": 0.125}, "min_size"),
        ({"min_slope": 1.0}, "min_slope"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        RationalQuadratic(**options)
