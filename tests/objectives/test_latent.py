"""The ELBO of a linear model against its closed form, and importance weights that close the gap."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

import cnf
from cnf.discrete import AffineMap, Conditional
from cnf.inference import marginal_log_prob


class Decoder(nn.Module):
    """x ~ N(A z, 0.5²)."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.tensor([[1.0, 0.0], [0.5, -0.5], [0.0, 1.0]]))

    def forward(self, z):
        return Independent(Normal(self.map(z), 0.5), 1)


def truth(x):
    a = Decoder().map.weight.detach().double()
    return MultivariateNormal(torch.zeros(3).double(), a @ a.T + 0.25 * torch.eye(3).double()).log_prob(x.double())


def posterior():
    """`q(z | h)`, normal with mean and scale from the features h."""
    net = cnf.networks.ResidualMLP(4, 2 * AffineMap().size, hidden=16)
    return cnf.Flow(Conditional(AffineMap(), net, 4), cnf.StandardNormal(2))


def elbo(**options):
    return cnf.ELBO(nn.Sequential(nn.Linear(3, 4)), Decoder(), cnf.StandardNormal(2), **options)


@pytest.fixture
def x():
    return torch.randn(200, 3) @ torch.tensor([[1.0, 0, 0], [0.4, 1, 0], [0.1, 0, 1]])


def test_weights_find_the_marginal_likelihood_for_any_posterior(x):
    value, error = marginal_log_prob(elbo(), posterior(), x, samples=4000)
    assert ((value - truth(x)).abs() < 5 * error + 0.02).double().mean() > 0.97
    assert error.max() < 1


def test_bounds_become_tighter_with_samples(x):
    torch.manual_seed(0)
    flow, rows = posterior(), x.repeat(20, 1)
    with torch.no_grad():
        bounds = []
        for k in (1, 10, 100):
            objective = elbo(samples=k)
            objective.load_state_dict(elbo().state_dict() | {"encoder.0.weight": torch.zeros(4, 3)}, strict=True)
            bounds.append(-objective(flow, rows).value.item())
    assert bounds[0] < bounds[1] < bounds[2] < truth(x).mean().item() + 0.05


def test_training_closes_the_gap_and_trains_all_parts(x):
    flow, objective = posterior(), elbo()
    for parameter in objective.decoder.parameters():
        parameter.requires_grad_(False)
    before = objective.encoder[0].weight.clone()
    config = cnf.FitConfig(steps=600, batch_size=100, learning_rate=1e-2, progress=False, accelerator="cpu")
    cnf.fit(flow, x, objective, config=config)
    assert not torch.equal(objective.encoder[0].weight, before)
    with torch.no_grad():
        gap = truth(x).mean().item() + objective(flow, x.repeat(50, 1)).value.item()
    assert -0.02 < gap < 0.12  # a diagonal normal is not quite the posterior
    loss = elbo()(posterior(), x)
    loss.value.backward()
    torch.testing.assert_close(loss.metrics["reconstruction"] + loss.metrics["kl"], loss.value.detach())


def test_rows_may_be_binary_and_of_any_shape():
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(2, 16)

        def forward(self, z):
            return Independent(torch.distributions.Bernoulli(logits=self.map(z).view(-1, 1, 4, 4)), 3)

    objective = cnf.ELBO(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), Pixels(), cnf.StandardNormal(2))
    images = (torch.rand(64, 1, 4, 4) > 0.5).float()
    config = cnf.FitConfig(steps=3, batch_size=16, progress=False, accelerator="cpu")
    flow = cnf.build("iaf", 2, 4, hidden=8, preprocess="none")
    assert cnf.fit(flow, images, objective, config=config).steps == 3
    with pytest.raises(ValueError, match="density of latent variables"):
        cnf.fit(flow, images, objective, images, config=config)


def test_what_does_not_fit_is_an_error(x):
    with pytest.raises(ValueError, match="give rows of data alone"):
        elbo()(posterior(), x, x)
    columns = cnf.ELBO(nn.Linear(2, 4), lambda z: Normal(z, 1.0), cnf.StandardNormal(2))
    with pytest.raises(ValueError, match=r"one number a row, \(200,\), got \(200, 2\)"):
        columns(posterior(), x[:, :2])
    with pytest.raises(ValueError, match="at least 2 samples"):
        marginal_log_prob(elbo(), posterior(), x, samples=1)


def test_a_reverse_kl_of_contexts_does_not_look_at_the_rows():
    flow = cnf.build("realnvp", 2, 1, hidden=8)
    objective = cnf.ReverseKL(lambda x, c: -(x - c).square().sum(1))
    config = cnf.FitConfig(steps=2, batch_size=16, progress=False, accelerator="cpu")
    assert cnf.fit(flow, (torch.zeros(64, 2), torch.randn(64, 1)), objective, config=config).steps == 2
