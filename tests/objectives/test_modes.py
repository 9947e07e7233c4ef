"""Path gradients and divergences that cover modes, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from instances import randomized
from torch import Tensor

import cnf
from cnf import AlphaDivergence, Compose, DiagonalNormal, FitConfig, Flow, ReverseKL
from cnf.objectives.scores import held
from cnf.objectives.transitions import annealed, hamiltonian

LOC, SCALE = torch.tensor([0.5, -1.0]).double(), torch.tensor([1.5, 0.4]).double()


def target(x: Tensor) -> Tensor:
    return 3 + torch.distributions.Normal(LOC.to(x), SCALE.to(x)).log_prob(x).sum(-1)


def normal(loc: float = 0.2, scale: float = 0.7) -> Flow:
    return Flow(Compose([]), DiagonalNormal(2, loc=loc, scale=scale)).double()


def gradient(objective: object, flow: Flow, n: int) -> Tensor:
    value = objective(flow, torch.zeros(n, 2).double()).value
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(flow.parameters()))])


@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_path_gradients_have_the_mean_of_plain_ones(beta):
    flow = normal()
    plain, along = (
        torch.stack([gradient(ReverseKL(target, beta, path_gradient=path), flow, 200) for _ in range(200)])
        for path in (False, True)
    )
    error = (plain.var(0) / 200 + along.var(0) / 200).sqrt()
    assert ((plain.mean(0) - along.mean(0)).abs() < 4 * error).all()
    assert (error < 0.05 * plain.mean(0).abs().max()).all()


def test_path_gradients_vanish_where_flow_and_target_are_the_same():
    flow = cnf.build("cnf", 2, hidden=8, solver=cnf.RungeKutta(rtol=1e-8, atol=1e-8)).double()
    randomized(flow, 0.5)
    same = held(flow)
    along = gradient(ReverseKL(lambda x: same(x, None), path_gradient=True), flow, 20)
    plain = gradient(ReverseKL(lambda x: same(x, None)), flow, 20)
    assert along.abs().max() < 1e-6 < 1e-2 < plain.abs().max()


def test_path_gradients_of_a_condition():
    flow = randomized(cnf.build("maf", 2, 1, hidden=8)).double()
    context = torch.ones(50, 1).double().requires_grad_()
    loss = ReverseKL(lambda x, c: target(x) - (x[:, 0] - c[:, 0]).square(), path_gradient=True)(
        flow, torch.zeros(50, 2).double(), context
    )
    loss.value.backward()
    assert context.grad is not None
    assert context.grad.abs().sum() > 0


@pytest.mark.parametrize("objective", [ReverseKL(target, path_gradient=True), AlphaDivergence(target)])
def test_estimated_log_determinants_are_refused(objective):
    with pytest.raises(ValueError, match="need exact log-determinants"):
        objective(cnf.build("cnf", 2, divergence=cnf.Hutchinson()), torch.zeros(4, 2))


@pytest.mark.parametrize(("alpha", "temperatures"), [(1.0, 0), (2.0, 0), (2.0, 4)])
def test_the_gradient_is_that_of_the_divergence(alpha, temperatures):
    """For normal q and `g ∝ p^α q^(1−α)`, a normal density too, it is `−E_g[∇ log q]`."""
    flow = normal(0.2, 1.6)
    with torch.no_grad():
        precision = alpha / SCALE**2 + (1 - alpha) / 1.6**2
        mean = (alpha * LOC / SCALE**2 + (1 - alpha) * 0.2 / 1.6**2) / precision
    moment = 1 / precision + (mean - 0.2) ** 2
    expected = {"base.loc": (0.2 - mean) / 1.6**2, "base.log_scale": 1 - moment / 1.6**2}
    found = gradient(AlphaDivergence(target, alpha, temperatures=temperatures), flow, 100_000)
    names = [name for name, _ in flow.named_parameters()]
    torch.testing.assert_close(found, torch.cat([expected[name] for name in names]), rtol=0, atol=0.02)


def test_transitions_keep_the_density():
    x = torch.randn(20_000, 2).double() * SCALE + LOC
    for _ in range(5):
        x, moved = hamiltonian(target, x, 0.8 * SCALE, 3)
    assert 0.7 < moved.double().mean() < 0.999
    torch.testing.assert_close(x.mean(0), LOC, rtol=0, atol=0.05)
    torch.testing.assert_close(x.std(0), SCALE, rtol=0.03, atol=0)


def test_transitions_that_fail_move_nothing():
    x = torch.randn(50, 2)
    at, moved = hamiltonian(lambda x: -x.square().sum(1) / 2, x, torch.full((2,), 1e30), 3)
    assert torch.equal(at, x)
    assert not moved.any()


def test_annealing_lowers_the_variance_of_weights_and_keeps_their_mean():
    base = torch.distributions.Normal(torch.zeros(2).double(), 1.0)

    def points(x: Tensor) -> tuple[Tensor, Tensor]:
        log_q = base.log_prob(x).sum(1)
        return log_q, target(x) - log_q

    x = torch.randn(20_000, 2).double()
    plain, moved = annealed(points, x, 0, 0.5, 3), annealed(points, x, 8, 0.5, 3)
    for found in (plain, moved):
        weights = found.log_weights.exp()
        assert abs(weights.mean() - math.exp(3)) < 4 * weights.std() / len(weights) ** 0.5
    assert moved.log_weights.exp().var() < 0.5 * plain.log_weights.exp().var()


def two_modes(x: Tensor) -> Tensor:
    """Normal modes at ±3, of equal mass; its integral is 1."""
    parts = [torch.distributions.Normal(loc, 0.5).log_prob(x).sum(-1) for loc in (-3.0, 3.0)]
    return torch.logaddexp(*parts) - math.log(2)


def test_reverse_kl_drops_a_mode_that_the_alpha_divergence_keeps():
    config = FitConfig(steps=200, batch_size=128, learning_rate=5e-3, progress=False, accelerator="cpu")
    shares = {}
    for objective in (ReverseKL(two_modes), AlphaDivergence(two_modes, temperatures=4)):
        flow = Flow(cnf.build("realnvp", 2, layers=4, hidden=16).transform, DiagonalNormal(2, loc=1.0, scale=2.0))
        cnf.fit(flow, None, objective, config=config)
        shares[type(objective).__name__] = (flow.sample(2000)[:, 0] < 0).double().mean().item()
    assert shares["ReverseKL"] < 0.02
    assert 0.3 < shares["AlphaDivergence"] < 0.7


def test_the_step_size_follows_the_acceptance_in_training_only():
    flow, objective = normal(), AlphaDivergence(target, temperatures=2)
    start = objective.log_step.clone()
    with torch.no_grad():
        objective(flow, torch.zeros(50, 2).double())
    objective.eval()(flow, torch.zeros(50, 2).double())
    assert torch.equal(objective.log_step, start)
    objective.train()(flow, torch.zeros(50, 2).double())
    assert not torch.equal(objective.log_step, start)
