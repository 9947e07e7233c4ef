"""A flow in Pyro: as a distribution, as a transform and as a guide."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from instances import randomized
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

import cnf
from cnf.interop.pyro import guide, transform

OBSERVED = torch.tensor([1.0, -0.5])


@pytest.fixture(autouse=True)
def clean():
    pyro.clear_param_store()


def model():
    """z ~ N(0, I), x ~ N(z, I): the posterior is N(x/2, I/2)."""
    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=OBSERVED)


@pytest.mark.parametrize("context", [None, torch.tensor([0.5])])
def test_a_transform_is_the_map_of_the_flow(context):
    flow = randomized(cnf.build("realnvp", 2, 0 if context is None else 1, hidden=8), 0.5)
    part = transform(flow, context)
    law = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [part])
    x = law.sample((5, 3))
    torch.testing.assert_close(law.log_prob(x), flow.log_prob(x, context), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(part(part.inv(x)), x, atol=1e-4, rtol=1e-4)
    again = x.clone()  # nothing of it is kept
    torch.testing.assert_close(law.log_prob(again), flow.log_prob(x, context), atol=1e-4, rtol=1e-4)
    assert {name.partition(".")[0] for name, _ in part.named_parameters()} == {"flow"}


@pytest.mark.parametrize("name", ["cnf", "nsf_autoregressive"])
def test_a_guide_finds_the_posterior(name):
    torch.manual_seed(0)
    solver = {"solver": cnf.RungeKutta("rk4", steps=2)} if name == "cnf" else {"layers": 1}
    flow = guide(model, name, hidden=(16,), **solver)
    loss = SVI(model, flow, Adam({"lr": 1e-2}), Trace_ELBO(num_particles=16, vectorize_particles=False))
    for _ in range(60):
        loss.step()
    with torch.no_grad():
        draws = torch.stack([flow()["z"] for _ in range(300)])
    torch.testing.assert_close(draws.mean(0), OBSERVED / 2, rtol=0, atol=0.25)
    torch.testing.assert_close(draws.std(0), torch.full((2,), 0.5**0.5), rtol=0, atol=0.2)


def test_a_trained_flow_is_a_prior_of_a_program():
    flow = cnf.build("realnvp", 2, hidden=8)

    def program():
        return pyro.sample("x", flow.distribution())

    trace = pyro.poutine.trace(program).get_trace()
    trace.compute_log_prob()
    x = trace.nodes["x"]["value"]
    torch.testing.assert_close(trace.nodes["x"]["log_prob_sum"], flow.log_prob(x))
