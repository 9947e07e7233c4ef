"""Simple densities against scikit-learn and scipy, and columns given others against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

import cnf
from cnf.metrics import cells_given_others, kernel_density, mean_and_error, normal, normal_mixture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, ...]:
    """Three groups in two dimensions, with different covariances."""
    z = torch.randn(3000, 2, generator=generator(), dtype=torch.float64)
    group = torch.arange(3000) % 3
    x = z * torch.tensor([[1.0, 0.2], [0.3, 0.3], [0.1, 2.0]], dtype=torch.float64)[group]
    x[:, 1] += 0.9 * x[:, 0]
    return tuple((x + 4.0 * group[:, None]).split(1000))


def test_gaussian_is_that_of_scipy(rows):
    x, _, test = rows
    density = normal(x)
    expected = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(test)
    np.testing.assert_allclose(density.log_prob(test), expected, atol=1e-4)
    part = stats.norm(x[:, 1].mean(), x[:, 1].std(correction=0)).logpdf(test[:, 1])
    np.testing.assert_allclose(density.marginal([1]).log_prob(test[:, 1:]), part, atol=1e-4)


def test_mixture_is_as_good_as_that_of_scikit_learn(rows):
    x, judged, test = rows
    found = mean_and_error(normal_mixture(x, judged, generator=generator()).log_prob(test))
    peer = max((GaussianMixture(k, random_state=0, n_init=3).fit(x) for k in (2, 4, 8)), key=lambda m: m.score(judged))
    assert found.mean > peer.score(test) - 0.05
    assert normal_mixture(x, judged, components=[1]).log_prob(test).mean() < found.mean - 0.3


def test_kernels_are_those_of_scikit_learn(rows):
    x, judged, test = rows
    density = kernel_density(x, judged)
    scale = density.scales[0]
    whiten = lambda values: torch.linalg.solve_triangular(scale, values.T, upper=False).T  # noqa: E731
    expected = (
        KernelDensity(bandwidth=1.0).fit(whiten(x)).score_samples(whiten(test)) - scale.diagonal().log().sum().item()
    )
    np.testing.assert_allclose(density.log_prob(test), expected, rtol=1e-9)
    assert density.log_prob(test).mean() > normal(x).log_prob(test).mean()


def test_marginals_integrate_the_others_out(rows):
    x, judged, test = rows
    mixture = normal_mixture(x, judged, components=[3], generator=generator())
    grid = torch.linspace(-15, 30, 4001, dtype=torch.float64)
    pairs = torch.stack((test[:1, 0].expand(4001), grid), 1)
    integral = torch.trapezoid(mixture.log_prob(pairs).exp(), grid).log()
    assert integral.item() == pytest.approx(mixture.marginal([0]).log_prob(test[:1, :1]).item(), abs=1e-6)


def test_mixtures_of_copies_and_of_few_rows_are_finite():
    x = torch.randn(6, 3, generator=generator()).repeat(20, 1)
    assert normal_mixture(x, x).log_prob(x).isfinite().all()
    assert kernel_density(x[:3], x).log_prob(x).isfinite().all()


@pytest.mark.parametrize("correlation", [0.0, 0.9, 0.999])
def test_columns_given_others_are_those_of_the_gaussian(correlation):
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]]) * torch.tensor([[4.0, 2.0], [2.0, 1.0]])
    joint = torch.distributions.MultivariateNormal(torch.tensor([3.0, -1.0]), covariance)
    torch.manual_seed(0)
    x = joint.sample((100,))
    cells = cells_given_others(cnf.Flow(cnf.Compose([]), joint), x, x)
    width = math.sqrt(1 - correlation**2)
    first = stats.norm(3 + correlation * 2 * (x[:, 1] + 1), 2 * width)
    np.testing.assert_allclose(cells.pit[:, 0], first.cdf(x[:, 0]), atol=0.004)
    np.testing.assert_allclose(cells.log_prob[:, 0], first.logpdf(x[:, 0]), atol=0.004)


def test_columns_given_others_of_a_conditional_flow():
    flow = cnf.build("realnvp", 2, context_dim=1, hidden=8)
    torch.manual_seed(0)
    x, context = torch.randn(50, 2), torch.randn(50, 1)
    flow.initialize(x, context)
    for parameter in flow.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    cells = cells_given_others(flow, x[:3], x, context[:3])
    line = torch.linspace(-60, 60, 40_001)
    for j in range(2):
        grid = x[:1].repeat(len(line), 1)
        grid[:, j] = line
        density = flow.log_prob(grid, context[:1].expand(len(line), -1)).double().exp().detach()
        total = torch.trapezoid(density, line.double())
        below = torch.trapezoid(density * (line < x[0, j]), line.double())
        assert cells.pit[0, j].item() == pytest.approx((below / total).item(), abs=0.005)


def test_samples_of_the_density_itself_are_calibrated():
    flow = cnf.build("maf", 3, hidden=8)
    flow.initialize(torch.randn(100, 3, generator=generator()))
    x = flow.sample(400, generator=generator(1))
    pit = cells_given_others(flow, x, x).pit
    assert all(stats.kstest(column, "uniform").pvalue > 1e-3 for column in pit.T.numpy())
