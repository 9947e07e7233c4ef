"""A posterior that is exact passes, one that is too narrow or in the wrong place does not."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import cnf
from cnf.inference import coverage, sbc_ranks, tarp
from cnf.transforms import Mapped, Transform

N, DRAWS = 2000, 99


class Conjugate(Transform):
    """The posterior of θ ~ N(0, 1), x ~ N(θ, 1): N(x/2 + shift, width²/2), in each of two dimensions."""

    context_dim = 2

    def __init__(self, width: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = width * 0.5**0.5, shift

    def encode(self, x, context=None):
        return Mapped((x - context / 2 - self.shift) / self.scale, self.log_det(x))

    def decode(self, z, context=None):
        return Mapped(z * self.scale + context / 2 + self.shift, -self.log_det(z))

    def log_det(self, x):
        return -2 * torch.tensor(self.scale).log().expand(len(x))


def posterior(width: float = 1.0, shift: float = 0.0) -> cnf.Flow:
    return cnf.Flow(Conjugate(width, shift), cnf.StandardNormal(2))


@pytest.fixture
def pairs():
    parameters = torch.randn(N, 2)
    return parameters, parameters + torch.randn(N, 2)


def uniform_p(ranks: torch.Tensor) -> float:
    counts = torch.histc(ranks.float(), 10, 0, DRAWS + 1e-3)
    return stats.chisquare(counts.numpy()).pvalue


@pytest.mark.parametrize(
    ("width", "shift", "passes"), [(1, 0, True), (0.8, 0, False), (1.25, 0, False), (1, 0.1, False)]
)
def test_ranks_are_uniform_for_the_exact_posterior_alone(width, shift, passes, pairs):
    ranks = sbc_ranks(posterior(width, shift), *pairs, draws=DRAWS)
    assert ranks.shape == (N, 2)
    p = min(uniform_p(column) for column in ranks.T)
    assert p > 1e-3 if passes else p < 1e-4


@pytest.mark.parametrize("method", [coverage, tarp])
def test_regions_hold_the_truth_as_often_as_they_say(method, pairs):
    found = method(posterior(), *pairs, draws=DRAWS)
    assert ((found.coverage - found.levels).abs() < 4 * found.standard_error + 1.5 / DRAWS).all()
    assert found.coverage[-1] == 1
    assert found.ranks.shape == (N,)


def test_a_narrow_posterior_holds_it_less_often(pairs):
    found = coverage(posterior(0.8), *pairs, draws=DRAWS)
    half = len(found.levels) // 2
    assert found.coverage[half] < found.levels[half] - 5 * found.standard_error[half]


def test_random_points_see_a_posterior_in_the_wrong_place(pairs):
    found = tarp(posterior(1.0, 0.5), *pairs, draws=DRAWS)
    assert stats.kstest(found.ranks.numpy(), "uniform").pvalue < 1e-6


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"expected parameters \(N, D\) and data \(N, C\)"):
        sbc_ranks(posterior(), torch.zeros(3, 2), torch.zeros(4, 2))
