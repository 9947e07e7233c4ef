"""A flow as a distribution of torch: batches of conditions, expansion, Monte Carlo, and how Pyro sees it."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import distributions as td

import cnf
from cnf import Flow, FlowDistribution, StandardNormal, build
from cnf.discrete import Affine


def scaled(scale: float = 2.0, shift: float = 1.0) -> Flow:
    return Flow(Affine(2, shift=torch.tensor([shift, -1.0]), scale=scale), StandardNormal(2))


def normal(flow: Flow) -> td.Distribution:
    """What `scaled` is, to compare with."""
    z = flow.transform.decode(torch.stack([torch.zeros(2), torch.ones(2)])).value
    return td.Independent(td.Normal(z[0].detach(), (z[1] - z[0]).abs().detach()), 1)


def conditions(*batch: int) -> FlowDistribution:
    return build("maf", 2, context_dim=1).distribution(torch.randn(*batch, 1))


def test_expansion_keeps_each_condition():
    posterior = conditions(3, 1)
    expanded = posterior.expand((4, 3, 5))
    assert expanded.batch_shape == (4, 3, 5)
    x = torch.randn(3, 1, 2)
    torch.testing.assert_close(
        expanded.log_prob(x.expand(4, 3, 5, 2)), posterior.log_prob(x).expand(4, 3, 5), atol=1e-5, rtol=1e-5
    )
    assert expanded.sample((2,)).shape == (2, 4, 3, 5, 2)
    assert scaled().distribution().expand((3,)).sample((2,)).shape == (2, 3, 2)


@pytest.mark.parametrize(("batch", "wanted"), [((2,), (3,)), ((2, 3), (3,)), ((3,), (3, 2))])
def test_shapes_that_do_not_fit_are_refused(batch, wanted):
    with pytest.raises(ValueError, match="do not expand to"):
        conditions(*batch).expand(wanted)


def test_expansion_keeps_the_class_and_fills_an_instance():
    class Named(FlowDistribution):
        def greet(self) -> str:
            return "hello"

    named = Named(scaled())
    assert named.expand((3,)).greet() == "hello"
    instance = Named.__new__(Named)
    assert named.expand((3,), _instance=instance) is instance
    assert instance.batch_shape == (3,)
    reinterpreted = td.Independent(named.expand((3,)), 1)
    assert reinterpreted.expand((5,)).log_prob(torch.zeros(5, 3, 2)).shape == (5,)


def test_moments_and_quantiles_say_what_to_do():
    posterior = scaled().distribution()
    for use in (
        lambda: posterior.mean,
        lambda: posterior.variance,
        lambda: posterior.stddev,
        lambda: posterior.mode,
        lambda: posterior.cdf(torch.zeros(2)),
        lambda: posterior.icdf(torch.zeros(2)),
    ):
        with pytest.raises(NotImplementedError, match=r"no closed form of its \w+: estimate it with .*sample"):
            use()


def test_entropy_and_divergences_are_those_of_the_closed_forms():
    torch.manual_seed(0)
    p, q = scaled(), scaled(1.5, 0.0)
    for estimate, exact in (
        (cnf.metrics.entropy(p), normal(p).entropy()),
        (cnf.metrics.kl_divergence(p, q), td.kl_divergence(normal(p), normal(q))),
        (cnf.metrics.kl_divergence(p.distribution(), normal(q)), td.kl_divergence(normal(p), normal(q))),
        (cnf.metrics.kl_divergence(normal(p), q), td.kl_divergence(normal(p), normal(q))),
        (cnf.metrics.entropy(normal(p)), normal(p).entropy()),
    ):
        assert abs(estimate.mean - exact) < 4 * estimate.standard_error
        assert 0.001 < estimate.standard_error < 0.1
    assert (
        cnf.metrics.kl_divergence(p, td.Independent(td.Uniform(torch.zeros(2), 1.0, validate_args=False), 1)).mean
        == torch.inf
    )


def test_torch_finds_the_divergence_and_its_gradient():
    torch.manual_seed(0)
    p, q = scaled(), normal(scaled(1.5, 0.0))
    exact = td.kl_divergence(normal(p), q)
    for pair in ((p.distribution(), q), (normal(p), scaled(1.5, 0.0).distribution())):
        assert abs(td.kl_divergence(*pair) - exact) < 0.3
    flow = build("maf", 2, context_dim=1)
    both = td.kl_divergence(flow.distribution(torch.zeros(3, 1)), flow.distribution(torch.ones(3, 1)))
    assert both.shape == (3,)
    assert flow.distribution(torch.zeros(3, 1)).entropy().shape == (3,)
    both.sum().backward()
    assert any(parameter.grad is not None for parameter in flow.parameters())


def test_batches_have_no_single_divergence():
    with pytest.raises(ValueError, match=r"one distribution is needed, got a batch \(3,\)"):
        cnf.metrics.entropy(conditions(3))
    with pytest.raises(ValueError, match="samples"):
        cnf.metrics.kl_divergence(scaled(), scaled(), samples=1)
    with pytest.raises(TypeError, match="p must be"):
        cnf.metrics.kl_divergence("p", scaled())


def test_calling_a_distribution_draws_a_sample():
    posterior = conditions(3)
    torch.manual_seed(0)
    called = posterior()
    torch.manual_seed(0)
    torch.testing.assert_close(called, posterior.rsample())
    assert posterior((4,)).shape == (4, 3, 2)


def test_once_pyro_is_there_a_distribution_has_its_methods(monkeypatch):
    class TorchDistribution(td.Distribution):
        """In the place of Pyro's."""

        def to_event(self, n):
            return td.Independent(self, n)

    guest = types.ModuleType("pyro.distributions")
    guest.TorchDistribution = TorchDistribution
    monkeypatch.delitem(sys.modules, "pyro.distributions", raising=False)  # another test may have brought it
    assert not hasattr(scaled().distribution(), "to_event")
    monkeypatch.setitem(sys.modules, "pyro.distributions", guest)
    posterior = scaled().distribution()
    assert isinstance(posterior, FlowDistribution)
    assert isinstance(posterior.expand((3,)), TorchDistribution)
    assert posterior.expand((3,)).to_event(1).log_prob(torch.zeros(3, 2)).shape == ()


def test_pyro_samples_traces_and_trains_it():
    pyro = pytest.importorskip("pyro")
    flow = build("maf", 2)

    def model() -> None:
        with pyro.plate("rows", 3):
            pyro.sample("z", flow.distribution())

    trace = pyro.poutine.trace(model).get_trace()
    assert trace.nodes["z"]["value"].shape == (3, 2)
    torch.testing.assert_close(trace.log_prob_sum(), flow.log_prob(trace.nodes["z"]["value"]).sum())
