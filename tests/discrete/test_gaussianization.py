"""RBIG and Gaussianization flows: total correlation, convergence, where fitting stops, and exact maps."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from gradients import gradcheck
from instances import randomized
from scipy import stats
from torch import Tensor

from cnf import Compose, Flow, StandardNormal, Transform
from cnf.data import toy
from cnf.discrete import RBIG, ROTATIONS, GaussianizationLayer
from cnf.discrete.gaussianization import LOGIT_REACH, logistic_of_normal, normal_of_logistic

CORRELATIONS = torch.tensor([[1, 0.8, 0.3], [0.8, 1, -0.1], [0.3, -0.1, 1]], dtype=torch.float64)
every = pytest.mark.parametrize("kind", ROTATIONS)


def correlated(n: int) -> Tensor:
    """Normal rows of these correlations, in units of their own."""
    rows = torch.randn(n, 3, dtype=torch.float64) @ torch.linalg.cholesky(CORRELATIONS).mT
    return rows * torch.tensor([1.0, 30.0, 0.02]) + torch.tensor([0.0, 500.0, -1.0])


def moons(n: int) -> Tensor:
    return toy("moons").sample(n, dtype=torch.float64)


def fitted(x: Tensor, **settings: object) -> Flow:
    flow = Flow(RBIG(x.shape[1], **settings), StandardNormal(x.shape[1])).double()
    flow.initialize(x)
    return flow


@cache
def on_moons(kind: str) -> Flow:
    """Fitted to 4000 points; not to be changed."""
    return fitted(
        toy("moons").sample(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64), rotation=kind
    )


def truncated(flow: Flow, layers: int) -> Flow:
    flow.transform.used.fill_(layers)
    return flow


def nll(flow: Flow, x: Tensor) -> float:
    return -flow.log_prob(x).mean().item()


def slogdet(transform: Transform, x: Tensor, context: Tensor | None = None) -> Tensor:
    full = torch.autograd.functional.jacobian(lambda x: transform.encode(x, context).value.sum(0), x)
    return torch.linalg.slogdet(full.movedim(1, 0)).logabsdet


@every
def test_total_correlation_of_a_normal_density(kind):
    """It is `−½ log det` of the correlations, whatever the units."""
    flow = fitted(correlated(10_000), rotation=kind)
    expected = -0.5 * torch.logdet(CORRELATIONS).item()
    assert flow.transform.total_correlation.item() == pytest.approx(expected, abs=0.035)


def test_principal_components_take_a_normal_density_in_two_layers():
    assert int(fitted(correlated(10_000), significance=2.0).transform.used) == 2


@every
def test_total_correlation_of_dependent_data(kind):
    """Of the moons it is the sum of the marginals' entropies less the entropy; here from their densities on a grid."""
    axis = 0.05 * torch.arange(-100, 101, dtype=torch.float64)
    density = toy("moons").log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(201, 201)
    entropies = [-torch.special.xlogy(p, p).sum().item() * 0.05 for p in (density.sum(0) * 0.05, density.sum(1) * 0.05)]
    expected = sum(entropies) - toy("moons").entropy
    assert on_moons(kind).transform.total_correlation.item() == pytest.approx(expected, abs=0.2)


@every
def test_reductions_add_up_to_the_gain_on_new_rows(kind):
    flow, new = on_moons(kind), moons(20_000)
    gain = (flow.log_prob(new) - flow.base.log_prob(new)).mean().item()
    assert gain - 0.2 < flow.transform.reductions.sum().item() < gain + 0.05


@every
def test_it_converges_on_two_moons(kind):
    flow, new = on_moons(kind), moons(10_000)
    assert nll(flow, new) < toy("moons").entropy + 0.15
    z = flow(new).z
    turned = z @ torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    for column in torch.cat([z, turned], 1).mT:
        assert stats.kstest(column.numpy(), "norm").statistic < 0.05


@pytest.mark.parametrize("n", [100, 500])
def test_it_stops_before_it_overfits(n):
    flow, new = fitted(moons(n), layers=100), moons(20_000)
    used = int(flow.transform.used)
    losses = [nll(truncated(flow, k), new) for k in range(1, used + 1)]
    assert used < 100
    assert losses[-1] < min(losses) + 0.03


def test_it_leaves_normal_data_almost_alone():
    x, new = torch.randn(300, 5, dtype=torch.float64), torch.randn(20_000, 5, dtype=torch.float64)
    entropy = 5 * 0.5 * math.log(2 * math.pi * math.e)
    assert nll(fitted(x), new) < entropy + 0.2
    assert int(fitted(x, significance=3.0).transform.used) == 0


def test_more_layers_than_are_allowed_are_not_used():
    x = moons(1000)
    whole, short = fitted(x), fitted(x, layers=4)
    assert int(whole.transform.used) > 4
    assert int(short.transform.used) <= 4
    torch.testing.assert_close(truncated(whole, 4).log_prob(x), truncated(short, 4).log_prob(x))


@every
def test_the_map_is_exact(kind):
    flow = on_moons(kind)
    x = torch.cat([moons(50), 20 * torch.randn(10, 2, dtype=torch.float64)])
    z, log_det, _ = flow.transform.encode(x)
    back, inverse, _ = flow.transform.decode(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(inverse, -log_det, rtol=0, atol=1e-8)
    torch.testing.assert_close(slogdet(flow.transform, x), log_det, rtol=0, atol=1e-8)


def test_a_state_dict_fits_a_fresh_module_and_a_second_fit_forgets_the_first():
    x, other = moons(500), torch.randn(500, 2, dtype=torch.float64)
    flow, twin = fitted(x), Flow(RBIG(2), StandardNormal(2)).double()
    z = twin.transform.encode(x).value
    assert torch.equal(z, x)
    twin.load_state_dict(flow.state_dict())
    assert torch.equal(twin.log_prob(x), flow.log_prob(x))
    flow.initialize(other)
    fresh = fitted(other).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in flow.state_dict().items())


def test_the_same_data_give_the_same_flow_and_leave_the_global_noise_alone():
    x, state = moons(300), torch.get_rng_state()
    first = fitted(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.log_prob(x), fitted(x).log_prob(x))
    assert not torch.equal(first.log_prob(x), fitted(x, seed=1).log_prob(x))


def test_float32_survives_outliers_ties_and_one_dimension():
    x = torch.cat([moons(1000).float(), torch.randint(0, 2, (1000, 1)), torch.randn(1000, 1) / torch.rand(1000, 1)], 1)
    for rows in (x, x[:, :1]):
        flow = Flow(RBIG(rows.shape[1]), StandardNormal(rows.shape[1]))
        flow.initialize(rows)
        far = torch.cat([rows, 1e4 * torch.randn(100, rows.shape[1])])
        log_prob, z, _ = flow(far)
        assert log_prob.isfinite().all()
        assert flow.transform.decode(z).value.isfinite().all()


def test_rbig_errors():
    with pytest.raises(ValueError, match="'pca'.*'lda'"):
        RBIG(2, rotation="lda")
    with pytest.raises(ValueError, match="layers"):
        RBIG(2, layers=0)
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(50, 3\)"):
        RBIG(2).initialize(torch.randn(50, 3))


# Gaussianization flows


def layer(dim: int = 3, context_dim: int = 0, scale: float = 1.0, **settings: object) -> GaussianizationLayer:
    return randomized(GaussianizationLayer(dim, context_dim=context_dim, **settings), scale).double()


@pytest.mark.parametrize("context_dim", [0, 2])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_layer_is_exact(dim, context_dim):
    transform = layer(dim, context_dim)
    x = 2 * torch.randn(100, dim, dtype=torch.float64)
    context = torch.randn(100, context_dim).double() if context_dim else None
    z, log_det, _ = transform.encode(x, context)
    back, inverse, _ = transform.decode(z, context)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(inverse, -log_det, rtol=0, atol=1e-6)
    torch.testing.assert_close(slogdet(transform, x, context), log_det, rtol=0, atol=1e-8)


@pytest.mark.parametrize("context_dim", [0, 2])
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_of_a_layer_are_those_of_differences(method, context_dim):
    transform = layer(2, context_dim, 0.7, components=2, hidden=4, blocks=1)
    context = [torch.randn(3, context_dim).double()] if context_dim else []
    assert gradcheck(transform, method, torch.randn(3, 2).double(), *context, atol=1e-5)


def test_a_layer_is_the_published_formula():
    """`Φ⁻¹(Σₖ wₖ σ((x − μₖ) / sₖ))`, then reflections, with all components written out."""
    transform = GaussianizationLayer(2, components=3).double()
    mean, scale = torch.randn(2, 3).double(), 0.2 + torch.rand(2, 3).double()
    with torch.no_grad():
        transform.raw.copy_(transform.mixture.raw(mean, scale))
    x = torch.randn(20, 2).double()
    cdf = stats.logistic.cdf(x[..., None].numpy(), mean.numpy(), scale.numpy()).mean(-1)
    expected = torch.from_numpy(stats.norm.ppf(cdf)) @ transform.rotation.weight.mT
    torch.testing.assert_close(transform.encode(x).value, expected, rtol=0, atol=1e-9)


def test_without_data_a_layer_starts_near_a_rotation():
    transform = GaussianizationLayer(3).double()
    x = torch.randn(20_000, 3).double()
    z, log_det, _ = transform.encode(x)
    assert abs((0.5 * (z.square() - x.square()).sum(1) - log_det).mean()) < 0.02


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
@every
def test_the_start_from_data_makes_marginals_normal_and_takes_the_rotation(dim, kind):
    mixing = torch.randn(dim, dim, dtype=torch.float64)
    x = (torch.randn(5000, dim, dtype=torch.float64) @ mixing).sinh()
    transform = GaussianizationLayer(dim, components=32, rotation=kind).double()
    transform.initialize(x)
    z = transform.encode(x).value
    inner = transform.rotation.decode(z).value
    assert max(stats.kstest(column.detach().numpy(), "norm").statistic for column in inner.mT) < 0.03
    assert transform.rotation.vectors.shape == (dim, dim)
    if kind == "pca" and dim > 1:
        covariance = z.mT.cov()
        torch.testing.assert_close(covariance, covariance.diagonal().diag(), rtol=0, atol=1e-8)


def test_the_start_of_a_deep_flow_is_close_to_the_moons_and_training_improves_it():
    flow = Flow(Compose([GaussianizationLayer(2, components=16) for _ in range(8)]), StandardNormal(2)).double()
    flow.initialize(moons(5000))
    new = moons(5000)
    before = nll(flow, new)
    assert before < 2.75
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = -flow.log_prob(moons(200)).mean()
        loss.backward()
        optimizer.step()
    assert nll(flow, new) < before - 0.03


def test_logistic_and_normal_are_each_others_inverse():
    x = torch.linspace(-200, 200, 2001, dtype=torch.float64).requires_grad_()
    z, log_slope = normal_of_logistic(x)
    back, inverse = logistic_of_normal(z)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(inverse, -log_slope, rtol=0, atol=1e-8)
    torch.testing.assert_close(slope.log(), log_slope, rtol=0, atol=1e-10)
    middle = x.detach()[x.abs() < LOGIT_REACH / 3]
    expected = torch.from_numpy(stats.norm.ppf(stats.logistic.cdf(-middle.abs().numpy()))) * -middle.sign()
    torch.testing.assert_close(normal_of_logistic(middle)[0], expected, rtol=0, atol=1e-10)


def test_logistic_to_normal_in_float32():
    x = torch.linspace(-1000, 1000, 20_001).requires_grad_()
    z, log_slope = normal_of_logistic(x)
    z.sum().backward()
    assert x.grad.isfinite().all()
    assert (z.diff() > 0).all()
    exact, exact_slope = normal_of_logistic(x.detach().double())
    torch.testing.assert_close(z.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_slope.double(), exact_slope, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logistic_of_normal(z)[0], x, rtol=1e-4, atol=1e-4)


def test_a_layer_needs_components():
    with pytest.raises(ValueError, match="components must be .* from 2 to .*, got 1"):
        GaussianizationLayer(2, components=1)
