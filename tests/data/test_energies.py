"""The potentials of variational inference: their formulas, their constants by quadrature, and their far ends."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cnf.data.energies import EDGE, ENERGIES, WALL, Energy, energy

every = pytest.mark.parametrize("name", ENERGIES)


def by_hand(name: str, x: float, y: float) -> float:
    """`e^{−U}` of one point, written out with `math`, without the walls."""

    def g(d: float, s: float) -> float:
        return math.exp(-0.5 * (d / s) ** 2)

    w1 = math.sin(2 * math.pi * x / 4)
    w2 = 3 * math.exp(-0.5 * ((x - 1) / 0.6) ** 2)
    w3 = 3 / (1 + math.exp(-(x - 1) / 0.3))
    return {
        "U1": g(math.hypot(x, y) - 2, 0.4) * (g(x - 2, 0.6) + g(x + 2, 0.6)),
        "U2": g(y - w1, 0.4),
        "U3": g(y - w1, 0.35) + g(y - w1 + w2, 0.35),
        "U4": g(y - w1, 0.4) + g(y - w1 + w3, 0.35),
    }[name]


def grid(step: float, half: float) -> Tensor:
    axis = torch.arange(-half, half + step / 2, step, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


@every
def test_potentials_are_the_formulas_of_the_paper(name):
    z = 8 * torch.rand(50, 2, dtype=torch.float64) - 4
    expected = torch.tensor([by_hand(name, *point) for point in z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(energy(name)(z).exp(), expected, rtol=1e-10, atol=1e-300)


@every
def test_constants_are_those_of_quadrature(name):
    step = 0.04
    mass = torch.cat([energy(name).log_prob(z).exp() for z in grid(step, 8.0).split(10_000)]).sum() * step**2
    assert mass.item() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", ["U2", "U3", "U4"])
def test_walls_are_soft_and_stand_outside_the_box(name):
    inside, outside = torch.tensor([[[EDGE, 0.3]], [[EDGE + 3 * WALL, 0.3]]], dtype=torch.float64)
    assert energy(name)(inside).exp().item() == pytest.approx(by_hand(name, EDGE, 0.3), rel=1e-12)
    bound = by_hand(name, EDGE + 3 * WALL, 0.3) * math.exp(-4.5)
    assert energy(name)(outside).exp().item() == pytest.approx(bound, rel=1e-6)


@every
def test_gradients_are_those_of_differences(name):
    z = (4 * torch.randn(30, 2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(energy(name), z)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_everywhere(name, dtype):
    z = torch.tensor([[0.0, 0.0], [60.0, -80.0], [-300.0, 4.0], [1.0, 1e3]], dtype=dtype, requires_grad=True)
    log_p = energy(name)(z)
    log_p.sum().backward()
    assert log_p.dtype == dtype
    assert log_p.isfinite().all()
    assert z.grad.isfinite().all()


def test_any_batch_shape():
    z = torch.randn(3, 4, 2)
    for entry in ENERGIES.values():
        torch.testing.assert_close(entry(z).flatten(), entry(z.reshape(-1, 2)))
        assert entry(z[0, 0]).shape == ()


def test_errors():
    with pytest.raises(ValueError, match="'U5'.*U1.*U4"):
        energy("U5")
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        energy("U1")(torch.zeros(3, 4))


@every
def test_samples_follow_the_density(name):
    n, half, cell, fine = 50_000, 6.0, 0.5, 25
    z = energy(name).sample(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    side, step = round(2 * half / cell), cell / fine
    axis = (torch.arange(side * fine, dtype=torch.float64) + 0.5) * step - half
    mass = energy(name).log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(side, fine, side, fine).sum((1, 3))
    expected = n * mass.flatten() * step**2
    place = ((z + half) / cell).floor().long()
    observed = torch.bincount(place[:, 0] * side + place[:, 1], minlength=side**2)
    large = expected >= 5
    expected = torch.cat([expected[large], (n - expected[large].sum())[None]]).clamp(min=1)
    observed = torch.cat([observed[large], (n - observed[large].sum())[None]])
    statistic = ((observed - expected) ** 2 / expected).sum()
    p_value = torch.special.gammaincc(large.sum() / 2, statistic / 2).item()
    assert 1e-3 < p_value < 1 - 1e-3


def test_samples_have_the_shape_that_is_asked_for_and_repeat():
    first, second = (energy("U1").sample((3, 4), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (3, 4, 2)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert energy("U3").sample(0).shape == (0, 2)


def test_an_energy_without_a_sampler_says_so():
    mine = Energy("mine", lambda z: z.square().sum(1), math.log(math.pi))
    with pytest.raises(ValueError, match="'mine' has no sampler"):
        mine.sample(3)
