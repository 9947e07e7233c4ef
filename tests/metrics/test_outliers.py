"""Data of another kind: the terms of a likelihood, and scores against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from cnf import build
from cnf.metrics import auroc, likelihood_ratio, log_prob_terms, perturbed, typicality


def test_the_two_terms_are_those_of_the_change_of_variables() -> None:
    torch.manual_seed(0)
    flow = build("maf", 3).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x = torch.randn(4, 5, 3).double()
    base, log_det = log_prob_terms(flow, x)
    z = flow(x).z
    torch.testing.assert_close(base, -0.5 * z.square().sum(-1) - 1.5 * math.log(2 * math.pi))
    torch.testing.assert_close(base + log_det, flow.log_prob(x))
    assert log_det.std() > 0.01


def test_typical_rows_are_neither_likely_nor_unlikely() -> None:
    """Of a normal density in 100 dimensions, the mode is the likeliest point and the strangest."""
    torch.manual_seed(0)
    log_prob = lambda x: -0.5 * x.square().sum(-1)  # noqa: E731
    reference, data = log_prob(torch.randn(2000, 100)), log_prob(torch.randn(500, 100))
    mode = log_prob(torch.zeros(1, 100))
    assert mode > data.max()
    assert typicality(mode, reference) > typicality(data, reference).max()
    groups = typicality(data.reshape(50, 10), reference)
    assert groups.shape == (50,)
    assert groups.mean() < typicality(data, reference).mean() / 2
    with pytest.raises(ValueError, match="some data as reference"):
        typicality(data, torch.zeros(0))


def test_the_ratio_is_a_difference_of_the_same_rows() -> None:
    assert torch.equal(likelihood_ratio(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])), torch.tensor([-2.0, 1.0]))
    with pytest.raises(ValueError, match=r"same rows, got \(2,\) and \(1,\)"):
        likelihood_ratio(torch.zeros(2), torch.zeros(1))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_pixels_is_replaced_by_uniform_noise(share: float) -> None:
    x = torch.full((20_000,), 3.0)
    changed = perturbed(x, 8, share=share, generator=torch.Generator().manual_seed(0))
    expected = torch.full((8,), share / 8)
    expected[3] += 1 - share
    torch.testing.assert_close(changed.long().bincount(minlength=8) / 20_000, expected, atol=0.015, rtol=0)


def test_the_area_is_the_share_of_pairs_in_order_with_its_error() -> None:
    pytest.importorskip("sklearn")
    generator = torch.Generator().manual_seed(0)
    draws = [(torch.randn(60, generator=generator), 1 + torch.randn(40, generator=generator)) for _ in range(200)]
    areas = [auroc(inside, outside) for inside, outside in draws]
    inside, outside = draws[0]
    assert areas[0].mean == pytest.approx((outside[:, None] > inside).float().mean().item())
    means = torch.tensor([area.mean for area in areas])
    assert means.mean().item() == pytest.approx(0.5 * (1 + math.erf(0.5)), abs=0.015)  # Φ(1/√2)
    assert means.std().item() == pytest.approx(areas[0].standard_error, rel=0.35)


def test_scores_must_be_finite() -> None:
    with pytest.raises(ValueError, match="scores must be finite"):
        auroc(torch.tensor([math.nan]), torch.zeros(1))
