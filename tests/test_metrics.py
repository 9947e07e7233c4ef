"""Numbers to report."""

from __future__ import annotations

import math

import pytest
import torch

import cnf
from cnf.metrics import bits_per_dim, log_prob_of_rows, mean_and_error, normalization


def test_bits_per_dim_of_the_uniform_density_is_that_of_fair_levels() -> None:
    torch.testing.assert_close(bits_per_dim(torch.zeros(2), 784), torch.full((2,), 8.0))
    torch.testing.assert_close(bits_per_dim(torch.zeros(1), 64, levels=16), torch.full((1,), 4.0))


def test_a_density_twice_as_high_saves_a_bit() -> None:
    half = torch.tensor([10 * math.log(2.0)])
    torch.testing.assert_close(bits_per_dim(half, 10), torch.tensor([7.0]))


def test_mean_and_error_cover_the_mean_at_the_nominal_rate() -> None:
    draws = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = sum(abs(estimate.mean) < 1.96 * estimate.error for estimate in map(mean_and_error, draws))
    assert 0.92 < inside / 2000 < 0.97


def test_normalization_of_a_known_density() -> None:
    torch.manual_seed(0)
    base = cnf.StandardNormal(2)
    flow = cnf.Flow(cnf.Compose([]), base)
    assert normalization(flow, (-8, -8), (8, 8)) == pytest.approx(1, abs=1e-5)
    assert normalization(flow, (0, -8), (8, 8)) == pytest.approx(0.5, abs=1e-5)


def test_normalization_wants_a_box() -> None:
    flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(3))
    with pytest.raises(ValueError, match="1 or 2 dimensions"):
        normalization(flow, (0, 0, 0), (1, 1, 1))


def test_rows_in_pieces_have_the_same_log_density() -> None:
    torch.manual_seed(0)
    flow = cnf.build("cnf", 2, context_dim=1, hidden=(8, 8)).double()
    x, context = torch.randn(25, 2).double(), torch.randn(25, 1).double()
    whole = flow.log_prob(x, context).detach()
    torch.testing.assert_close(log_prob_of_rows(flow, (x, context), batch_size=7), whole, rtol=0, atol=1e-9)
