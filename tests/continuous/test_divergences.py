"""Divergences: exact where they say so, unbiased where they estimate, with the variance that theory gives."""

from __future__ import annotations

import pytest
import torch
from instances import FIELDS, TIGHT
from torch import Tensor

from cnf import CNF, Exact, Hutchinson, HutchPP, reconfigure
from cnf.continuous.divergences import DIVERGENCES
from cnf.continuous.linearization import Linearization

D = 5
SAMPLES = 40_000
ESTIMATES = [
    Hutchinson(),
    Hutchinson(3),
    Hutchinson(noise="gaussian"),
    Hutchinson(2, "gaussian"),
    HutchPP(),
    HutchPP(6),
]


class Matrix(Linearization):
    """A linear map of `SAMPLES` rows with one Jacobian for all, `(D, D)`, or one for each, `(N, D, D)`."""

    def __init__(self, matrix: Tensor, samples: int = SAMPLES) -> None:
        super().__init__(torch.zeros(samples, matrix.shape[-1], dtype=matrix.dtype))
        self.matrix = matrix

    @property
    def velocity(self) -> Tensor:
        return self.x

    def _jvp(self, v: Tensor) -> Tensor:
        return (self.matrix @ v.unsqueeze(-1)).squeeze(-1)

    def vjp(self, v: Tensor) -> Tensor:
        return (self.matrix.mT @ v.unsqueeze(-1)).squeeze(-1)


def matrix(rank: int = D) -> Tensor:
    """Not symmetric, with a trace far from zero."""
    full = torch.randn(D, rank, dtype=torch.float64) @ torch.randn(rank, D, dtype=torch.float64)
    return full + (torch.eye(D) if rank == D else 0)


def estimates(divergence, at: Linearization) -> Tensor:
    return divergence(at, divergence.probe(at.x))


def z_score(values: Tensor, expected: Tensor | float) -> float:
    return ((values.mean(0) - expected) / (values.std(0) / len(values) ** 0.5)).abs().max().item()


def variance(a: Tensor, noise: str) -> Tensor:
    symmetric = (a + a.mT) / 2
    off = symmetric.square().sum() - (symmetric.diagonal().square().sum() if noise == "rademacher" else 0)
    return 2 * off


def test_exact_is_the_trace():
    a = matrix()
    assert Exact().probe(torch.zeros(3, D)) is None
    assert torch.allclose(Exact()(Matrix(a, 3), None), a.trace().expand(3))


@pytest.mark.parametrize("divergence", ESTIMATES, ids=repr)
def test_estimates_are_unbiased(divergence):
    a = matrix()
    values = estimates(divergence, Matrix(a))
    assert values.shape == (SAMPLES,)
    assert values.std() > 0.05 * a.trace().abs()
    assert z_score(values, a.trace()) < 4


@pytest.mark.parametrize("divergence", ESTIMATES, ids=repr)
def test_gradients_of_estimates_are_unbiased(divergence):
    a = matrix().expand(SAMPLES, D, D).clone().requires_grad_()
    (gradients,) = torch.autograd.grad(estimates(divergence, Matrix(a)).sum(), a)
    deviation = gradients - torch.eye(D)
    spread = deviation.std(0)
    assert (deviation.mean(0).abs() <= 4.5 * spread / SAMPLES**0.5 + 1e-12).all()
    assert spread.max() > 0.1


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
@pytest.mark.parametrize("probes", [1, 4])
def test_the_variance_of_hutchinson_is_that_of_theory(noise, probes):
    a = matrix()
    values = estimates(Hutchinson(probes, noise), Matrix(a))
    expected = variance(a, noise) / probes
    assert z_score((values - a.trace()).square(), expected) < 4


def test_rademacher_probes_are_exact_on_a_diagonal():
    a = torch.diag(torch.randn(D, dtype=torch.float64))
    assert torch.allclose(estimates(Hutchinson(), Matrix(a)), a.trace().expand(SAMPLES))


def test_rademacher_varies_less_than_gaussian():
    a = matrix()
    spread = {noise: estimates(Hutchinson(1, noise), Matrix(a)).var() for noise in ("rademacher", "gaussian")}
    assert spread["rademacher"] < 0.9 * spread["gaussian"]


@pytest.mark.parametrize(("noise", "fourth"), [("rademacher", 1.0), ("gaussian", 3.0)])
def test_probes_have_unit_covariance_and_their_own_fourth_moment(noise, fourth):
    probe = Hutchinson(2, noise).probe(torch.zeros(SAMPLES, D, dtype=torch.float64)).permute(1, 0, 2).flatten(1)
    products = probe[:, :, None] * probe[:, None, :]
    off = ~torch.eye(2 * D, dtype=torch.bool)
    assert z_score(products[:, off], 0.0) < 4.5
    assert (products[:, ~off].mean(0) - 1).abs().max() < 0.05
    assert (probe**4).mean().sub(fourth).abs() < 0.05 * fourth


@pytest.mark.parametrize(("probes", "rank"), [(3, 1), (6, 1), (6, 2), (9, 3), (15, 5)])
def test_hutchpp_is_exact_up_to_the_rank_of_its_sketch(probes, rank):
    a = matrix(rank)
    values = estimates(HutchPP(probes), Matrix(a, 50))
    assert torch.allclose(values, a.trace().expand(50), atol=1e-9)


def test_hutchpp_is_not_exact_beyond_the_rank_of_its_sketch():
    assert estimates(HutchPP(3), Matrix(matrix(3), 50)).std() > 1e-2


def test_hutchpp_beats_hutchinson_where_few_directions_matter():
    basis = torch.linalg.qr(matrix()).Q
    a = basis @ torch.diag(torch.tensor([100, 1, 0.1, 0.1, 0.1], dtype=torch.float64)) @ basis.mT
    hutchinson, hutchpp = (estimates(divergence, Matrix(a)).std() for divergence in (Hutchinson(3), HutchPP(3)))
    assert hutchpp < 0.5 * hutchinson


@pytest.mark.parametrize("divergence", [Hutchinson(), HutchPP()], ids=repr)
def test_every_sample_has_its_own_probe_and_events_keep_their_shape(divergence):
    probe = divergence.probe(torch.zeros(50, 2, 3))
    assert probe.shape[1:] == (50, 2, 3)
    assert len({tuple(row.flatten().tolist()) for row in probe[0]}) > 20


@pytest.mark.parametrize("divergence", [Hutchinson, HutchPP])
def test_a_generator_is_the_only_source_of_its_noise(divergence):
    x = torch.zeros(4, 3)
    before = torch.get_rng_state()
    first, second = (divergence(generator=torch.Generator().manual_seed(7)).probe(x) for _ in range(2))
    generator = torch.Generator().manual_seed(7)
    again = [divergence(generator=generator).probe(x) for _ in range(2)]
    assert torch.equal(first, second)
    assert torch.equal(first, again[0])
    assert not torch.equal(*again)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("divergence", [Hutchinson(2), Hutchinson(noise="gaussian"), HutchPP()], ids=repr)
def test_a_solve_draws_one_probe_from_the_global_generator(divergence):
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0), divergence)
    x = torch.randn(4, 3)
    state = torch.get_rng_state()
    divergence.probe(x)
    after_probe = torch.get_rng_state()
    torch.set_rng_state(state)
    cnf.encode(x)
    assert torch.equal(torch.get_rng_state(), after_probe)
    assert not torch.equal(after_probe, state)


@pytest.mark.parametrize("divergence", [Hutchinson(), Hutchinson(noise="gaussian"), HutchPP()], ids=repr)
def test_the_log_det_of_a_solve_is_unbiased(divergence):
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0), solver=TIGHT).double()
    x = torch.randn(3, dtype=torch.float64).expand(4000, 3)
    with torch.no_grad():
        exact = cnf.encode(x[:1])
        value, log_det, _ = reconfigure(cnf, divergence=divergence).encode(x)
    assert torch.allclose(value, exact.value.expand_as(value), atol=1e-6)
    assert log_det.std() > 1e-2
    assert z_score(log_det, exact.log_det) < 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hutchinson(0), "probes must be at least 1, got 0"),
        (lambda: Hutchinson(noise="uniform"), "unknown noise 'uniform': known ones are rademacher, gaussian"),
        (lambda: HutchPP(4), "positive multiple of 3 probes, got 4"),
        (lambda: HutchPP(0), "positive multiple of 3 probes, got 0"),
        (lambda: HutchPP(9).probe(torch.zeros(4, 2)), "in 2 dimensions takes at most 6 probes, got 9"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_are_values():
    assert Hutchinson(2) == Hutchinson(2)
    assert len({Exact(), Exact(), HutchPP(), Hutchinson()}) == 3
    assert {name: make() for name, make in DIVERGENCES.items()}["exact"].exact
    with pytest.raises(AttributeError):
        Hutchinson().probes = 3
