"""Noise given again: one for one, in any precision, from any generator."""

from __future__ import annotations

import pytest
import torch

from cnf import CNF, Compose, Flow, Hutchinson, HutchPP, MLPField, StandardNormal, Transform
from cnf.noise import Recorded, Replayed


def draw(dtype: torch.dtype, generator: torch.Generator | None = None) -> list[torch.Tensor]:
    like = torch.zeros(20, 3, dtype=dtype)
    return [
        torch.randn(20, 3, dtype=dtype, generator=generator),
        torch.randint(0, 9, (5,)).to(dtype),
        torch.rand_like(like),
        torch.randn_like(like),
    ]


def test_what_was_drawn_is_given_again_in_the_precision_asked_for():
    generator = torch.Generator().manual_seed(1)
    with Recorded() as noise:
        single = draw(torch.float32, generator)
    with Replayed(noise.draws):
        double = draw(torch.float64, generator)
    assert all(b.dtype == torch.float64 for b in double)
    assert all(torch.equal(a.double(), b) for a, b in zip(single, double, strict=True))
    assert not torch.equal(draw(torch.float32)[0], single[0])


DRAWS = {
    "normal_": lambda x: x.new_empty(x.shape).normal_(),
    "uniform_": lambda x: torch.empty_like(x).uniform_(-1, 1),
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.5),
    "exponential_": lambda x: torch.empty_like(x).exponential_(),
    "poisson": lambda x: torch.poisson(torch.full_like(x, 3)),
    "gamma": lambda x: torch.distributions.Gamma(torch.ones_like(x), torch.ones_like(x)).sample(),
    "beta": lambda x: torch.distributions.Beta(torch.ones_like(x), torch.ones_like(x)).sample(),
    "von mises": lambda x: torch.distributions.VonMises(torch.zeros_like(x), torch.ones_like(x)).sample(),
    "dropout": lambda x: torch.nn.functional.dropout(torch.ones_like(x)),
    "init": lambda x: torch.nn.init.trunc_normal_(torch.empty_like(x)),
    "out": lambda x: torch.randn(x.shape, out=torch.empty_like(x)),
    "generator": lambda x: torch.empty_like(x).normal_(generator=GENERATOR),
    "vmap": lambda x: torch.func.vmap(lambda row: torch.empty_like(row).normal_(), randomness="different")(x),
}
GENERATOR = torch.Generator()


@pytest.mark.parametrize("name", DRAWS)
def test_every_way_to_draw_is_seen(name):
    x = torch.zeros(20, 3)
    with Recorded() as noise:
        single = DRAWS[name](x)
        single_again = torch.empty_like(x).normal_()
    with Replayed(noise.draws):
        double, double_again = DRAWS[name](x.double()), torch.empty_like(x).double().normal_()
    assert double.dtype == torch.float64
    assert torch.allclose(single.double(), double, rtol=1e-6)
    assert torch.equal(single_again.double(), double_again)
    assert not torch.allclose(single, DRAWS[name](x))


def test_what_is_drawn_may_be_changed_afterwards():
    with Recorded() as noise:
        first = torch.randn(4).mul_(0)
    with Replayed(noise.draws):
        second = torch.randn(4)
    assert (first == 0).all()
    assert (second != 0).all()


def test_noise_of_another_shape_is_an_error():
    with Recorded() as noise:
        torch.randn(3)
    for draw in (lambda: torch.randn(4), lambda: (torch.randn(3), torch.randn(3))):
        with Replayed(noise.draws), pytest.raises(RuntimeError, match="the noise of two evaluations differs"):
            draw()


def test_one_seed_would_not_do():
    numbers = [torch.randn(50, dtype=dtype, generator=torch.Generator().manual_seed(1)) for dtype in
               (torch.float32, torch.float64)]  # fmt: skip
    assert not torch.allclose(numbers[0].double(), numbers[1], atol=1e-2)


@pytest.mark.parametrize("divergence", [Hutchinson(2, "gaussian"), Hutchinson(2), Hutchinson(noise="orthogonal"),
                                        HutchPP(), Hutchinson(generator=torch.Generator())], ids=repr)  # fmt: skip
def test_probes_of_solves_are_given_again(divergence):
    flow, x = Flow(CNF(MLPField(3, hidden=8), divergence), StandardNormal(3)), torch.randn(9, 3)
    with Recorded() as noise:
        value = flow.log_prob(x)
    with Replayed(noise.draws):
        again = flow.double().log_prob(x.double())
    assert torch.allclose(value.double(), again, atol=1e-5)
    assert not torch.allclose(flow.log_prob(x.double()), again, atol=1e-5)


class Shaken(Transform):
    """Noise of a user's own, drawn in place, in the log-determinant."""

    exact = False

    def encode(self, x, context=None):
        return x, x.new_empty(len(x)).normal_()

    def decode(self, z, context=None):
        return z, z.new_empty(len(z)).normal_()


def test_noise_drawn_in_place_is_no_error_of_the_solver():
    """If the noise of the two solves differed, their distance would be near 1."""
    flow = Flow(Compose([Shaken(), CNF(MLPField(3, hidden=8))]), StandardNormal(3))
    _, of_noise, of_solver = flow.log_prob_with_error(torch.randn(50, 3))
    assert of_noise.mean() > 0.05
    assert of_solver.max() < 1e-4
