"""Residual layers: Lipschitz bounds, log-determinants and their estimators, inverses with implicit gradients."""

from __future__ import annotations

import math

import pytest
import torch
from gradients import gradcheck
from instances import randomized
from torch import Tensor, nn

from cnf.discrete import ExactLogDet, FixedPoint, LogDet, PowerSeries, Residual, RussianRoulette, with_log_det
from cnf.errors import ConvergenceError
from cnf.networks.lipschitz import ChainJacobian, LipschitzMLP, lipswish, spectral_norm


def layer_with(dim: int = 3, *, sign: float = -1.0, **options) -> Residual:
    """A layer whose Jacobian is large: matrices of one sign share their singular vectors and use the bound up."""
    layer = randomized(Residual(dim, hidden=(16, 12), **options), 3.0).double()
    with torch.no_grad():
        for linear in layer.network.layers:
            linear.weight.abs_()
            linear.bias.abs_()
        layer.network.layers[-1].weight.mul_(sign)
        layer.network.sharpness.fill_(2.0)
    return layer


def jacobian_at(layer: Residual, x: Tensor) -> ChainJacobian:
    return layer.network.at().linearize(x)[1]


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4), (6, 1)])
def test_the_spectral_norm_and_its_gradient_are_exact(shape):
    ours, theirs = (torch.randn(shape, dtype=torch.float64).requires_grad_() for _ in range(2))
    with torch.no_grad():
        theirs.copy_(ours)
    norm, expected = spectral_norm(ours), torch.linalg.matrix_norm(theirs, 2)
    norm.backward()
    expected.backward()
    assert torch.allclose(norm, expected, rtol=1e-12)
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-10)


def test_the_spectral_norm_of_zero_has_a_finite_gradient():
    weight = torch.zeros(4, 3, requires_grad=True)
    spectral_norm(weight).backward()
    assert weight.grad.isfinite().all()


def test_the_slope_of_lipswish_is_its_derivative_and_at_most_one():
    a = torch.linspace(-60, 60, 20001, dtype=torch.float64, requires_grad=True)
    for sharpness in (1e-3, 0.5, 1.0, 30.0):
        value, slope = lipswish(a, torch.tensor(sharpness).double())
        (expected,) = torch.autograd.grad(value.sum(), a)
        assert torch.allclose(slope, expected, rtol=0, atol=1e-13)
        assert slope.abs().max() <= 1
    assert slope.max() > 0.999  # the bound is used


@pytest.mark.parametrize("lipschitz", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("hidden", [(8,), (16, 12), (4, 20, 6)])
def test_the_network_keeps_its_lipschitz_bound(lipschitz, hidden):
    for scale in (1.0, 30.0):
        network = randomized(LipschitzMLP(3, hidden=hidden, lipschitz=lipschitz, context_dim=2), scale).double()
        x, context = 5 * torch.randn(2000, 3).double(), 5 * torch.randn(2000, 2).double()
        value, jacobian = network.at(context).linearize(x)
        assert torch.linalg.matrix_norm(jacobian.dense(), 2).max() <= lipschitz
        other, same = x[torch.randperm(2000)], network.at(context)
        assert ((same(other) - value).norm(dim=1) <= lipschitz * (other - x).norm(dim=1) + 1e-12).all()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_lipschitz_bound_is_not_vacuous(sign):
    layer = layer_with(lipschitz=0.9, sign=sign)
    norms = torch.linalg.matrix_norm(jacobian_at(layer, torch.randn(200, 3).double()).dense(), 2)
    assert 0.6 < norms.max() <= 0.9


def test_matrices_within_their_bound_are_left_alone():
    network = LipschitzMLP(3, hidden=(5,), lipschitz=0.9).double()
    with torch.no_grad():
        for layer in network.layers:
            layer.weight.copy_(torch.eye(*layer.weight.shape) * 0.3)
    assert all(torch.equal(w, layer.weight) for w, layer in zip(network.at().weights, network.layers, strict=True))


@pytest.mark.parametrize("hidden", [(8,), (16, 12), (4, 20, 6)])
def test_the_chain_is_the_jacobian(hidden):
    network = randomized(LipschitzMLP(3, hidden=hidden, lipschitz=0.9), 2.0).double()
    x, v = torch.randn(5, 3).double(), torch.randn(2, 5, 3).double()
    jacobian = network.at().linearize(x)[1]
    expected = torch.func.vmap(torch.func.jacrev(lambda row: network(row.unsqueeze(0))[0]))(x)
    assert torch.allclose(jacobian.dense(), expected, rtol=0, atol=1e-12)
    assert torch.allclose(jacobian.multiply(v), torch.einsum("nij,knj->kni", expected, v), rtol=0, atol=1e-12)
    products = torch.einsum("nji,knj->kni", expected, v)
    assert torch.allclose(jacobian.multiply_transposed(v), products, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 6])
@pytest.mark.parametrize("context_dim", [0, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_exact_log_determinant_is_that_of_the_jacobian(dim, context_dim, sign):
    layer = layer_with(dim, context_dim=context_dim, sign=sign)
    x, context = torch.randn(4, dim).double(), torch.randn(4, 2).double() if context_dim else None
    full = torch.autograd.functional.jacobian(lambda x: layer.encode(x, context).value, x)
    blocks = torch.stack([full[i, :, i] for i in range(4)])
    log_det = layer.encode(x, context).log_det
    assert torch.allclose(torch.linalg.slogdet(blocks).logabsdet, log_det, rtol=0, atol=1e-10)
    assert (sign * log_det > 0.1).any()


def z_scores(draws: Tensor, expected: Tensor) -> Tensor:
    """How many standard errors the means of the columns are off."""
    return (draws.mean(0) - expected) / (draws.std(0) / len(draws) ** 0.5)


def draws_of(estimator: LogDet, layer: Residual, x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """n estimates for each row of x, `(n, N)`, and their gradients in x, `(n, N, D)`."""
    many = x.repeat(n, 1).requires_grad_()
    estimates = estimator(jacobian_at(layer, many))
    (gradients,) = torch.autograd.grad(estimates.sum(), many)
    return estimates.detach().reshape(n, len(x)), gradients.reshape(n, *x.shape)


UNBIASED = {
    "rademacher": RussianRoulette(),
    "gaussian": RussianRoulette(noise="gaussian"),
    "few-exact-terms": RussianRoulette(exact_terms=1, continuation=0.7),
    "probes": RussianRoulette(exact_terms=4, continuation=0.6, probes=3),
}


@pytest.mark.parametrize("estimator", UNBIASED.values(), ids=UNBIASED.keys())
@pytest.mark.parametrize(("dim", "sign"), [(1, 1.0), (3, -1.0), (3, 1.0)])
def test_russian_roulette_and_its_gradient_are_unbiased(estimator, dim, sign):
    layer, x = layer_with(dim, lipschitz=0.75, sign=sign), torch.randn(2, dim, dtype=torch.float64).requires_grad_()
    exact = ExactLogDet()(jacobian_at(layer, x))
    (gradient,) = torch.autograd.grad(exact.sum(), x)
    radius = torch.linalg.eigvals(jacobian_at(layer, x).dense()).abs().max()
    assert 0.3 < radius < 0.9 * estimator.continuation**0.5  # else the variance is infinite
    draws, gradients = draws_of(estimator, layer, x.detach(), 4000)
    assert z_scores(draws, exact).abs().max() < 4
    assert z_scores(gradients, gradient).abs().max() < 4


def test_the_z_test_sees_the_bias_of_a_truncated_series():
    layer, x = layer_with(lipschitz=0.75), torch.randn(2, 3, dtype=torch.float64)
    exact = ExactLogDet()(jacobian_at(layer, x))
    draws, _ = draws_of(PowerSeries(1), layer, x, 4000)
    assert z_scores(draws, exact).abs().min() > 6


def test_russian_roulette_draws_for_each_row():
    layer, x = layer_with(1, lipschitz=0.8), torch.randn(1, 1).double().expand(500, 1)
    draws = RussianRoulette(exact_terms=1)(jacobian_at(layer, x)).unique()
    assert 4 < len(draws) < 30  # in one dimension the number of terms is all the noise there is


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
@pytest.mark.parametrize("terms", [1, 2, 5])
def test_the_truncated_series_has_the_mean_of_its_traces(noise, terms):
    layer, x = layer_with(lipschitz=0.8), torch.randn(4, 3, dtype=torch.float64)
    dense = jacobian_at(layer, x).dense()
    traces = [torch.linalg.matrix_power(dense, k).diagonal(dim1=1, dim2=2).sum(1) for k in range(1, terms + 1)]
    expected = sum(-((-1) ** k) / k * trace for k, trace in enumerate(traces, 1))
    draws, _ = draws_of(PowerSeries(terms, noise=noise), layer, x, 4000)
    assert z_scores(draws, expected).abs().max() < 4


def test_the_truncated_series_is_biased_by_no_more_than_its_bound():
    layer, x = layer_with(1, lipschitz=0.9), torch.randn(200, 1, dtype=torch.float64)
    exact = ExactLogDet()(jacobian_at(layer, x))
    for terms in (1, 3, 10, 30):
        error = (PowerSeries(terms)(jacobian_at(layer, x)) - exact).abs().max()  # vᵀJᵏv = Jᵏ in one dimension
        bound = -math.log(1 - 0.9) - sum(0.9**k / k for k in range(1, terms + 1))
        assert 0 < error <= bound


def test_more_probes_have_less_variance():
    layer, x = layer_with(6, lipschitz=0.8), torch.randn(1, 6, dtype=torch.float64)
    one, four = (draws_of(PowerSeries(8, probes=probes), layer, x, 4000)[0].var() for probes in (1, 4))
    assert 3 < one / four < 5.5


@pytest.mark.parametrize("context_dim", [0, 2])
@pytest.mark.parametrize("lipschitz", [0.5, 0.97])
def test_decode_meets_its_tolerance(lipschitz, context_dim):
    layer = layer_with(4, lipschitz=lipschitz, context_dim=context_dim)
    x = 3 * torch.randn(200, 4, dtype=torch.float64)
    context = torch.randn(200, 2, dtype=torch.float64) if context_dim else None
    z, log_det, _ = layer.encode(x, context)
    back, log_det_back, _ = layer.decode(z, context)
    stated = 2.3e-16 ** (3 / 4) * (1 + z.abs().amax()) / (1 - lipschitz)
    assert (back - x).norm(dim=1).max() <= 2 * stated  # of vectors, where the stated one is of the largest element
    assert torch.allclose(log_det, -log_det_back, rtol=0, atol=1e-6)
    assert torch.equal(layer.push(z, context), back)


def test_a_loose_tolerance_is_cheaper_and_no_worse_than_stated():
    layer, x, calls = layer_with(lipschitz=0.97), torch.randn(50, 3, dtype=torch.float64), []
    z = layer.encode(x).value.detach()
    contraction = layer.network.at()

    def counted(x: Tensor) -> Tensor:
        calls[-1] += 1
        return contraction(x)

    errors = []
    for tolerance in (1e-2, 1e-6, 1e-10):
        calls.append(0)
        errors.append((FixedPoint(tolerance).solve(counted, z) - x).abs().max().item())
        assert errors[-1] <= 3**0.5 * tolerance * (1 + z.abs().max()) / 0.03
    assert calls == sorted(calls)
    assert calls[0] < calls[2]


def test_float32_survives():
    layer = layer_with(lipschitz=0.97).float()
    x = 10 * torch.randn(500, 3)
    z, log_det, _ = layer.encode(x)
    back, log_det_back, _ = layer.decode(z)
    assert (back - x).abs().max() < 1e-3
    assert (log_det + log_det_back).abs().max() < 1e-3


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_against_finite_differences(method):
    layer = randomized(Residual(3, hidden=(5, 4), context_dim=2, inverse=FixedPoint(1e-13)), 2.0).double()
    inputs = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    assert gradcheck(layer, method, *inputs, atol=1e-6)


def test_a_failure_to_converge_names_the_samples():
    layer = layer_with(inverse=FixedPoint(1e-12, max_iterations=3))
    with pytest.raises(ConvergenceError, match=r"after 3 iterations.*Samples: 0, 1, 2, 3, 4 "):
        layer.decode(torch.randn(5, 3).double())
    z = torch.randn(5, 3).double()
    z[3] = math.nan
    with pytest.raises(ConvergenceError) as error:
        layer_with().decode(z)
    assert error.value.samples == [3]


def test_it_starts_at_the_identity():
    layer, x = Residual(3, context_dim=2), torch.randn(5, 3)
    value, log_det, _ = layer.encode(x, torch.randn(5, 2))
    assert torch.equal(value, x)
    assert torch.equal(log_det, torch.zeros(5))


def test_a_copy_with_another_estimator_shares_the_parameters():
    flow = nn.Sequential(layer_with(), layer_with())
    twin = with_log_det(flow, PowerSeries(2))
    assert all(a is b for a, b in zip(flow.parameters(), twin.parameters(), strict=True))
    assert all(layer.log_det == PowerSeries(2) for layer in twin)
    assert all(layer.log_det == ExactLogDet() for layer in flow)


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="lipschitz must be .* below 1, got 1.0"):
        Residual(3, lipschitz=1.0)
    with pytest.raises(ValueError, match=r"expected vectors \(N, 3\), got \(2, 4\)"):
        Residual(3).encode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="noise must be one of 'rademacher', .* 'orthogonal', got 'uniform'"):
        RussianRoulette(noise="uniform")
    with pytest.raises(ValueError, match="continuation must be"):
        RussianRoulette(continuation=1.0)
    with pytest.raises(ValueError, match="terms must be"):
        PowerSeries(0)
    with pytest.raises(ValueError, match="hidden must be"):
        Residual(3, hidden=())
    with pytest.raises(ValueError, match="conditional"):
        Residual(3, context_dim=2).encode(torch.zeros(2, 3))
