"""A flow as a density estimator of sbi: shapes, and the library's own workflow."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from instances import randomized
from sbi.analysis import pairplot
from sbi.diagnostics import check_sbc, run_sbc
from sbi.inference import NLE, NPE
from torch import nn
from torch.distributions import MultivariateNormal

import cnf
from cnf.interop.sbi import estimator

matplotlib.use("Agg")
QUICK = {"training_batch_size": 100, "learning_rate": 1e-2, "max_num_epochs": 6, "show_train_summary": False}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where sbi writes its logs."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def prior():
    return MultivariateNormal(torch.zeros(2), torch.eye(2))


def simulate(theta):
    """x ~ N(θ, I), so that the posterior is N(x/2, I/2)."""
    return theta + torch.randn_like(theta)


@pytest.fixture
def pairs(prior):
    theta = prior.sample((1000,))
    return theta, simulate(theta)


def wide_images(theta):
    return theta[:, :, None].expand(-1, 2, 3) + 0.1 * torch.randn(len(theta), 2, 3)


def embedding():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 3))


@pytest.mark.parametrize(("objective", "net"), [(None, False), (cnf.FlowMatching(), True), (None, True)])
def test_shapes_are_those_that_sbi_asks_for(objective, net, pairs):
    theta, _ = pairs
    x = wide_images(theta)
    network = embedding() if net else None
    built = estimator("cnf", objective=objective, embedding_net=network, hidden=(8, 8))(theta, x)
    assert (built.input_shape, built.condition_shape) == ((2,), (2, 3))
    assert built.log_prob(theta[None, :4], x[:4]).shape == (1, 4)
    assert built.log_prob(theta[:12].view(3, 4, 2), x[:4]).shape == (3, 4)
    assert built.log_prob(theta[:5, None], x[:1]).shape == (5, 1)
    assert built.sample((5, 2), x[:4]).shape == (5, 2, 4, 2)
    samples, log_prob = built.sample_and_log_prob((5,), x[:4])
    torch.testing.assert_close(built.log_prob(samples, x[:4]), log_prob, atol=1e-3, rtol=1e-3)
    randomized(built.net, 0.3)  # a field that is 0 does not hear of its condition
    losses = built.loss(theta[:4], x[:4])
    assert losses.shape == (4,)
    losses.sum().backward()
    if network is not None:
        assert network[1].weight.grad.abs().sum() > 0
        assert built.embedding_net is network


@pytest.mark.parametrize("name", ["cnf", "maf"])
def test_the_workflow_of_neural_posterior_estimation(name, prior, pairs):
    torch.manual_seed(0)
    inference = NPE(prior, density_estimator=estimator(name, hidden=(16, 16)), show_progress_bars=False)
    inference.append_simulations(*pairs).train(**QUICK)
    posterior = inference.build_posterior()
    observed = torch.tensor([[1.0, -0.5]])
    samples = posterior.sample((400,), x=observed, show_progress_bars=False)
    torch.testing.assert_close(samples.mean(0), observed[0] / 2, rtol=0, atol=0.25)
    torch.testing.assert_close(samples.std(0), torch.full((2,), 0.5**0.5), rtol=0, atol=0.15)
    theta = prior.sample((60,))
    x = simulate(theta)
    ranks, dap = run_sbc(theta, x, posterior, num_posterior_samples=50, show_progress_bar=False)
    assert check_sbc(ranks, theta, dap, num_posterior_samples=50)["ks_pvals"].min() > 1e-3
    figure, _ = pairplot(samples)
    plt.close(figure)


def test_training_with_cnf_and_sampling_with_sbi(prior, pairs):
    theta, x = pairs
    built = estimator("realnvp", embedding_net=nn.Linear(2, 3), hidden=16)(theta, x)
    before = built.embedding_net.weight.clone()
    config = cnf.FitConfig(steps=200, batch_size=100, learning_rate=5e-3, progress=False, accelerator="cpu")
    cnf.fit(built.net, (theta, x), config=config)
    assert not torch.equal(built.embedding_net.weight, before)
    posterior = NPE(prior, show_progress_bars=False).build_posterior(built)
    samples = posterior.sample((400,), x=torch.tensor([[1.0, -0.5]]), show_progress_bars=False)
    torch.testing.assert_close(samples.mean(0), torch.tensor([0.5, -0.25]), rtol=0, atol=0.2)


def test_the_workflow_of_neural_likelihood_estimation(prior, pairs):
    torch.manual_seed(0)
    inference = NLE(prior, density_estimator=estimator("realnvp", likelihood=True, hidden=16), show_progress_bars=False)
    inference.append_simulations(*pairs).train(**QUICK)
    parameters = {"warmup_steps": 30, "thin": 2, "num_chains": 10}
    posterior = inference.build_posterior(mcmc_parameters=parameters)
    samples = posterior.sample((300,), x=torch.tensor([[1.0, -0.5]]), show_progress_bars=False)
    torch.testing.assert_close(samples.mean(0), torch.tensor([0.5, -0.25]), rtol=0, atol=0.3)


def test_matching_trains_a_network_on_the_condition(pairs):
    theta, x = pairs
    built = estimator("cnf", objective=cnf.FlowMatching(), embedding_net=nn.Linear(2, 3), hidden=8)(theta, x)
    before = built.embedding_net.weight.clone()
    cnf.fit(built.net, (theta, x), config=cnf.FitConfig(steps=3, progress=False, accelerator="cpu"))
    assert not torch.equal(built.embedding_net.weight, before)


def test_objectives_without_rows_are_an_error(pairs):
    theta, x = pairs
    built = estimator("cnf", objective=lambda flow, x, context: flow.log_prob(x, context).mean(), hidden=8)(theta, x)
    with pytest.raises(TypeError, match="loss of each row"):
        built.loss(theta, x)
