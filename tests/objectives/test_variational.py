"""Reverse KL: its value and gradient against closed forms, annealing, and checkpoints of the count."""

from __future__ import annotations

import math

import pytest
import torch
from instances import conditional
from safetensors.torch import load_file
from torch import Tensor

from cnf import Compose, DiagonalNormal, FitConfig, Flow, StandardNormal, fit
from cnf.discrete import Affine
from cnf.objectives.variational import Annealed, LinearAnnealing, ReverseKL

LOC, SCALE = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.4])  # of the target


def target(x: Tensor) -> Tensor:
    """A normal density, but for a constant of 3."""
    return 3 + torch.distributions.Normal(LOC.to(x), SCALE.to(x)).log_prob(x).sum(-1)


def normal(loc: float = 0.2, scale: float = 0.7) -> Flow:
    return Flow(Compose([]), DiagonalNormal(2, loc=loc, scale=scale)).double()


def closed_form(flow: Flow, beta: float) -> Tensor:
    """`E_q[log q − β log p̃]` of two normal densities."""
    loc, log_scale = flow.base.loc, flow.base.log_scale
    entropy = (log_scale + 0.5 * math.log(2 * math.pi * math.e)).sum()
    spread = (log_scale.exp().square() + (loc - LOC).square()) / SCALE.square()
    cross = (0.5 * spread + SCALE.log() + 0.5 * math.log(2 * math.pi)).sum()
    return -entropy + beta * (cross - 3)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_value_is_the_closed_form(beta):
    flow = normal()
    loss = ReverseKL(target, beta)(flow, torch.zeros(200_000, 2).double())
    error = loss.rows.std() / len(loss.rows) ** 0.5
    assert abs(loss.value - closed_form(flow, beta)) < 3 * error
    assert abs(loss.metrics["reverse_kl"] - closed_form(flow, 1.0)) < 3 * error / beta
    torch.testing.assert_close(loss.rows.mean(), loss.value.detach())


def test_value_is_exact_where_flow_and_target_are_the_same():
    flow = Flow(Affine(2, shift=LOC, scale=SCALE), StandardNormal(2)).double()
    loss = ReverseKL(target)(flow, torch.zeros(50, 2).double())
    torch.testing.assert_close(loss.rows, torch.full((50,), -3.0).double())
    assert loss.metrics["effective_samples"].item() == pytest.approx(1, abs=1e-6)


def test_gradient_is_unbiased():
    flow, draws = normal(), []
    expected = torch.cat(torch.autograd.grad(closed_form(flow, 0.6), list(flow.parameters())))
    for _ in range(400):
        value = ReverseKL(target, 0.6)(flow, torch.zeros(50, 2).double()).value
        draws.append(torch.cat(torch.autograd.grad(value, list(flow.parameters()))))
    mean, error = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 20
    assert ((mean - expected).abs() < 4 * error).all()
    assert (error < 0.1 * expected.abs().max()).all()


def test_effective_samples_of_a_narrow_flow():
    """`E_q[w]² / E_q[w²]` of q = N(0, s²) and p = N(0, 1) in two dimensions is `((2 s² − 1)^½ / s²)²` for s² > ½."""
    s = 1.2
    flow = Flow(Compose([]), DiagonalNormal(2, scale=s)).double()
    loss = ReverseKL(StandardNormal(2).log_prob)(flow, torch.zeros(100_000, 2).double())
    assert loss.metrics["effective_samples"].item() == pytest.approx((2 * s**2 - 1) / s**4, rel=0.02)


def test_a_conditional_flow_draws_one_sample_for_each_context():
    flow = Flow(conditional(2), StandardNormal(3)).double()
    x, context, seen = torch.zeros(5, 3).double(), torch.randn(5, 2).double(), []

    def log_target(samples: Tensor, given: Tensor) -> Tensor:
        seen.append(given)
        return -(samples - given.sum(1, keepdim=True)).square().sum(1)

    loss = ReverseKL(log_target)(flow, x, context)
    loss.value.backward()
    assert torch.equal(seen[0], context)
    assert loss.rows.shape == (5,)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in flow.parameters())


def test_a_target_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"\(7,\), got \(7, 2\)"):
        ReverseKL(lambda x: x)(normal(), torch.zeros(7, 2).double())


def test_the_schedule_is_that_of_the_paper():
    schedule = LinearAnnealing()
    assert [schedule(step) for step in (0, 5000, 9900, 10_000, 10**6)] == pytest.approx([0.01, 0.51, 1, 1, 1])
    with pytest.raises(ValueError, match="steps"):
        LinearAnnealing(steps=0)


def test_annealing_counts_steps_of_training_only():
    flow, x = normal(), torch.zeros(4, 2).double()
    objective = Annealed(ReverseKL(target, 0.5), LinearAnnealing(0.1, 10))

    def beta() -> float:
        return objective(flow, x).metrics["inverse_temperature"].item()

    assert [beta() for _ in range(3)] == pytest.approx([0.05, 0.1, 0.15])
    with torch.no_grad():
        assert [beta(), beta()] == pytest.approx([0.2, 0.2])
    objective.eval()
    assert [beta(), beta()] == pytest.approx([0.2, 0.2])
    twin = Annealed(ReverseKL(target, 0.5), LinearAnnealing(0.1, 10))
    twin.load_state_dict(objective.state_dict())
    assert int(twin.step) == 3


def test_annealing_is_the_reverse_kl_at_that_temperature():
    flow, x = normal(), torch.zeros(20, 2).double()
    torch.manual_seed(1)
    annealed = Annealed(ReverseKL(target), lambda step: 0.25)(flow, x)
    torch.manual_seed(1)
    assert torch.equal(annealed.value, ReverseKL(target, 0.25)(flow, x).value)


def test_fit_finds_the_target_and_checkpoints_hold_the_count(tmp_path):
    flow = Flow(Compose([]), DiagonalNormal(2))
    objective = Annealed(ReverseKL(target), LinearAnnealing(steps=100))
    config = FitConfig(steps=400, batch_size=64, learning_rate=0.05, weight_decay=0, accelerator="cpu")
    fit(flow, torch.zeros(64, 2), objective, config=config, folder=tmp_path)
    assert int(objective.step) == 400
    assert load_file(tmp_path / "checkpoint.safetensors")["objectives/0.step"] == 400
    again = Annealed(ReverseKL(target), LinearAnnealing(steps=100))
    fit(flow, torch.zeros(64, 2), again, config=config, folder=tmp_path, resume=True)
    assert int(again.step) == 400
    assert torch.allclose(flow.base.loc, LOC, atol=0.05)
    assert torch.allclose(flow.base.log_scale.exp(), SCALE, atol=0.05)
