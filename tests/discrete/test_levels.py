"""Pixels made normal by the probabilities of their levels."""

from __future__ import annotations

import math

import torch

from cnf.discrete import Dequantize, LevelMarginals
from cnf.distributions import StandardNormal
from cnf.flows import Flow
from cnf.transforms import Compose


def skewed(n: int, levels: int) -> torch.Tensor:
    """Three elements: nearly always 0, uniform, and always the highest level."""
    x = torch.randint(levels, (n, 3))
    x[:, 0] *= (torch.rand(n) < 0.05).long()
    x[:, 2] = levels - 1
    return x.double()


def of_levels(levels: int, x: torch.Tensor) -> Flow:
    flow = Flow(Compose([Dequantize(levels), LevelMarginals(x.shape[1], levels)]), StandardNormal(x.shape[1])).double()
    flow.initialize(x)
    return flow


def test_before_the_start_all_levels_are_equally_likely() -> None:
    layer = Compose([Dequantize(7), LevelMarginals(2, 7)])
    flow = Flow(layer, StandardNormal(2)).double()
    x = torch.randint(7, (20, 2)).double()
    torch.testing.assert_close(flow.log_prob(x), torch.full((20,), -2 * math.log(7)).double())


def test_the_probabilities_of_all_levels_sum_to_one_and_are_those_of_the_data() -> None:
    torch.manual_seed(0)
    levels, n = 6, 2000
    x = skewed(n, levels)
    flow = of_levels(levels, x)
    for element in range(3):
        rows = x[:1].repeat(levels, 1)
        rows[:, element] = torch.arange(levels).double()
        log_prob = flow.log_prob(rows)
        shares = (log_prob - log_prob.logsumexp(0)).exp()
        counted = x[:, element].long().bincount(minlength=levels) / n
        torch.testing.assert_close(shares, counted.double(), atol=5e-3, rtol=0)
    every = torch.cartesian_prod(*[torch.arange(levels).double()] * 3)
    torch.testing.assert_close(flow.log_prob(every).logsumexp(0), torch.zeros(()).double())


def test_few_rows_lean_on_the_other_elements_and_no_level_is_impossible() -> None:
    torch.manual_seed(0)
    flow = of_levels(16, skewed(8, 16))
    every = torch.arange(16).double()[:, None].repeat(1, 3)
    assert flow.log_prob(every).isfinite().all()
    many = skewed(5000, 16)
    assert flow.log_prob(many).mean() > -3 * math.log(16) + 2


def test_float32_keeps_the_tails() -> None:
    """A level of one row in ten thousand, next to the end: its points are not thrown together."""
    x = torch.zeros(10_000, 1)
    x[0] = 3
    layer = LevelMarginals(1, 4)
    layer.initialize((x + 0.5) / 4)
    v = torch.linspace(0.7501, 0.9999, 200)[:, None]
    z, log_det, _ = layer.encode(v)
    back, inverse_log_det, _ = layer.decode(z)
    assert (z.diff(dim=0) > 0).all()
    torch.testing.assert_close(back, v, atol=1e-4, rtol=0)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-4, rtol=1e-4)
