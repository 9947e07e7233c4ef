"""Scores of predictions by samples, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

import cnf
from cnf.metrics import crps, energy_score, interval_coverage, pit


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def crps_of_normal(x: torch.Tensor, scale: float) -> torch.Tensor:
    """`σ (z (2Φ(z) − 1) + 2φ(z) − 1/√π)` (Gneiting and Raftery 2007)."""
    z, normal = x / scale, torch.distributions.Normal(0.0, 1.0)
    return scale * (z * (2 * normal.cdf(z) - 1) + 2 * normal.log_prob(z).exp() - 1 / math.sqrt(math.pi))


def test_crps_of_a_normal_is_the_closed_form():
    x = torch.tensor([-3.0, -0.5, 0.0, 1.0, 2.5], dtype=torch.float64)
    scores = torch.stack([crps(1.5 * normals(200, 1, seed=seed), x) for seed in range(200)])
    error = scores.std(0) / math.sqrt(len(scores))
    assert ((scores.mean(0) - crps_of_normal(x, 1.5)).abs() < 4 * error).all()
    assert (error < 0.02).all()


@pytest.mark.parametrize("size", [2, 3, 10])
def test_the_fair_score_does_not_depend_on_the_number_of_samples(size):
    x = torch.tensor(0.7, dtype=torch.float64)
    samples = normals(size, 100_000, seed=size)
    fair = crps(samples, x.expand(100_000))
    z = (fair.mean() - crps_of_normal(x, 1.0)) / fair.std() * math.sqrt(len(fair))
    assert abs(z) < 4
    assert crps(samples, x.expand(100_000), fair=False).mean() > fair.mean() + 0.01


@pytest.mark.parametrize("fair", [True, False])
def test_crps_is_the_double_sum(fair):
    samples, x = normals(7, 4, 3), normals(4, 3, seed=1)
    pairs = (samples[:, None] - samples).abs().sum((0, 1)) / (2 * (42 if fair else 49))
    torch.testing.assert_close(crps(samples, x, fair=fair), (samples - x).abs().mean(0) - pairs)


@pytest.mark.parametrize("fair", [True, False])
def test_the_energy_score_of_one_column_is_crps(fair):
    samples, x = normals(6, 5, 1), normals(5, 1, seed=1)
    torch.testing.assert_close(energy_score(samples, x, fair=fair), crps(samples, x, fair=fair)[:, 0])
    shared = samples[:, :1]
    torch.testing.assert_close(energy_score(shared, x), energy_score(shared.expand(6, 5, 1), x))


def test_the_energy_score_of_a_normal_is_the_closed_form():
    dim = 3
    length = math.sqrt(2) * math.gamma((dim + 1) / 2) / math.gamma(dim / 2)  # E‖X‖; ‖X − X'‖ is √2 as long
    scores = energy_score(normals(5, 20_000, dim), torch.zeros(20_000, dim, dtype=torch.float64))
    assert abs(scores.mean() - length * (1 - 1 / math.sqrt(2))) < 4 * scores.std() / math.sqrt(len(scores))


def test_the_energy_score_in_blocks_is_the_same(monkeypatch):
    samples, x = normals(6, 11, 2), normals(11, 2, seed=1)
    whole = energy_score(samples, x)
    monkeypatch.setattr("cnf.metrics.predictive.BLOCK", 36 * 4)
    torch.testing.assert_close(energy_score(samples, x), whole)
    torch.testing.assert_close(energy_score(samples.reshape(6, 11, 1, 2), x.reshape(11, 1, 2))[:, 0], whole)


def uniform_p_value(u: torch.Tensor, bins: int = 20) -> float:
    counts = torch.histc(u, bins, 0, 1)
    statistic = ((counts - len(u) / bins) ** 2 / (len(u) / bins)).sum()
    return torch.special.gammaincc(torch.tensor((bins - 1) / 2, dtype=torch.float64), statistic.double() / 2).item()


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_the_transform_is_uniform_for_any_number_of_samples_with_and_without_ties(size, ties):
    every = normals(size + 1, 20_000, seed=size)
    every = every.round() if ties else every
    u = pit(every[1:], every[0], generator=seeded(5))
    assert 1e-3 < uniform_p_value(u) < 1 - 1e-3


def test_the_transform_is_the_distribution_function():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    u = pit(normals(100_000, 1), x, generator=seeded(1))
    torch.testing.assert_close(u, torch.distributions.Normal(0.0, 1.0).cdf(x), rtol=0, atol=0.01)


def test_coverage_is_the_level_where_predictions_are_right_and_tells_where_they_are_narrow():
    x = normals(5000)
    right = pit(normals(99, 5000, seed=1), x, generator=seeded(2))
    narrow = pit(0.5 * normals(99, 5000, seed=1), x, generator=seeded(2))
    for level in (0.5, 0.8, 0.95):
        share, error = interval_coverage(right, level)
        assert abs(share - level) < 4 * error
        reached = math.erf(0.5 * torch.special.ndtri(torch.tensor((1 + level) / 2)).item() / math.sqrt(2))
        assert abs(interval_coverage(narrow, level).mean - reached) < 0.03
    assert interval_coverage(right, 1.0).mean == 1


def test_samples_of_a_conditional_flow_are_scored_as_they_come():
    flow = cnf.build("maf", 2, context_dim=1, hidden=4, layers=1)
    context, x = torch.zeros(6, 1), torch.zeros(6, 2)
    samples = flow.distribution(context).sample((8,))
    assert pit(samples, x).shape == crps(samples, x).shape == (6, 2)
    assert energy_score(samples, x).shape == (6,)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"shape \(S, \*shape\) .* \(5, 2\), got \(9, 2\)"):
        crps(torch.zeros(9, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="at least 2 samples"):
        crps(torch.zeros(1, 5), torch.zeros(5))
    with pytest.raises(ValueError, match="column by column"):
        interval_coverage(torch.rand(5, 2))
    with pytest.raises(ValueError, match="in .0, 1."):
        interval_coverage(torch.tensor([0.5, 1.5]))
    with pytest.raises(ValueError, match="samples must be"):
        pit(torch.tensor([[math.nan]]), torch.zeros(1))
