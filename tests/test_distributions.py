"""Base densities: normalised, equal to those of torch, and sampled as they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as td

from cnf import Compose, DiagonalNormal, FitConfig, Flow, GaussianMixture, StandardNormal, Uniform, build, fit
from cnf.distributions import TorchBase, as_event_shape

LOC, SCALE = torch.tensor([0.5, -1.0]), torch.tensor([0.4, 1.3])
CENTRES, WIDTHS = torch.tensor([[0.0, 2.0], [1.0, -1.0], [-2.0, 0.0]]), torch.tensor([[0.5], [1.0], [0.3]])
WEIGHTS = torch.tensor([1.0, 2.0, 5.0])

BASES = {
    "standard": (StandardNormal(2), td.Independent(td.Normal(torch.zeros(2), 1.0), 1)),
    "diagonal": (DiagonalNormal(2, loc=LOC, scale=SCALE), td.Independent(td.Normal(LOC, SCALE), 1)),
    "mixture": (
        GaussianMixture(CENTRES, scale=WIDTHS, weights=WEIGHTS),
        td.MixtureSameFamily(td.Categorical(WEIGHTS), td.Independent(td.Normal(CENTRES, WIDTHS.expand(3, 2)), 1)),
    ),
    "uniform": (Uniform(2, low=-1.0, high=2.0), td.Independent(td.Uniform(-torch.ones(2), 2.0), 1)),
}
every = pytest.mark.parametrize(("base", "oracle"), BASES.values(), ids=BASES)


@every
def test_log_prob_is_that_of_torch(base, oracle):
    z = oracle.sample((50,))
    assert torch.allclose(base.log_prob(z), oracle.log_prob(z), atol=1e-5)


@every
def test_densities_integrate_to_one(base, oracle):
    axis = torch.linspace(-8, 8, 801)[:-1] + 0.01
    mass = base.log_prob(torch.cartesian_prod(axis, axis)).double().exp().sum() * 0.02**2
    assert abs(mass - 1) < 1e-4


@every
def test_samples_have_the_moments_of_the_density(base, oracle):
    z = base.sample(20_000).detach()
    deviation = (z.mean(0) - oracle.mean) / (oracle.variance / len(z)).sqrt()
    assert deviation.abs().max() < 4
    assert (z.var(0) / oracle.variance - 1).abs().max() < 0.05
    assert torch.allclose(base.log_prob(z).mean(), oracle.log_prob(oracle.sample((20_000,))).mean(), atol=0.05)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_and_densities_have_the_dtype_of_the_module(base, oracle, dtype):
    base = base.to(dtype)
    z = base.sample(4)
    assert z.dtype == base.log_prob(z).dtype == base.dtype == dtype
    assert base.sample(0).shape == (0, 2)
    assert base.log_prob(z[:0]).shape == (0,)
    base.float()


@every
def test_a_generator_seeds_the_samples(base, oracle):
    before = torch.get_rng_state()
    first, second = (base.sample(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(base.sample(5), base.sample(5))


@every
def test_samples_lie_in_the_support(base, oracle):
    assert base.support.check(base.sample(100)).all()
    assert base.support.event_dim == 1


@pytest.mark.parametrize("make", [StandardNormal, DiagonalNormal, lambda shape: Uniform(shape, high=3.0)])
def test_events_of_any_shape_are_summed_over(make):
    flat, shaped = make(6), make((1, 2, 3))
    z = torch.rand(5, 6)
    assert torch.allclose(flat.log_prob(z), shaped.log_prob(z.reshape(5, 1, 2, 3)))
    assert shaped.sample(4).shape == (4, 1, 2, 3)


def test_double_precision_is_double():
    assert Uniform(2, low=-1.0, high=2.0).double().log_prob(torch.zeros(1, 2).double()).item() == -2 * math.log(3)
    z = torch.randn(5, 2).double()
    expected = td.Normal(torch.zeros(2).double(), 1.0).log_prob(z).sum(1)
    assert torch.allclose(StandardNormal(2).double().log_prob(z), expected, rtol=1e-15)


def test_bases_made_of_double_tensors_are_double():
    assert GaussianMixture(CENTRES.double()).dtype == torch.float64
    assert DiagonalNormal(2, loc=LOC.double()).dtype == torch.float64


def test_a_uniform_density_is_zero_outside():
    log_prob = Uniform(2).log_prob(torch.tensor([[0.5, 0.5], [0.5, 1.1], [-0.1, 0.5]]))
    assert log_prob.tolist() == [0.0, -math.inf, -math.inf]


def test_parameters_train_through_densities_and_samples():
    normal, mixture = DiagonalNormal(2), GaussianMixture(CENTRES)
    normal.rsample(5).sum().backward()
    assert torch.allclose(normal.loc.grad, torch.full((2,), 5.0))
    assert normal.log_scale.grad.abs().sum() > 0
    mixture.log_prob(torch.randn(5, 2)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in mixture.parameters())


@pytest.mark.parametrize("shape", [0, -1, (), (2, 0), (2.0,), "2"])
def test_an_event_shape_is_made_of_positive_ints(shape):
    with pytest.raises(
        (ValueError, TypeError), match="event_shape must be a whole number from 1 .* or a sequence of them"
    ):
        as_event_shape(shape)


def test_a_uniform_density_needs_a_box():
    with pytest.raises(ValueError, match="low < high"):
        Uniform(2, low=1.0, high=1.0)


TORCH_BASES = {
    "correlated": td.MultivariateNormal(LOC, torch.tensor([[1.0, 0.5], [0.5, 2.0]])),
    "low rank": td.LowRankMultivariateNormal(LOC, torch.ones(2, 1), torch.ones(2)),
    "independent": td.Independent(td.Normal(LOC, SCALE), 1),
    "heavy tails": td.Independent(td.StudentT(torch.tensor([3.0, 4.0])), 1),
    "half line": td.Independent(td.Gamma(torch.tensor([1.5, 2.0]), 2.0), 1),
    "box": td.Independent(td.Uniform(torch.zeros(2), 1.0), 1),
    "mixture": td.MixtureSameFamily(
        td.Categorical(WEIGHTS), td.Independent(td.Normal(CENTRES, WIDTHS.expand(3, 2)), 1)
    ),
    "transformed": td.TransformedDistribution(
        td.Independent(td.Normal(LOC, SCALE), 1),
        [td.AffineTransform(LOC, SCALE, event_dim=1), td.ExpTransform().inv.inv],
    ),
}
torch_bases = pytest.mark.parametrize("distribution", TORCH_BASES.values(), ids=TORCH_BASES)


@torch_bases
def test_distributions_of_torch_are_bases(distribution):
    flow = Flow(Compose([]), distribution)
    x = distribution.sample((50,))
    torch.testing.assert_close(flow.log_prob(x), distribution.log_prob(x))
    assert flow.event_shape == (2,)
    torch.manual_seed(0)
    expected = distribution.sample((4,))
    torch.manual_seed(0)
    torch.testing.assert_close(flow.sample(4), expected)


@torch_bases
def test_distributions_of_torch_move_and_are_saved_with_the_flow(distribution):
    flow = Flow(Compose([]), distribution)
    other = Flow(Compose([]), distribution)
    for buffer in other.base.buffers():
        buffer.data = buffer.data + 0.25 if buffer.is_floating_point() else buffer.data
    other.load_state_dict(flow.state_dict())
    wide = other.double()
    x = distribution.sample((5,)).double()
    torch.testing.assert_close(wide.log_prob(x), flow.log_prob(x.float()).double(), atol=1e-4, rtol=1e-4)
    assert wide.base.dtype == wide.sample(3).dtype == wide.log_prob(x).dtype == torch.float64
    assert flow.base.dtype == torch.float32
    assert other.to("meta").base.device.type == "meta"


@torch_bases
def test_a_generator_is_the_only_source_of_noise_for_distributions_of_torch(distribution):
    base, before = TorchBase(distribution), torch.get_rng_state()
    first, second = (base.sample(4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, base.sample(4, generator=torch.Generator().manual_seed(2)))


@torch_bases
def test_no_rows_have_no_densities(distribution):
    z = torch.empty(0, 2, requires_grad=True)
    log_prob = TorchBase(distribution).log_prob(z)
    assert log_prob.shape == (0,)
    log_prob.sum().backward()
    assert z.grad.shape == (0, 2)


def test_a_flow_on_a_base_of_torch_trains():
    flow = Flow(build("realnvp", 2, layers=1, hidden=4).transform, TORCH_BASES["heavy tails"])
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    result = fit(flow, x, config=FitConfig(steps=2, progress=False))
    assert result.history[-1]["loss"] < 100


@pytest.mark.parametrize("name", ["half line", "box", "transformed"])
def test_outside_the_support_the_density_of_a_base_is_zero(name):
    flow = Flow(Compose([]), TORCH_BASES[name])
    assert flow.log_prob(torch.full((3, 2), -2.0)).tolist() == [-math.inf] * 3


@pytest.mark.parametrize(
    ("distribution", "error", "message"),
    [
        (td.Normal(torch.zeros(2), 1.0), ValueError, r"a batch \(2,\) of them.*Independent\(distribution, 1\)"),
        (td.Normal(torch.zeros(3, 2), 1.0), ValueError, r"Independent\(distribution, 2\)"),
        (td.Normal(0.0, 1.0), ValueError, "one of scalars"),
        (td.Independent(td.Poisson(torch.ones(2)), 1), ValueError, "are discrete"),
        (torch.randn, TypeError, "base must be"),
        (td.Normal, TypeError, "base must be"),
    ],
)
def test_what_is_no_base_is_refused(distribution, error, message):
    with pytest.raises(error, match=message):
        Flow(Compose([]), distribution)


@every
def test_samples_come_in_any_shape_with_gradient_if_asked(base, oracle):
    assert base.sample((4, 3)).shape == (4, 3, 2)
    assert base.sample((5,)).shape == base.sample(5).shape == (5, 2)
    assert not base.sample(5).requires_grad
    assert base.rsample((4, 3)).requires_grad == any(True for _ in base.parameters())
    with pytest.raises(ValueError, match="must not be negative"):
        base.sample(-1)
    with pytest.raises(TypeError, match="an int or a shape"):
        base.sample(2.5)
