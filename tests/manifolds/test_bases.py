"""Bases on the sphere and the simplex: normalised in the Riemannian volume, and sampled as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor
from torch import distributions as td

from cnf import Flow, Inverse
from cnf.distributions import (
    AngularCentralGaussian,
    Dirichlet,
    LogisticNormal,
    SphereUniform,
    SphericalCauchyMixture,
    VonMisesFisher,
)
from cnf.distributions.simplex import log_ratio_basis
from cnf.distributions.sphere import frame
from cnf.distributions.von_mises_fisher import log_scaled_bessel
from cnf.manifolds import Calibration, NormalizedTranslation, Simplex, Sphere


def covariance(n: int) -> Tensor:
    factor = torch.tensor(np.random.default_rng(n).normal(size=(n, n)))
    return factor @ factor.T + 0.3 * torch.eye(n)


def axis(n: int) -> Tensor:
    return torch.arange(1.0, n + 1).double() - 1.8


SPHERICAL = {
    "uniform": lambda n: SphereUniform(n).double(),
    "vmf": lambda n: VonMisesFisher(axis(n), 3.0),
    "vmf-flat": lambda n: VonMisesFisher(axis(n), 1e-3),
    "vmf-sharp": lambda n: VonMisesFisher(-axis(n), 200.0),
    "acg": lambda n: AngularCentralGaussian(covariance(n)),
    "cauchy-mixture": lambda n: SphericalCauchyMixture(
        covariance(n), concentration=torch.linspace(0.2, 0.7, n), weights=torch.arange(1.0, n + 1)
    ),
}
SIMPLICIAL = {
    "dirichlet": lambda n: Dirichlet(1 + torch.arange(1.0, n + 1).double() / 2),
    "dirichlet-flat": lambda n: Dirichlet([1.0] * n).double(),
    "logistic-normal": lambda n: LogisticNormal(n, loc=torch.linspace(-0.5, 0.5, n - 1).double(), scale=0.7),
}
spherical = pytest.mark.parametrize("make", SPHERICAL.values(), ids=SPHERICAL)
simplicial = pytest.mark.parametrize("make", SIMPLICIAL.values(), ids=SIMPLICIAL)
every = pytest.mark.parametrize("make", [*SPHERICAL.values(), *SIMPLICIAL.values()], ids=[*SPHERICAL, *SIMPLICIAL])


def circle(points: int) -> tuple[Tensor, Tensor]:
    """Nodes on S¹ and their weights."""
    angle = 2 * math.pi * torch.arange(points).double() / points
    return torch.stack([angle.cos(), angle.sin()], 1), torch.full((points,), 2 * math.pi / points, dtype=torch.float64)


def globe(points: int) -> tuple[Tensor, Tensor]:
    """Nodes on S²: Gauss and Legendre's for the height, equidistant ones for the longitude."""
    height, weight = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(points))
    ring, arc = circle(points)
    radius = (1 - height.square()).sqrt()
    x = torch.cat([radius[:, None, None] * ring, height[:, None, None].expand(-1, points, 1)], 2)
    return x.reshape(-1, 3), (weight.unsqueeze(1) * arc).reshape(-1)


def triangle(points: int) -> tuple[Tensor, Tensor]:
    """Nodes on the 2-simplex, its area being √3 times that of its first two coordinates."""
    node, weight = (torch.from_numpy(array) / 2 for array in np.polynomial.legendre.leggauss(points))
    u, v = torch.meshgrid(node + 0.5, node + 0.5, indexing="ij")
    x = torch.stack([u, (1 - u) * v, (1 - u) * (1 - v)], -1).reshape(-1, 3)
    return x, (math.sqrt(3) * (1 - u) * weight.unsqueeze(1) * weight).reshape(-1)


def test_the_quadratures_have_the_right_volumes():
    for (x, weights), manifold in ((circle(50), Sphere(2)), (globe(50), Sphere(3)), (triangle(50), Simplex(3))):
        manifold.check(x)
        assert math.isclose(weights.sum(), manifold.volume)


@spherical
def test_densities_integrate_to_one_on_the_circle_and_the_sphere(make):
    for n, (x, weights) in ((2, circle(2000)), (3, globe(200))):
        assert abs(make(n).log_prob(x).exp() @ weights - 1) < 1e-8


@simplicial
def test_densities_integrate_to_one_on_the_triangle(make):
    x, weights = triangle(200)
    assert abs(make(3).log_prob(x).exp() @ weights - 1) < 1e-5


@pytest.mark.parametrize("name", ["vmf", "acg"])
def test_flows_of_them_integrate_to_one(name):
    flow = Flow(NormalizedTranslation(3, shift=torch.tensor([0.5, 0.1, -0.2])).double(), SPHERICAL[name](3))
    x, weights = globe(200)
    assert abs(flow.log_prob(x).exp() @ weights - 1) < 1e-8
    for transform in (Calibration(3, temperature=1.3), Inverse(Calibration(3, temperature=1.2))):
        flow = Flow(transform.double(), SIMPLICIAL["logistic-normal"](3))
        x, weights = triangle(200)
        assert abs(flow.log_prob(x).exp() @ weights - 1) < 1e-4


@spherical
@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_directions_follow_the_density(make, n):
    base, m = make(n), 30_000
    samples = base.sample(m).detach()
    Sphere(n).check(samples)
    uniform = Sphere(n).sample(200_000, dtype=torch.float64)
    if n == 2:
        angle = torch.atan2(samples[:, 1], samples[:, 0]).numpy()
        x, weights = circle(200_000)
        order = torch.atan2(x[:, 1], x[:, 0]).sort()
        cdf = (base.log_prob(x).exp() * weights)[order.indices].cumsum(0).detach().numpy()
        assert stats.kstest(angle, lambda t: np.interp(t, order.values.numpy(), cdf)).pvalue > 1e-3
    ratio = base.log_prob(uniform).exp().detach() * Sphere(n).volume
    if ratio.std() < 3:  # too uneven for importance weights otherwise
        expected = (ratio.unsqueeze(1) * uniform.square()).mean(0)
        error = (ratio.unsqueeze(1) * uniform.square()).std(0) / len(uniform) ** 0.5
        deviation = (samples.square().mean(0) - expected) / (error.square() + samples.square().var(0) / m).sqrt()
        assert deviation.abs().max() < 4


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("concentration", [0.1, 5.0, 300.0])
def test_heights_of_von_mises_fisher_samples_follow_their_marginal(n, concentration):
    base = VonMisesFisher(axis(n), concentration)
    heights = (base.sample(20_000) @ base.mean).detach().numpy()
    angle = np.linspace(0, np.pi, 100_001)
    middle = (angle[1:] + angle[:-1]) / 2
    mass = np.exp(concentration * (np.cos(middle) - 1)) * np.sin(middle) ** (n - 2)
    cdf = np.concatenate([[0], mass.cumsum() / mass.sum()])
    assert stats.kstest(np.arccos(np.clip(heights, -1, 1)), lambda t: np.interp(t, angle, cdf)).pvalue > 1e-3


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 25])
def test_von_mises_fisher_densities_are_those_of_scipy(n):
    x = Sphere(n).sample(20, dtype=torch.float64)
    for concentration in (0.01, 1.0, 50.0, 5000.0):
        base = VonMisesFisher(axis(n), concentration)
        expected = stats.vonmises_fisher(base.mean.detach().numpy(), concentration).logpdf(x.numpy())
        assert np.allclose(base.log_prob(x).detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("b", [1.0, 1.5, 2.0, 4.0, 25.0])
@pytest.mark.parametrize("x", [0.01, 1.0, 30.0, 999.0, 1001.0, 2e4, 1e7])
def test_the_bessel_function_and_its_derivative(b, x):
    point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = log_scaled_bessel(b, point)
    value.backward()
    expected = math.log(special.ive(b - 1, x)) + math.lgamma(b) - (b - 1) * math.log(x / 2)
    slope = special.ive(b, x) / special.ive(b - 1, x) - 1  # the mean of t − 1
    assert math.isclose(value.item(), expected, rel_tol=1e-11, abs_tol=1e-11)
    assert math.isclose(point.grad.item(), slope, rel_tol=1e-6, abs_tol=1e-10)


def test_angular_central_gaussians_match_scipy_and_ignore_the_scale():
    x = Sphere(4).sample(20, dtype=torch.float64)
    sigma = covariance(4)
    one, ten = AngularCentralGaussian(sigma).log_prob(x), AngularCentralGaussian(10 * sigma).log_prob(x)
    assert torch.allclose(one, ten, rtol=0, atol=1e-12)
    quadratic = ((x @ torch.linalg.inv(sigma)) * x).sum(1)
    expected = -0.5 * torch.logdet(sigma) - 2 * quadratic.log() - math.log(2 * math.pi**2)
    assert torch.allclose(one, expected, rtol=0, atol=1e-12)


def test_dirichlet_densities_are_those_of_torch_over_the_root_of_n():
    alpha = torch.tensor([0.5, 2.0, 3.0, 1.0]).double()
    x = Simplex(4).sample(20, dtype=torch.float64)
    expected = td.Dirichlet(alpha).log_prob(x) - 0.5 * math.log(4)
    assert torch.allclose(Dirichlet(alpha).log_prob(x), expected, rtol=0, atol=1e-12)
    corner = torch.tensor([[1.0, 0.0, 0.0]])
    assert Dirichlet([1.0, 1.0, 1.0]).log_prob(corner).exp().item() == pytest.approx(1 / Simplex(3).volume)
    assert Dirichlet([2.0, 2.0, 2.0]).log_prob(corner).item() == -math.inf


@pytest.mark.parametrize("alpha", [[0.3, 1.0, 4.0], [1.0, 1.0, 1.0], [30.0, 2.0, 0.05]])
def test_dirichlet_samples_have_beta_marginals(alpha):
    samples = Dirichlet(alpha).double().sample(20_000).detach()
    for column, a in zip(samples.T.numpy(), alpha, strict=True):
        assert stats.kstest(column, stats.beta(a, sum(alpha) - a).cdf).pvalue > 1e-3


def test_logistic_normal_samples_are_normal_in_their_coordinates():
    loc, scale = torch.tensor([0.5, -1.0, 0.0]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    y = LogisticNormal(4, loc=loc, scale=scale).sample(20_000).log() @ log_ratio_basis(4)
    for column, mean, std in zip(y.T.detach().numpy(), loc, scale, strict=True):
        assert stats.kstest(column, stats.norm(mean, std).cdf).pvalue > 1e-3


def test_the_basis_of_log_ratios_is_orthonormal_with_sums_zero():
    for n in range(2, 9):
        basis = log_ratio_basis(n)
        assert torch.allclose(basis.mT @ basis, torch.eye(n - 1).double(), atol=1e-15)
        assert torch.allclose(basis.sum(0), torch.zeros(n - 1).double(), atol=1e-15)


def test_a_frame_is_orthogonal_and_ends_with_its_vector():
    for n in range(2, 9):
        x = torch.cat([Sphere(n).sample(20, dtype=torch.float64), torch.eye(n).double(), -torch.eye(n).double()])
        q = frame(x)
        assert torch.allclose(q.mT @ q, torch.eye(n).double().expand_as(q), atol=1e-14)
        assert torch.allclose(q[..., -1], x, atol=1e-15)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_and_densities_have_the_dtype_of_the_module(make, dtype):
    base = make(3).to(dtype)
    z = base.sample(100)
    assert z.dtype == base.log_prob(z).dtype == base.dtype == dtype
    assert z.shape == (100, 3)
    assert base.event_shape == (3,)
    assert base.support.check(z).all()
    assert base.sample(0).shape == (0, 3)
    assert base.log_prob(z[:0]).shape == (0,)
    assert torch.allclose(base.log_prob(z).double(), base.double().log_prob(z.double()), rtol=1e-4, atol=1e-4)


@every
def test_a_generator_seeds_the_samples(make):
    before = torch.get_rng_state()
    base = make(3)
    first, second = (base.sample(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(base.sample(5), base.sample(5))


@every
def test_parameters_train_through_densities_and_samples(make):
    base = make(3)
    parameters = dict(base.named_parameters())
    if not parameters:
        return
    base.log_prob(base.sample(20).detach()).pow(2).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in parameters.values())
    base.zero_grad()
    base.rsample(20).pow(3).sum().backward()
    silent = {name for name, parameter in parameters.items() if parameter.grad is None}
    drawn = {VonMisesFisher: {"log_concentration"}, SphericalCauchyMixture: {"logits"}}
    assert silent == drawn.get(type(base), set())


@every
def test_a_state_dict_carries_the_density(make):
    base, x = make(3), make(3).sample(5).detach()
    twin = make(3)
    for parameter in twin.parameters():
        torch.nn.init.normal_(parameter)
    twin.load_state_dict(base.state_dict())
    assert torch.equal(twin.log_prob(x), base.log_prob(x))


def test_extremes_survive_single_precision():
    base = VonMisesFisher(torch.tensor([0.0, 0.0, -1.0]), 1e6)
    x = base.sample(1000).detach()
    exact = VonMisesFisher(torch.tensor([0.0, 0.0, -1.0]).double(), 1e6).log_prob(
        x.double() / x.double().norm(dim=1, keepdim=True)
    )
    assert torch.allclose(base.log_prob(x).double(), exact, atol=0.01)
    sparse = Dirichlet([1e-3] * 5).sample(1000).detach()
    assert (sparse > 0).all()
    assert Dirichlet([1e-3] * 5).log_prob(sparse).isfinite().all()


def test_maximum_likelihood_finds_the_concentration():
    data = VonMisesFisher(axis(3), 12.0).sample(5000).detach()
    base = VonMisesFisher(torch.ones(3).double(), 1.0)
    optimizer = torch.optim.LBFGS(base.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -base.log_prob(data).mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert abs(base.concentration - 12) < 0.6
    assert (base.mean - axis(3) / axis(3).norm()).norm() < 0.02


OFF = torch.tensor([[0.6, 0.9]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SphereUniform(1), r"needs vectors of length n >= 2 \(n = 1 leaves no dimension\)"),
        (lambda: VonMisesFisher(torch.ones(1), 1.0), "length n >= 2"),
        (lambda: AngularCentralGaussian(torch.eye(1)), "length n >= 2"),
        (lambda: Dirichlet([1.0]), "length n >= 2"),
        (lambda: LogisticNormal(1), "length n >= 2"),
        (lambda: VonMisesFisher(torch.zeros(2), 1.0), "positive length"),
        (lambda: VonMisesFisher(torch.ones(2), 0.0), "a number above 0 .*, got 0.0"),
        (lambda: VonMisesFisher(torch.ones(2), math.nan), "a number above 0 .*, got nan"),
        (lambda: AngularCentralGaussian(torch.ones(2, 2)), "positive definite, its least eigenvalue is"),
        (lambda: AngularCentralGaussian(torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "must be a symmetric matrix"),
        (lambda: AngularCentralGaussian(torch.ones(2, 3)), r"symmetric matrix, got shape \(2, 3\)"),
        (lambda: Dirichlet([1.0, 0.0]), "numbers above 0 .*, got 0.0 at position 1"),
        (lambda: LogisticNormal(2, scale=0.0), "scale must be .* above 0"),
        (lambda: SphereUniform(2).log_prob(OFF), "not on the unit sphere: the farthest is 0.0817 off"),
        (lambda: VonMisesFisher(torch.ones(2), 1.0).log_prob(OFF), "not on the unit sphere"),
        (lambda: AngularCentralGaussian(torch.eye(2)).log_prob(OFF), "not on the unit sphere"),
        (lambda: Dirichlet([1.0, 1.0]).log_prob(OFF), "not on the simplex: the farthest is 0.5 off"),
        (lambda: LogisticNormal(2).log_prob(OFF), "not on the simplex"),
        (lambda: LogisticNormal(2).log_prob(torch.tensor([[1.0, 0.0]])), "have zeros.*smooth them"),
        (lambda: SphereUniform(3).log_prob(OFF), r"must have shape \(…, 3\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
