"""Marginal Gaussianization: splines and their inverses, what is fitted to which data, and its extremes."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from cnf.discrete import MarginalGaussianization, Splines, fit_splines
from cnf.discrete.kernels import kernel_sums
from cnf.transforms import Mapped

SAMPLES = {
    "normal": lambda n: torch.randn(n),
    "uniform": lambda n: torch.rand(n),
    "bimodal": lambda n: 0.2 * torch.randn(n) + 3 * torch.randn(n).sign(),
    "skew": lambda n: torch.randn(n).exp(),
    "heavy": lambda n: torch.randn(n) / torch.rand(n),
    "ties": lambda n: torch.randint(0, 3, (n,)),
    "rare": lambda n: (torch.rand(n) < 0.01).float(),
    "large": lambda n: 1e4 + 100 * torch.randn(n),
}
every = pytest.mark.parametrize("name", SAMPLES)


def sample(name: str, n: int = 2000) -> Tensor:
    return SAMPLES[name](n).double()[:, None]


def fitted(x: Tensor, **settings: Any) -> MarginalGaussianization:
    layer = MarginalGaussianization(x.shape[1], **settings).to(x)
    layer.initialize(x)
    return layer


def log_prob(mapped: Mapped) -> Tensor:
    return mapped.log_det - 0.5 * (mapped.value.square() + math.log(2 * math.pi)).sum(1)


def random_splines() -> Splines:
    x, z = torch.randn(2, 3, 9, dtype=torch.float64).sort(2).values
    return Splines(x, z, 0.1 + torch.rand(3, 9, dtype=torch.float64))


def test_splines_pass_through_their_knots_with_their_slopes():
    splines = random_splines()
    z, log_slope = splines.encode(splines.x)
    torch.testing.assert_close(z, splines.z, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_slope.exp(), splines.slope, rtol=1e-10, atol=0)
    x, log_slope = splines.decode(splines.z)
    torch.testing.assert_close(x, splines.x, rtol=0, atol=1e-12)
    torch.testing.assert_close((-log_slope).exp(), splines.slope, rtol=1e-10, atol=0)


def test_splines_are_straight_outside():
    splines = random_splines()
    far = torch.tensor([[-50.0, -40.0, 40.0, 50.0]]).double().expand(3, -1)
    z, log_slope = splines.encode(far)
    ends = splines.slope[:, [0, 0, -1, -1]]
    torch.testing.assert_close(log_slope, ends.log())
    torch.testing.assert_close((z[:, [1, 3]] - z[:, [0, 2]]) / 10, ends[:, 1:3])


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_log_slopes_are_those_of_autograd(method):
    splines = random_splines()
    knots = {"encode": splines.x, "decode": splines.z}[method]
    at = torch.cat([3 * torch.randn(3, 200, dtype=torch.float64), knots], 1).requires_grad_()
    value, log_slope = getattr(splines, method)(at)
    (slope,) = torch.autograd.grad(value.sum(), at)
    torch.testing.assert_close(slope.log(), log_slope, rtol=0, atol=1e-8)


def test_it_is_the_identity_until_it_is_fitted():
    x = 5 * torch.randn(50, 3, dtype=torch.float64)
    z, log_det, _ = MarginalGaussianization(3).double().encode(x)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(log_det, torch.zeros(50).double(), rtol=0, atol=1e-12)


@every
def test_decode_undoes_encode_within_and_far_outside_the_data(name):
    x = sample(name)
    layer = fitted(x)
    rows = torch.cat([x[:100], x.mean() + torch.linspace(-30, 30, 61).double()[:, None] * x.std()])
    z, forth, _ = layer.encode(rows)
    back, log_det, _ = layer.decode(z)
    assert (back - rows).abs().max() < 1e-10 * rows.abs().max()
    torch.testing.assert_close(log_det, -forth, rtol=0, atol=1e-8)


@every
def test_float32_is_finite_increasing_and_near_float64(name):
    x = sample(name)
    layer = fitted(x)
    rows = (x.mean() + torch.linspace(-20, 20, 2001).double() * x.std())[:, None].requires_grad_()
    exact, log_det, _ = layer.encode(rows)
    single, rows32 = layer.float(), rows.detach().float().requires_grad_()
    z, log_det32, _ = single.encode(rows32)
    z.sum().backward()
    assert rows32.grad.isfinite().all()
    assert log_det32.isfinite().all()
    assert (z.diff(dim=0) >= 0).all()
    torch.testing.assert_close(z.double(), exact, rtol=1e-3, atol=1e-2)
    back, log_det, _ = single.decode(z)
    assert back.isfinite().all()
    assert log_det.isfinite().all()


@every
def test_the_density_integrates_to_one(name):
    x = sample(name)
    layer = fitted(x)
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)[:, None]
    edges = layer.decode(z).value[:, 0]
    middles, widths = (edges[1:] + edges[:-1]) / 2, edges.diff()
    mass = (log_prob(layer.encode(middles[:, None])).exp() * widths).sum().item()
    assert mass == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["uniform", "bimodal", "skew", "large"])
def test_fitted_data_are_normal(name):
    layer = fitted(sample(name, 10_000))
    z = layer.encode(sample(name, 10_000)).value[:, 0].sort().values
    expected = torch.special.ndtr(z)
    distance = (expected - (torch.arange(10_000) + 0.5) / 10_000).abs().max()  # Kolmogorov and Smirnov's
    assert distance < 0.045


@pytest.mark.parametrize(
    ("name", "entropy", "excess"),
    [("normal", 1.4189, 0.002), ("uniform", 0.0, 0.05), ("bimodal", 1.4189 + math.log(0.2) + math.log(2), 0.03)],
)
def test_held_out_likelihood_is_near_the_entropy(name, entropy, excess):
    layer = fitted(sample(name, 10_000))
    nll = -log_prob(layer.encode(sample(name, 50_000))).mean().item()
    assert entropy - 0.015 < nll < entropy + 0.015 + excess


def test_normal_columns_get_straight_lines():
    x = 3 + 2 * torch.randn(1000, 8, dtype=torch.float64)
    slopes = fitted(x).knots[2]
    straight = (slopes == slopes[:, :1]).all(1)
    assert straight.sum() >= 3  # others chose a wide kernel by chance
    torch.testing.assert_close(slopes[straight][:, 0], 1 / x.std(0)[straight])


def test_gains_are_what_new_rows_gain():
    x, new = (torch.cat([sample("bimodal", 5000), sample("uniform", 5000)], 1) for _ in range(2))
    splines, gain = fit_splines(x, knots=32, generator=torch.Generator().manual_seed(0))
    z, log_slope = splines.encode(new.mT)
    expected = (log_slope + 0.5 * (new.mT.square() - z.square())).sum(0)
    assert abs(gain.mean() - expected.mean()) < 4 * (gain.std() + expected.std()) / 5000**0.5


def test_there_is_nothing_to_gain_from_standard_normal_rows():
    x = torch.randn(2000, 20, dtype=torch.float64)
    _, gain = fit_splines(x, knots=32, generator=torch.Generator().manual_seed(0))
    assert 0 <= gain.mean() < 20 * 2e-3


def test_narrow_kernels_find_the_values_that_a_column_repeats_and_nothing_where_there_is_nothing():
    clusters = torch.randn(60, dtype=torch.float64)

    def rows() -> Tensor:
        repeated = clusters[torch.randint(0, 60, (4000,))] + 1e-3 * torch.randn(4000, dtype=torch.float64)
        return torch.stack((repeated, torch.randn(4000, dtype=torch.float64)), 1)

    x, new = rows(), rows()
    gains = []
    for settings in ({}, {"knots": 256, "narrowest": 1 / 64}):
        layer = fitted(x, **settings)
        z, log_slope = Splines(*layer.knots).encode(new.mT)
        gains.append((log_slope + 0.5 * (new.mT.square() - z.square())).mean(1))
        torch.testing.assert_close(layer.decode(layer.encode(new).value).value, new, rtol=1e-8, atol=1e-8)
    assert gains[1][0] > gains[0][0] + 0.5
    torch.testing.assert_close(gains[1][1], gains[0][1], rtol=0, atol=5e-3)


def test_elements_are_fitted_each_by_itself():
    x = torch.cat([sample(name) for name in ("normal", "bimodal", "skew")] * 14, 1)  # more than are fitted together
    whole, alone = fitted(x), fitted(x[:, 40:])
    torch.testing.assert_close(whole.knots[:, 40:], alone.knots)


def test_the_same_data_give_the_same_fit_and_leave_the_global_noise_alone():
    x, state = sample("skew"), torch.get_rng_state()
    first = fitted(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.knots, fitted(x).knots)


def test_few_rows_are_standardised():
    x = 3 + 2 * torch.randn(19, 2)
    mapped = fitted(x).encode(x)
    torch.testing.assert_close(mapped.value, (x - x.mean(0)) / x.std(0))
    torch.testing.assert_close(mapped.log_det, -x.std(0).log().sum().expand(19))


def poisson(n: int, wild: float) -> Tensor:
    """Two columns Poisson(5) + U(0, 1), the rows of a share far away in both; entropy 4.409 nats without those."""
    x = torch.poisson(torch.full((n, 2), 5.0)) + torch.rand(n, 2)
    return torch.where(torch.rand(n, 1) < wild, 1e5 + 9e5 * torch.rand(n, 2), x).double()


@pytest.mark.parametrize("wild", [0.002, 0.1])
def test_wild_rows_do_not_blind_the_fit_to_the_others(wild):
    layer = fitted(poisson(10_000, wild), knots=256, narrowest=1 / 64, wild_only=True)
    others = poisson(10_000, 0)
    assert log_prob(layer.encode(others)).mean().item() == pytest.approx(-4.409 + 2 * math.log1p(-wild), abs=0.1)


def test_columns_without_wild_rows_can_be_left_alone():
    x = torch.cat([poisson(3000, 0.002)[:, :1], sample("skew", 3000)], 1)
    layer = fitted(x, wild_only=True)
    assert not layer.idle
    torch.testing.assert_close(layer.encode(x).value[:, 1], x[:, 1])
    assert fitted(x[:, 1:], wild_only=True).idle


def test_whether_it_is_idle_is_known_after_loading():
    layer = fitted(sample("skew"))
    other = MarginalGaussianization(1).double()
    assert other.idle
    other.load_state_dict(layer.state_dict())
    assert not other.idle
    other.load_state_dict(MarginalGaussianization(1).state_dict())
    assert other.idle


def test_a_hundred_columns_of_a_thousand_rows_take_two_seconds():
    x = torch.randn(1000, 50)
    begun = time.process_time()
    fitted(x, knots=256, narrowest=1 / 64)
    assert (time.process_time() - begun) / torch.get_num_threads() < 2.0  # half the columns: 0.6 s, and a busy machine


def testkernel_sums_are_those_of_float64():
    knots, places = torch.randn(3, 40).double().sort(1).values, torch.randn(3, 500).double().sort(1).values
    width, weights = torch.tensor([[0.004], [0.1], [1.0]]).double(), torch.full((500,), 1 / 500).double()
    u = (knots[:, :, None] - places[:, None]) / width[:, :, None]
    cdf, density = kernel_sums(knots, places, width, weights)
    torch.testing.assert_close(cdf, torch.special.ndtr(u) @ weights, rtol=0, atol=1e-5)
    torch.testing.assert_close(density, (-0.5 * u.square()).exp() @ weights / width, rtol=3e-3, atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="20 or more rows.*got 19"):
        fit_splines(torch.randn(19, 2), knots=8, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"elements \[1\].*constant"):
        fitted(torch.tensor([[1.0, 2.0]]) * torch.tensor([[1.0, 1.0], [2.0, 1.0]]).repeat(20, 1))
    for narrowest in (0.0, 3.0):
        with pytest.raises(ValueError, match="narrowest must be"):
            fitted(torch.randn(30, 1), narrowest=narrowest)
    with pytest.raises(ValueError, match="dim must be .* got 0"):
        MarginalGaussianization(0)
