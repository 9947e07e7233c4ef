"""Evidence against closed forms, with an error that means something and a warning where nothing helps."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.distributions import Cauchy, Independent, MultivariateNormal, Normal

import cnf
from cnf.discrete import Affine
from cnf.inference import Defence, UnreliableWarning, importance

N = 4000


def proposal(scale: float = 1.0, dim: int = 2) -> cnf.Flow:
    return cnf.Flow(Affine(dim, scale=scale), cnf.StandardNormal(dim)).double()


def gaussian(x: torch.Tensor) -> torch.Tensor:
    """`7 exp(−|x|²/2)`, whose integral is `7 · 2π`."""
    return math.log(7) - x.square().sum(1) / 2


def banana(x: torch.Tensor) -> torch.Tensor:
    """A bent normal density, whose integral is `3 · 2π`."""
    return math.log(3) - x[:, 0].square() / 2 - (x[:, 1] - 0.3 * x[:, 0].square()).square() / 2


TRUTH = {gaussian: math.log(7 * 2 * math.pi), banana: math.log(3 * 2 * math.pi)}


@pytest.mark.parametrize("density", TRUTH)
def test_the_evidence_is_within_its_error(density):
    found = []
    for seed in range(20):
        torch.manual_seed(seed)
        evidence = importance(proposal(1.8), density, N)
        found.append(abs(evidence.log_z - TRUTH[density]) / evidence.standard_error)
        assert 0.1 < evidence.ess < 0.9
    assert sum(error < 2 for error in found) >= 17


def test_evidence_is_shown_in_a_line():
    shown = repr(importance(proposal(1.5), gaussian, N))
    assert re.fullmatch(r"Evidence\(log_z=3\.\d+ ± 0\.0\d+, ess=0\.\d+(, k_hat=\S+)?, n=4000\)", shown)


def test_a_perfect_proposal_has_no_error():
    evidence = importance(proposal(), gaussian, 100)
    assert evidence.log_z == pytest.approx(TRUTH[gaussian], abs=1e-12)
    assert evidence.ess == pytest.approx(1)
    assert evidence.standard_error < 1e-12


def test_draws_in_batches_are_one_sample():
    assert importance(proposal(), gaussian, 250, batch_size=100).samples.shape == (250, 2)


def test_a_proposal_that_misses_the_tails_is_not_to_be_trusted():
    pytest.importorskip("arviz_stats")
    with pytest.warns(UnreliableWarning, match="k̂ = .* is above 0.7"):
        assert importance(proposal(0.25), gaussian, N).k_hat > 0.7
    assert importance(proposal(1.5), gaussian, N).k_hat < 0.7


def test_a_defence_bounds_the_weights():
    wide = Defence(Independent(Cauchy(torch.zeros(2), torch.ones(2)), 1), 0.3)
    evidence = importance(proposal(0.4), gaussian, N, defence=wide)
    assert evidence.log_weights.max() < 6.5  # log (7 · max of the Gaussian over the share of the Cauchy)
    assert abs(evidence.log_z - TRUTH[gaussian]) < 4 * evidence.standard_error < 0.2


def test_expectations_and_draws_are_those_of_the_density():
    evidence = importance(proposal(1.5), gaussian, 20_000)
    square = evidence.expectation(lambda x: x[:, 0].square())
    assert abs(square.mean - 1) < 4 * square.standard_error < 0.2
    drawn = evidence.resample(20_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.std(0), torch.ones(2, dtype=torch.float64), rtol=0, atol=0.05)


def test_a_condition_of_the_flow():
    law = cnf.build("maf", 2, 1, hidden=(8,)).double()
    evidence = importance(law, gaussian, 200, context=torch.zeros(1, dtype=torch.float64))
    assert evidence.samples.shape == (200, 2)


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (lambda x: x, "a number for each of 100 points"),
        (lambda x: x[:, 0] * math.nan, "NaN or .* at 100 of 100 points"),
        (lambda x: x[:, 0] * 0 + math.inf, "NaN or"),
        (lambda x: x[:, 0] * 0 - math.inf, "the density is 0 at all 100 draws"),
    ],
)
def test_densities_that_are_none(density, message):
    with pytest.raises(ValueError, match=message):
        importance(proposal(), density, 100)


def test_estimated_densities_are_refused():
    flow = cnf.build("cnf", 2, divergence=cnf.Hutchinson())
    with pytest.raises(ValueError, match="weights need exact densities"):
        importance(flow, gaussian, 100)


def test_a_support_with_an_edge():
    half = importance(proposal(1.2), lambda x: gaussian(x).masked_fill(x[:, 0] < 0, -math.inf), N)
    assert abs(half.log_z - TRUTH[gaussian] + math.log(2)) < 4 * half.standard_error


def test_a_mixture_in_ten_dimensions():
    means = torch.stack([torch.full((10,), 0.7), torch.full((10,), -0.7)]).double()
    parts = [MultivariateNormal(mean, 0.5 * torch.eye(10, dtype=torch.float64)) for mean in means]
    evidence = importance(
        proposal(1.1, 10), lambda x: torch.logaddexp(*[part.log_prob(x) for part in parts]) - math.log(2), 20_000
    )
    assert abs(evidence.log_z) < 4 * evidence.standard_error < 0.4


def test_normal_bases_with_columns_of_their_own():
    wide = Defence(Normal(torch.zeros(2), 3 * torch.ones(2)), 0.5)
    assert abs(importance(proposal(), gaussian, N, defence=wide).log_z - TRUTH[gaussian]) < 0.1
