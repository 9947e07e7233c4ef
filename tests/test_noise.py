"""Noise given again: one for one, in any precision, from any generator."""

from __future__ import annotations

import pytest
import torch

from cnf import CNF, Flow, Hutchinson, HutchPP, MLPField, StandardNormal
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
