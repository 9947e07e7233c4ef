"""Divergences: exact where they say so, unbiased where they estimate, with the variance that theory gives."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from instances import FIELDS, TIGHT
from torch import Tensor, nn

from cnf import CNF, Bottleneck, Exact, Hutchinson, HutchPP, JacobianFrobenius, RungeKutta, reconfigure
from cnf.continuous.chains import ChainLinearization
from cnf.continuous.divergences import DIVERGENCES
from cnf.continuous.linearization import Linearization

D = 5
SAMPLES = 40_000
ESTIMATES = [
    Hutchinson(),
    Hutchinson(3),
    Hutchinson(noise="gaussian"),
    Hutchinson(2, "gaussian"),
    Hutchinson(noise="orthogonal"),
    Hutchinson(4, "orthogonal"),
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

    def pushforward(self, v: Tensor) -> Tensor:
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


@pytest.mark.parametrize("probes", range(1, D))
def test_the_variance_of_orthogonal_probes_is_that_of_theory(probes):
    a = matrix()
    values = estimates(Hutchinson(probes, "orthogonal"), Matrix(a))
    deviator = variance(a, "gaussian") / 2 - a.trace() ** 2 / D
    expected = 2 * D / (D + 2) * deviator / probes * (D - probes) / (D - 1)
    assert z_score((values - a.trace()).square(), expected) < 4


@pytest.mark.parametrize("probes", [1, 3, 6])
def test_orthogonal_probes_are_the_columns_of_a_rotation_times_the_root_of_the_dimension(probes):
    columns = Hutchinson(probes, "orthogonal").probe(torch.zeros(7, 2, 3, dtype=torch.float64)).flatten(2)
    products = torch.einsum("inx,jnx->nij", columns, columns)
    assert torch.allclose(products, 6 * torch.eye(probes, dtype=torch.float64).expand(7, -1, -1), atol=1e-12)


@pytest.mark.parametrize("probes", [1, 2])
def test_orthogonal_probes_are_uniform_on_the_sphere(probes):
    """Each coordinate has the density of one on the sphere, here uniform by Archimedes' theorem."""
    columns = Hutchinson(probes, "orthogonal").probe(torch.zeros(SAMPLES, 3, dtype=torch.float64))
    for coordinate in columns.permute(0, 2, 1).reshape(-1, SAMPLES) / 3**0.5:
        distance = (coordinate.sort().values - torch.linspace(-1, 1, SAMPLES, dtype=torch.float64)).abs().max()
        assert distance / 2 < 1.95 / SAMPLES**0.5  # Kolmogorov-Smirnov at 0.1 %


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_orthogonal_probes_vary_less_than_independent_ones(noise):
    a = matrix()
    spread = {name: estimates(Hutchinson(4, name), Matrix(a)).var() for name in (noise, "orthogonal")}
    assert spread["orthogonal"] < 0.6 * spread[noise]


@pytest.mark.parametrize("name", ["mlp-tanh-concat-3", "potential-2", "conv", "module"])
def test_as_many_orthogonal_probes_as_dimensions_give_the_trace(name):
    field, shape = FIELDS[name].make(0).double(), FIELDS[name].event_shape
    at = field.linearize(torch.tensor(0.3, dtype=torch.float64), torch.randn(4, *shape, dtype=torch.float64))
    estimate = estimates(Hutchinson(math.prod(shape), "orthogonal"), at)
    assert torch.allclose(estimate, at.trace(), rtol=0, atol=1e-10)


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


# Bottleneck


def chain(samples: int, widths: tuple[int, ...] = (6, 2, 4), *, residual: bool = False) -> ChainLinearization:
    """A gated chain with the same Jacobian in every row, whose scales want gradients of their own in each."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64)

    x, sizes = draw(samples, D), [D, *widths, D]
    weights = [(draw(o, i) / i**0.5).requires_grad_() for i, o in itertools.pairwise(sizes)]
    scales = [draw(width).expand(samples, width).clone().requires_grad_() for width in widths]
    return ChainLinearization(x, x, weights, scales, gate=draw(D).sigmoid(), residual=residual)


BOTTLENECKS = [
    (Bottleneck(2), {}),
    (Bottleneck(6, 3), {}),
    (Bottleneck(4, noise="rademacher"), {}),
    (Bottleneck(2, noise="orthogonal"), {}),
    (Bottleneck(3), {"widths": (3, 3, 3), "residual": True}),
    (Bottleneck(2, 2), {"widths": (2,)}),
]
bottlenecks = pytest.mark.parametrize(("divergence", "options"), BOTTLENECKS)


@bottlenecks
def test_the_matrix_of_a_bottleneck_has_the_trace_of_the_jacobian(divergence, options):
    at = chain(1, **options)
    square = at.through(torch.eye(divergence.hidden, dtype=torch.float64).unsqueeze(1))[:, 0].mT
    assert torch.allclose(square.trace(), at.jacobian[0].trace())
    assert not square.allclose(square.mT)


@bottlenecks
def test_a_bottleneck_is_unbiased(divergence, options):
    at = chain(SAMPLES, **options)
    values = estimates(divergence, at).detach()
    assert values.std() > 0.02
    assert z_score(values, at.jacobian[0].trace().detach()) < 4


@bottlenecks
def test_gradients_of_a_bottleneck_are_unbiased(divergence, options):
    at = chain(SAMPLES, **options)
    values = estimates(divergence, at)
    exact = torch.autograd.grad(at.jacobian[:1].diagonal(dim1=1, dim2=2).sum(), [*at.weights, *at.scales])
    for gradients, expected in zip(
        torch.autograd.grad(values.sum(), at.scales, retain_graph=True), exact[len(at.weights) :], strict=True
    ):
        deviation = gradients - expected[0]
        assert (deviation.mean(0).abs() <= 4.5 * deviation.std(0) / SAMPLES**0.5 + 1e-12).all()
    groups = [torch.autograd.grad(part.mean(), at.weights, retain_graph=True) for part in values.chunk(100)]
    for gradients, expected in zip(zip(*groups, strict=True), exact[: len(at.weights)], strict=True):
        deviation = torch.stack(gradients) - expected
        assert (deviation.mean(0).abs() <= 5 * deviation.std(0) / 10 + 1e-12).all()
        assert deviation.std(0).max() > 1e-3


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_the_variance_of_a_bottleneck_is_that_of_its_small_matrix(noise):
    at = chain(SAMPLES)
    square = at.through(torch.eye(2, dtype=torch.float64).unsqueeze(1).expand(2, SAMPLES, 2))[:, 0].mT.detach()
    values = estimates(Bottleneck(2, 3, noise), at).detach()
    assert z_score((values - square.trace()).square(), variance(square, noise) / 3) < 4


@pytest.mark.parametrize("divergence", [Bottleneck(1, noise="rademacher"), Bottleneck(4, 4, "orthogonal")], ids=repr)
def test_a_bottleneck_has_no_variance_where_its_matrix_is_one_number_or_probed_in_all_directions(divergence):
    at = chain(50, (6, 1, 4))
    assert torch.allclose(estimates(divergence, at), at.trace(), rtol=0, atol=1e-10)


def test_a_bottleneck_is_the_first_layer_of_its_width():
    x, weight = torch.randn(2, 3), torch.randn(4, 3)
    linear = [weight, torch.randn(4, 4), torch.randn(3, 4)]
    at = ChainLinearization(x, x, linear, [torch.rand(2, 4), torch.rand(2, 4)])
    v = torch.randn(1, 2, 4)
    outer = ((v @ linear[1].mT) * at.scales[1]) @ linear[2].mT
    assert torch.allclose(at.through(v), (outer @ weight.mT) * at.scales[0])


@pytest.mark.parametrize("name", ["mlp-bottleneck", "planar"])
def test_fields_with_a_bottleneck_have_unbiased_log_dets(name):
    width = {"mlp-bottleneck": 2, "planar": 5}[name]
    cnf = CNF(FIELDS[name].make(0), solver=RungeKutta("rk4", steps=3)).double()
    x = torch.randn(3, dtype=torch.float64).expand(4000, 3)
    with torch.no_grad():
        exact = cnf.encode(x[:1]).log_det
        log_det = reconfigure(cnf, divergence=Bottleneck(width)).encode(x).log_det
    assert log_det.std() > 1e-2
    assert z_score(log_det, exact) < 4


@pytest.mark.parametrize("name", ["potential-1", "conv", "module"])
def test_a_bottleneck_needs_a_field_whose_layers_are_known(name):
    cnf = CNF(FIELDS[name].make(0), Bottleneck(6))
    with pytest.raises(TypeError, match=r"build the CNF on an MLPField, or take Hutchinson\(\)"):
        cnf.encode(torch.randn(4, *FIELDS[name].event_shape))


def test_a_bottleneck_that_is_not_there_is_named_with_those_that_are():
    cnf = CNF(FIELDS["mlp-bottleneck"].make(0), Bottleneck(7))
    with pytest.raises(ValueError, match="no hidden layer of this field is 7 wide: its layers are 6, 2, 5 wide"):
        cnf.encode(torch.randn(4, 3))


# A probe for every step


class Linear(nn.Module):
    """`dx/dt = A x`."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x @ self.matrix.mT


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_probe_for_every_step_divides_the_variance_of_a_constant_jacobian_by_their_number(steps):
    a, x = 0.3 * matrix(), torch.randn(SAMPLES // 4, D, dtype=torch.float64)
    solver = RungeKutta("midpoint", steps=steps, redraw=True)
    log_det = CNF(Linear(a), Hutchinson(2), solver=solver).decode(x).log_det
    assert z_score((log_det - a.trace()).square(), variance(a, "rademacher") / 2 / steps) < 4
    assert z_score(log_det, a.trace()) < 4


@pytest.mark.parametrize("divergence", [Hutchinson(), HutchPP(), Bottleneck(2)], ids=repr)
def test_a_probe_for_every_step_is_unbiased_and_varies_less(divergence):
    field, solver = FIELDS["mlp-bottleneck"].make(0).double(), RungeKutta("rk4", steps=6)
    x = torch.randn(3, dtype=torch.float64).expand(6000, 3)
    with torch.no_grad():
        exact = CNF(field, Exact(), solver=solver).encode(x[:1])
        once = CNF(field, divergence, solver=solver).encode(x)
        each = CNF(field, divergence, solver=replace(solver, redraw=True)).encode(x)
    assert torch.equal(once.value, each.value)
    assert z_score(each.log_det, exact.log_det) < 4
    assert each.log_det.var() < 0.6 * once.log_det.var()


def test_the_gradient_with_a_probe_for_every_step_is_unbiased():
    field, solver = FIELDS["mlp-tanh-concat-2"].make(0).double(), RungeKutta("midpoint", steps=3, redraw=True)
    x, parameters = torch.randn(4, 3, dtype=torch.float64), list(field.parameters())
    cnf = CNF(field, Hutchinson(), solver=solver)
    exact = torch.autograd.grad(CNF(field, solver=solver).encode(x).log_det.sum(), parameters, allow_unused=True)
    with_probes = [
        torch.autograd.grad(cnf.encode(x.repeat(50, 1)).log_det.sum() / 50, parameters, allow_unused=True)
        for _ in range(40)
    ]
    for gradients, expected in zip(zip(*with_probes, strict=True), exact, strict=True):
        if expected is not None:
            deviation = torch.stack(gradients) - expected
            assert (deviation.mean(0).abs() <= 5 * deviation.std(0) / 40**0.5 + 1e-12).all()


def test_a_solve_with_a_probe_for_every_step_draws_as_many():
    cnf = CNF(FIELDS["mlp-tanh-concat-2"].make(0), Hutchinson(2), {"frobenius": JacobianFrobenius(probes=1)})
    cnf.solver = RungeKutta("rk4", steps=3, redraw=True)
    x, state = torch.randn(4, 3), torch.get_rng_state()
    for _ in range(3):
        Hutchinson(2).probe(x), Hutchinson(1).probe(x)
    expected = torch.get_rng_state()
    torch.set_rng_state(state)
    cnf.encode(x)
    assert torch.equal(torch.get_rng_state(), expected)


# Noise


@pytest.mark.parametrize("divergence", [Hutchinson(), HutchPP()], ids=repr)
def test_every_sample_has_its_own_probe_and_events_keep_their_shape(divergence):
    probe = divergence.probe(torch.zeros(50, 2, 3))
    assert probe.shape[1:] == (50, 2, 3)
    assert len({tuple(row.flatten().tolist()) for row in probe[0]}) > 20


@pytest.mark.parametrize(
    "divergence", [Hutchinson, partial(Hutchinson, 2, "orthogonal"), HutchPP, partial(Bottleneck, 2)]
)
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


@pytest.mark.parametrize("divergence", [*ESTIMATES, *(divergence for divergence, _ in BOTTLENECKS)], ids=repr)
def test_a_seeded_divergence_is_the_same_with_noise_of_its_own(divergence):
    x, before = torch.zeros(4, 6), torch.get_rng_state()
    seeded = divergence.seeded(torch.Generator().manual_seed(7))
    other = replace(divergence, generator=torch.Generator().manual_seed(7))
    assert seeded == divergence
    assert torch.equal(seeded.probe(x), other.probe(x))
    assert torch.equal(torch.get_rng_state(), before)
    assert divergence.generator is None


def test_exact_traces_need_no_seed():
    assert Exact().seeded(torch.Generator()) == Exact()


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
        (lambda: Hutchinson(0), "probes must be .* from 1 to .*, got 0"),
        (lambda: Hutchinson(noise="uniform"), "noise must be one of 'rademacher', 'gaussian', .* got 'uniform'"),
        (
            lambda: Hutchinson(4, "orthogonal").probe(torch.zeros(9, 3)),
            "orthogonal noise in 3 dimensions takes at most 3 probes, got 4",
        ),
        (lambda: Bottleneck(0), "hidden must be .* from 1 to .*, got 0"),
        (lambda: Bottleneck(2, 0), "probes must be .* from 1 to .*, got 0"),
        (lambda: Bottleneck(2, noise="uniform"), "noise must be one of"),
        (lambda: Bottleneck(2, 3, "orthogonal").probe(torch.zeros(9, 4)), "in 2 dimensions takes at most 2 probes"),
        (lambda: HutchPP(4), "positive multiple of 3 probes, got 4"),
        (lambda: HutchPP(0), "probes must be .* from 1 to .*, got 0"),
        (lambda: HutchPP(9).probe(torch.zeros(4, 2)), "in 2 dimensions takes at most 6 probes, got 9"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_are_values():
    assert Hutchinson(2) == Hutchinson(2)
    assert len({Exact(), Exact(), HutchPP(), Hutchinson()}) == 3
    assert [name for name, make in DIVERGENCES.items() if make.exact] == ["exact"]
    with pytest.raises(AttributeError):
        Hutchinson().probes = 3
