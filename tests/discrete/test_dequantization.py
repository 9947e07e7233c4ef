"""Probabilities of whole numbers: bounds that are bounds, and that tighten."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Exponential, Geometric, Independent

import cnf
from cnf.discrete import Logit
from cnf.discrete.dequantization import Dequantize
from cnf.metrics import importance_log_prob

LEVELS = 3


def every_image(dim: int = 4, levels: int = LEVELS) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=dim)), dtype=torch.float64)


def model(noise: cnf.Flow | None = None) -> cnf.Flow:
    """A flow of images of four pixels with random weights, strongly dependent."""
    torch.manual_seed(1)
    body = cnf.build("realnvp", 4, preprocess="none").double()
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return cnf.Flow(cnf.Compose([Dequantize(LEVELS, noise), Logit(1e-6), body.transform]), body.base)


def noise_model(seed: int = 2) -> cnf.Flow:
    torch.manual_seed(seed)
    noise = cnf.build("realnvp", 4, 4, preprocess="none").double()
    with torch.no_grad():
        for parameter in noise.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return noise


@pytest.mark.parametrize("variational", [False, True])
def test_the_probabilities_of_all_images_sum_to_one(variational):
    flow = model(noise_model() if variational else None)
    with torch.no_grad():
        bound = importance_log_prob(flow, every_image(), samples=512).value
    assert bound.logsumexp(0).exp().item() == pytest.approx(1, abs=0.01)


def test_more_samples_make_a_higher_bound():
    flow, x = model(), every_image()
    with torch.no_grad():
        draws = flow.log_prob(x.expand(1024, -1, -1))
    single = draws.mean(0)
    tighter = (draws.view(-1, 16, len(x)).logsumexp(1) - math.log(16)).mean(0)
    exact = draws.logsumexp(0) - math.log(len(draws))
    assert (single < tighter).all()
    assert (tighter < exact).float().mean() > 0.9
    assert not flow.exact


def test_uniform_noise_has_the_bits_of_its_levels():
    flow = cnf.Flow(Dequantize(17), cnf.Uniform(64))
    x = torch.randint(17, (5, 64)).float()
    torch.testing.assert_close(-flow.log_prob(x) / (64 * math.log(2)), torch.full((5,), math.log2(17)))


@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)])
@pytest.mark.parametrize("levels", [5, None])
@pytest.mark.parametrize("variational", [False, True])
def test_decoding_gives_the_numbers_back(shape, levels, variational):
    noise = cnf.build("realnvp", 4, 4, preprocess="none").double() if variational and len(shape) == 1 else None
    layer = Dequantize(levels, noise)
    x = torch.randint(5, (200, *shape)).double()
    there = layer.encode(x)
    back = layer.decode(there.value)
    assert torch.equal(back.value, x)
    torch.testing.assert_close(back.log_det, -there.log_det, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 0.999999999, 1.0, 1.5, -0.2])
def test_samples_are_levels_whatever_comes(value):
    x = Dequantize(LEVELS).decode(torch.full((1, 2), value)).value
    assert x.min() >= 0
    assert x.max() <= LEVELS - 1


def test_counts_have_the_probabilities_of_their_law():
    """Exponential times rounded down are geometric counts."""
    rate = torch.tensor([0.4, 1.5], dtype=torch.float64)
    flow = cnf.Flow(Dequantize(None), Independent(Exponential(rate), 1))
    counts = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)).double()
    exact = Geometric(1 - (-rate).exp()).log_prob(counts).sum(1)
    with torch.no_grad():
        bound, draws = importance_log_prob(flow, counts, samples=4096).value, flow.log_prob(counts.expand(4096, -1, -1))
    torch.testing.assert_close(bound, exact, rtol=0, atol=0.05)
    assert (draws.mean(0) < exact).all()
    samples = flow.sample(100)
    assert torch.equal(samples, samples.floor())


@pytest.mark.parametrize("bad", [[0.5, 1.0], [-1.0, 1.0], [3.0, 1.0], [float("nan"), 0.0]])
def test_data_that_are_no_levels(bad):
    with pytest.raises(ValueError, match=r"expected whole numbers from 0 to 2; 1 rows have others, first \[1\]"):
        Dequantize(LEVELS).encode(torch.tensor([[0.0, 2.0], bad]))


def test_gradients_reach_the_noise():
    noise = noise_model()
    model(noise).log_prob(every_image()).mean().backward()
    assert all(parameter.grad is not None for parameter in noise.parameters())


@pytest.mark.parametrize("levels", [1, 0, -3, 2.5, "256"])
def test_levels_are_two_or_more(levels):
    with pytest.raises((TypeError, ValueError), match="levels"):
        Dequantize(levels)
