"""Flows: densities and samples in any batch shape, contexts, distributions, trajectories, and what they refuse."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from instances import TIGHT, affine, conditional, initialized, randomized
from torch import Tensor, nn
from torch import distributions as td

import cnf
from cnf import (
    CNF,
    Compose,
    DiagonalNormal,
    Flow,
    GaussianMixture,
    Inverse,
    KineticEnergy,
    Mapped,
    MLPField,
    RungeKutta,
    StandardNormal,
    Transform,
    Uniform,
    build,
    count_evaluations,
    reconfigure,
)
from cnf.discrete import (
    RBIG,
    ActNorm,
    Affine,
    AffineMap,
    Autoregressive,
    CouplingLayer,
    GaussianDestructor,
    GaussianizationLayer,
    HistogramDestructor,
    Logit,
    LULinear,
    MarginalGaussianization,
    Planar,
    Rotation,
    Softplus,
    Standardize,
    StandardizeContext,
    TreeDestructor,
    alternating,
)
from cnf.distributions import Dirichlet, VonMisesFisher
from cnf.errors import DataWarning, FailedRowsWarning
from cnf.networks import MADE, ResidualMLP
from cnf.transforms import Flatten


def flow_of(context_dim: int = 0) -> Flow:
    transform = Compose([affine((3,)), conditional(context_dim)])
    return Flow(transform, DiagonalNormal(3, loc=0.3, scale=1.4)).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


BATCHES = [(), (1,), (5,), (3, 4, 2), (0,), (3, 0, 2)]


@pytest.mark.parametrize("batch", BATCHES)
def test_log_prob_has_exactly_the_batch_shape(batch):
    flow, x = flow_of(), draw(*batch, 3)
    density = flow(x)
    assert density.log_prob.shape == flow.log_prob(x).shape == batch
    assert density.z.shape == (*batch, 3)
    for got, row in zip(density.log_prob.flatten(), x.reshape(-1, 3), strict=True):
        assert torch.allclose(got, flow.log_prob(row), atol=1e-6)


def test_log_prob_is_the_change_of_variables():
    flow, x, context = flow_of(2), draw(5, 3), draw(5, 2)
    log_prob, z, _ = flow(x, context)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.transform.encode(x, context).value, x)
    volume = torch.stack([torch.linalg.slogdet(jacobian[i, :, i]).logabsdet for i in range(5)])
    normal = td.Independent(td.Normal(flow.base.loc, flow.base.log_scale.exp()), 1)
    assert torch.allclose(log_prob, normal.log_prob(z) + volume, atol=1e-6)


def test_events_of_several_dimensions_keep_their_shape():
    flow = Flow(Flatten(conditional(0), (1, 3)), StandardNormal((1, 3)))
    x = torch.randn(2, 4, 1, 3)
    assert flow.log_prob(x).shape == (2, 4)
    assert flow(x).z.shape == x.shape
    assert flow.sample(6).shape == (6, 1, 3)
    assert flow.distribution().sample((2, 5)).shape == (2, 5, 1, 3)


def test_costs_have_the_batch_shape():
    flow = reconfigure(flow_of(), regularizers={"kinetic": KineticEnergy()})
    x = draw(2, 3, 3)
    costs = flow(x).costs
    assert costs["kinetic"].shape == (2, 3)
    assert torch.allclose(costs["kinetic"][1, 2], flow(x[1, 2]).costs["kinetic"], atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (5, 2), (4, 1, 2), (4, 5, 2)])
def test_contexts_broadcast_to_the_batch(shape):
    flow, x, context = flow_of(2), draw(4, 5, 3), draw(*shape)
    rows = context.expand(4, 5, 2)
    log_prob = flow.log_prob(x, context)
    assert torch.allclose(log_prob[2, 3], flow.log_prob(x[2, 3], rows[2, 3]), atol=1e-6)
    assert torch.allclose(log_prob, flow.log_prob(x, rows), atol=1e-12)


# Samples


@pytest.mark.parametrize("context_dim", [0, 2])
def test_sample_and_log_prob_agrees_with_log_prob_in_one_solve(context_dim):
    flow, context = flow_of(context_dim), draw(7, context_dim) if context_dim else None
    with count_evaluations() as count:
        x, log_prob = flow.sample_and_log_prob(7, context)
    assert count.solves == 1
    assert x.shape == (7, 3)
    assert torch.allclose(log_prob, flow.log_prob(x, context), atol=1e-5)
    assert x.requires_grad
    assert log_prob.requires_grad


def test_all_ways_of_sampling_give_the_same_samples_for_one_seed():
    flow, context = flow_of(2), draw(2)
    samples = []
    for way in (
        lambda: flow.sample(6, context),
        lambda: flow.rsample(6, context),
        lambda: flow.sample_and_log_prob(6, context)[0],
        lambda: flow.distribution(context).sample((6,)),
        lambda: flow.distribution(context).rsample((6,)),
        lambda: flow.distribution(context).rsample_and_log_prob((6,))[0],
    ):
        torch.manual_seed(3)
        samples.append(way())
    assert all(torch.allclose(samples[0], other, atol=1e-6) for other in samples[1:])
    assert [other.requires_grad for other in samples] == [False, True, True, False, True, True]


def test_samples_are_decoded_base_samples():
    flow = flow_of()
    x = flow.sample(5, generator=torch.Generator().manual_seed(1))
    z = flow.base.sample(5, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(x, flow.transform.decode(z).value, atol=1e-6)


def test_a_generator_is_the_only_source_of_noise():
    flow, before = flow_of(), torch.get_rng_state()
    for method in (flow.sample, flow.rsample, lambda n, generator: flow.sample_and_log_prob(n, generator=generator)[0]):
        first, second = (method(4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_context_serves_all_samples_and_a_row_each_serves_its_own():
    flow, context = flow_of(2), draw(4, 2)
    torch.manual_seed(1)
    each = flow.sample(4, context)
    torch.manual_seed(1)
    one = flow.sample(4, context[2])
    assert torch.allclose(each[2], one[2], atol=1e-5)
    assert not torch.allclose(each[0], one[0], atol=1e-2)


class Shift(Transform):
    """A hand-written transform that returns a pair."""

    def encode(self, x, context=None):
        return x - 1, x.new_zeros(len(x))

    def decode(self, z, context=None):
        return z + 1, z.new_zeros(len(z))


SEEDED_BASES = {
    "normal": StandardNormal(3),
    "uniform": Uniform(3),
    "diagonal": DiagonalNormal(3, scale=0.5),
    "mixture": GaussianMixture(torch.tensor([[0.0, 1, 2], [3, 4, 5]])),
    "von Mises-Fisher": VonMisesFisher(torch.tensor([0.0, 0, 1]), 2.0),
    "Dirichlet": Dirichlet([1.0, 2, 3]),
    "torch": td.Independent(td.Gamma(torch.ones(3), 2.0), 1),
}


@pytest.mark.parametrize("n", [1, 10, 4100])
@pytest.mark.parametrize("base", SEEDED_BASES.values(), ids=SEEDED_BASES)
def test_samples_in_pieces_do_not_depend_on_their_size(base, n):
    flow = Flow(Shift(), base)

    def drawn(batch_size):
        seeded = torch.Generator().manual_seed(0)
        return list(flow.sample_in_pieces(n, batch_size=batch_size, generator=seeded))

    whole = torch.cat(drawn(5000))
    for batch_size in (3, 100, 2048):
        pieces = drawn(batch_size)
        assert all(len(piece) == batch_size for piece in pieces[:-1])
        assert torch.equal(torch.cat(pieces), whole)
    if n < 4096:
        assert torch.equal(whole, flow.sample(n, generator=torch.Generator().manual_seed(0)))


def test_samples_in_pieces_follow_the_rows_of_the_context():
    flow, context = flow_of(2), draw(10, 2)
    whole = flow.sample(10, context, generator=torch.Generator().manual_seed(0))
    pieces = list(flow.sample_in_pieces(10, context, batch_size=4, generator=torch.Generator().manual_seed(0)))
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    torch.testing.assert_close(torch.cat(pieces), whole)
    one = list(flow.sample_in_pieces(10, context[0], batch_size=4, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(one[0][0], whole[0])
    assert [len(piece) for piece in flow.sample_in_pieces(0, context[0])] == [0]
    for batch_size, error in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batch_size must be"):
            next(flow.sample_in_pieces(10, context, batch_size=batch_size))
    with pytest.raises(ValueError, match="context must have shape"):
        next(flow.sample_in_pieces(11, context))


def test_no_samples_are_an_empty_tensor():
    assert flow_of().sample(0).shape == (0, 3)
    assert flow_of().sample_and_log_prob(0)[1].shape == (0,)


def test_gradients_of_samples_reach_parameters_and_the_context():
    flow, context = flow_of(2), draw(2).requires_grad_()
    flow.rsample(5, context).square().sum().backward()
    assert context.grad.abs().min() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in flow.parameters())


def test_the_average_log_prob_of_samples_is_minus_the_entropy_of_a_linear_flow():
    flow = Flow(Affine(2, shift=1.0, scale=torch.tensor([0.5, 3.0])), StandardNormal(2))
    entropy = 2 * 0.5 * (1 + math.log(2 * math.pi)) + math.log(1.5)
    log_prob = flow.log_prob(flow.sample(20_000))
    assert abs(log_prob.mean() + entropy) < 4 * log_prob.std() / 20_000**0.5


# As a torch distribution


@pytest.mark.parametrize("shape", [(2,), (5, 2), (4, 5, 2)])
def test_a_distribution_has_a_batch_for_each_context(shape):
    flow, context = flow_of(2), draw(*shape)
    distribution = flow.distribution(context)
    x = distribution.sample((6,))
    assert isinstance(distribution, td.Distribution)
    assert distribution.batch_shape == shape[:-1]
    assert distribution.event_shape == (3,)
    assert x.shape == (6, *shape[:-1], 3)
    assert distribution.log_prob(x).shape == (6, *shape[:-1])
    assert torch.allclose(distribution.log_prob(x), flow.log_prob(x, context), atol=1e-12)
    assert distribution.sample().shape == (*shape[:-1], 3)
    samples, log_prob = distribution.rsample_and_log_prob((2, 3))
    assert samples.shape == (2, 3, *shape[:-1], 3)
    assert torch.allclose(log_prob, distribution.log_prob(samples), atol=1e-5)


def test_every_condition_of_a_batch_samples_its_own_distribution():
    flow, context = flow_of(2), draw(3, 2)
    samples = flow.distribution(context).sample((4000,))
    for i in range(3):
        alone = flow.sample(4000, context[i])
        error = (samples[:, i].std(0) + alone.std(0)) / 4000**0.5
        assert ((samples[:, i].mean(0) - alone.mean(0)).abs() < 3 * error).all()


@pytest.mark.parametrize("context_dim", [0, 2])
def test_a_distribution_expands(context_dim):
    flow = flow_of(context_dim)
    context = draw(1, context_dim) if context_dim else None
    distribution = flow.distribution(context)
    expanded = distribution.expand((4, 5))
    x = draw(4, 5, 3)
    assert (expanded.batch_shape, expanded.event_shape) == ((4, 5), (3,))
    assert expanded.sample((2,)).shape == (2, 4, 5, 3)
    assert torch.allclose(expanded.log_prob(x), distribution.log_prob(x), atol=1e-12)
    assert expanded.log_prob(x[0, 0]).shape == (4, 5)


def test_a_distribution_of_an_unconditional_flow_is_a_single_one():
    flow = flow_of()
    distribution = flow.distribution()
    assert (distribution.batch_shape, distribution.event_shape, distribution.has_rsample) == ((), (3,), True)
    assert distribution.sample().shape == (3,)
    assert distribution.log_prob(draw(3)).shape == ()


def test_samples_do_not_repeat_within_a_distribution():
    x = flow_of(2).distribution(draw(3, 2)).sample((4,))
    assert len(torch.unique(x.reshape(-1, 3), dim=0)) == 12


@pytest.mark.parametrize(
    ("transform", "inside", "outside"),
    [
        (affine((3,)), -5.0, math.nan),
        (Softplus(), 5.0, -5.0),
        (Compose([Logit(), affine((3,))]), 0.5, 5.0),
        (Compose([Logit(1e-6), affine((3,))]), 1.0, 1.1),
        (Flatten(Softplus(), (3,)), 5.0, -5.0),
    ],
)
def test_the_support_is_where_the_data_may_lie(transform, inside, outside):
    support = Flow(transform, StandardNormal(3)).distribution().support
    assert support.event_dim == 1
    assert support.check(torch.full((3,), inside))
    assert not support.check(torch.full((3,), outside))


def test_a_flow_works_inside_torch_distributions():
    flow = flow_of(2)
    distribution, x = flow.distribution(draw(4, 2)), draw(4, 3)
    transformed = td.TransformedDistribution(distribution, [td.ExpTransform()])
    assert torch.allclose(transformed.log_prob(x.exp()), distribution.log_prob(x) - x.sum(1), atol=1e-8)
    assert (transformed.sample((2,)) > 0).all()
    independent = td.Independent(distribution, 1)
    assert (independent.batch_shape, independent.event_shape) == ((), (4, 3))
    assert torch.allclose(independent.log_prob(x), distribution.log_prob(x).sum())
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(4).double()), distribution)
    expected = torch.logsumexp(distribution.log_prob(x[0].expand(4, 3)), 0) - math.log(4)
    assert torch.allclose(mixture.log_prob(x[0]), expected)


# Trajectories


def test_a_trajectory_leads_from_the_base_to_the_data():
    flow = Flow(Compose([affine((3,)), conditional(2), Softplus()]), StandardNormal(3)).double()
    z, context = flow.base.sample(4).exp(), draw(4, 2)
    z = z.double()
    frames = flow.trajectory(z, [0.0, 0.25, 0.5, 1.0], context)
    first, cnf, last = flow.transform.transforms
    assert frames.shape == (4, 4, 3)
    assert torch.allclose(frames[0], first.push(last.push(z)), atol=1e-9)
    assert torch.allclose(frames[-1], flow.transform.decode(z, context).value, atol=1e-6)
    halfway = cnf.move(last.push(z), 0.0, 0.5, context).state.x
    assert torch.allclose(frames[2], first.push(halfway), atol=1e-6)


def test_several_cnfs_share_the_time():
    parts = [conditional(0), affine((3,)), conditional(2), initialized(Standardize(3), (3,))]
    flow = Flow(Compose([parts[3], parts[0], parts[1], parts[2]]), StandardNormal(3)).double()
    z, context = draw(4, 3), draw(2)
    rows = context.expand(4, 2)
    middle = parts[2].decode(z, rows).value
    frames = flow.trajectory(z, [0.0, 0.25, 0.5, 0.75, 1.0], context)
    outer = lambda x: parts[3].push(x)  # noqa: E731
    assert torch.allclose(frames[0], outer(parts[1].push(z)), atol=1e-9)
    assert torch.allclose(frames[1], outer(parts[1].push(parts[2].move(z, 0, 0.5, rows).state.x)), atol=1e-6)
    assert torch.allclose(frames[2], outer(parts[1].push(middle)), atol=1e-6)
    assert torch.allclose(frames[3], outer(parts[0].move(parts[1].push(middle), 0, 0.5).state.x), atol=1e-6)
    assert torch.allclose(frames[4], flow.transform.decode(z, rows).value, atol=1e-6)


def test_a_part_of_a_trajectory_is_part_of_the_whole():
    flow = Flow(Compose([conditional(0), conditional(0)]), StandardNormal(3)).double()
    z = draw(4, 3)
    whole = flow.trajectory(z, torch.linspace(0, 1, 9))
    for times in ([0.25], [0.125, 0.375], [0.625, 0.75]):
        part = flow.trajectory(z, times)
        assert torch.allclose(part, whole[[round(8 * t) for t in times]], atol=1e-6)


def test_wrapped_flows_have_trajectories():
    for transform in (Flatten(conditional(0), (3,)), initialized(StandardizeContext(conditional(2), 2), (3,), 2)):
        flow = Flow(transform, StandardNormal(3)).double()
        context = draw(2) if transform.context_dim else None
        z = draw(4, 3)
        frames = flow.trajectory(z, [0.0, 1.0], context)
        assert torch.equal(frames[0], z)
        expanded = None if context is None else context.expand(4, 2)
        assert torch.allclose(frames[1], transform.decode(z, expanded).value, atol=1e-6)


@pytest.mark.parametrize("transform", [affine((3,)), Compose([affine((3,)), Softplus()])])
def test_a_flow_without_a_cnf_has_no_trajectory(transform):
    flow = Flow(transform, StandardNormal(3))
    with pytest.raises(TypeError, match=f"{type(transform).__name__} has no path: a trajectory needs a continuous"):
        flow.trajectory(torch.randn(2, 3), [0.0, 1.0])


@pytest.mark.parametrize("times", [[0.5, 0.2], [-0.1, 1.0], [0.0, 1.5], [math.nan], [], 0.5])
def test_impossible_times_are_refused(times):
    with pytest.raises(ValueError, match=r"times must be an increasing sequence within \[0, 1\]"):
        flow_of().trajectory(draw(2, 3), times)


# What is refused


@pytest.mark.parametrize("context_dim", [0, 2])
@pytest.mark.parametrize("shape", [(5, 4), (4,), (3, 1), ()])
def test_a_wrong_event_shape_is_shown(shape, context_dim):
    flow = flow_of(context_dim)
    with pytest.raises(ValueError, match=r"must have shape \(\*batch, 3\), got \(" + ", ".join(map(str, shape))):
        flow.log_prob(draw(*shape), draw(2) if context_dim else None)


def test_a_wrong_dtype_says_how_to_convert():
    with pytest.raises(ValueError, match=r"x is torch.float32, but the flow computes in torch.float64.*x.to\(torch.f"):
        flow_of().log_prob(torch.randn(5, 3))
    with pytest.raises(ValueError, match="x is torch.int64"):
        flow_of().log_prob(torch.zeros(5, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="context is torch.float32"):
        flow_of(2).log_prob(draw(5, 3), torch.randn(5, 2))


def test_a_wrong_device_says_so():
    with pytest.raises(ValueError, match="x is on meta, but the flow is on cpu"):
        flow_of().log_prob(draw(5, 3).to("meta"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_values_are_counted_and_located(bad):
    x, context = draw(4, 5, 3), draw(4, 5, 2)
    x[1, 2, 0] = x[3, 4, 1] = x[3, 4, 2] = bad
    with pytest.raises(ValueError, match=r"x has NaN or infinite values in 2 of 20 rows, first in rows \[7, 19\]"):
        flow_of().log_prob(x)
    context[2, 0, 1] = bad
    with pytest.raises(ValueError, match=r"context has NaN or infinite values in 1 of 20 rows, first in rows \[10\]"):
        flow_of(2).log_prob(draw(4, 5, 3), context)
    with pytest.raises(ValueError, match="context has NaN or infinite values"):
        flow_of(2).sample(3, torch.full((2,), bad).double())


def test_a_missing_context_is_asked_for():
    flow = flow_of(2)
    for call in (lambda: flow.log_prob(draw(5, 3)), lambda: flow.sample(4), lambda: flow.trajectory(draw(5, 3), [1.0]),
                 lambda: flow.distribution().sample()):  # fmt: skip
        with pytest.raises(ValueError, match=r"conditional: give a context of shape \(\*batch, 2\)"):
            call()


def test_an_unexpected_context_is_refused():
    with pytest.raises(ValueError, match=r"takes no context, got one of shape \(5, 2\)"):
        flow_of().log_prob(draw(5, 3), draw(5, 2))


@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (1,), (), (4, 2), (2, 5, 2)])
def test_a_context_of_the_wrong_shape_is_shown(shape):
    with pytest.raises(ValueError, match=r"context must have shape \(5, 2\) or broadcast to it, got \("):
        flow_of(2).log_prob(draw(5, 3), draw(*shape))


@pytest.mark.parametrize("shape", [-1, (2, -1), 2.5, True, "3", (2.0,), None, torch.tensor(2.5)], ids=repr)
def test_numbers_of_samples_that_are_none_are_refused(shape):
    error = ValueError if shape in (-1, (2, -1)) else TypeError
    for method in (flow_of().sample, flow_of().rsample, flow_of().sample_and_log_prob):
        with pytest.raises(error, match="the number of samples must"):
            method(shape)


@pytest.mark.parametrize("shape", [5, np.int64(5), (5,), [5], torch.Size([5]), (), (2, 3), (2, 0)], ids=repr)
def test_samples_take_a_number_or_a_shape(shape):
    flow = flow_of(2)
    batch = (5,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    for context in (draw(2), draw(*batch, 2)):
        torch.manual_seed(0)
        x = flow.sample(shape, context)
        assert x.shape == (*batch, 3)
        torch.manual_seed(0)
        again, log_prob = flow.sample_and_log_prob(shape, context)
        torch.testing.assert_close(again, x)
        assert log_prob.shape == batch
        torch.testing.assert_close(log_prob, flow.log_prob(x, context), atol=1e-4, rtol=1e-4)


def test_conditions_that_are_not_one_a_sample_name_the_call_that_is_meant():
    flow, contexts = flow_of(2), draw(3, 2)
    for method in (flow.sample, flow.sample_and_log_prob):
        with pytest.raises(
            ValueError, match=r"each of the 3 conditions, call flow.distribution\(context\).sample\(\(4,"
        ):
            method(4, contexts)
    assert flow.distribution(contexts).sample((4,)).shape == (4, 3, 3)
    with pytest.raises(TypeError, match="context must be a tensor, got list"):
        flow.sample(2, [[0.0, 1.0]])


def test_a_transform_may_return_a_pair():
    flow = Flow(Compose([Shift(), Inverse(Shift()), Flatten(Shift(), (3,))]), StandardNormal(3)).double()
    x = draw(4, 3)
    torch.testing.assert_close(flow.log_prob(x), StandardNormal(3).log_prob(x - 1))
    assert isinstance(Shift().encode(x), Mapped)
    assert Shift()(x).costs == {}


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (torch.ones(4, 3), TypeError, r"encode of Wrong must return cnf.Mapped or \(value, log_det\), got Tensor"),
        ((torch.ones(4, 3),), TypeError, "got tuple"),
        ((torch.ones(4, 3), 0.0), ValueError, r"a log_det for each row, of shape \(4,\), got 0.0"),
        ((torch.ones(4, 3), torch.zeros(4, 3)), ValueError, r"of shape \(4,\), got \(4, 3\)"),
        (Mapped(torch.ones(4, 3), torch.zeros(())), ValueError, r"of shape \(4,\), got \(\)"),
    ],
)
def test_what_a_transform_must_not_return(result, error, message):
    class Wrong(Shift):
        def encode(self, x, context=None):
            return result

    with pytest.raises(error, match=message):
        Flow(Wrong(), StandardNormal(3)).log_prob(torch.ones(4, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64], ids=str)
def test_a_flow_computes_in_float32_or_float64_only(dtype):
    flow = Flow(Compose([]), StandardNormal(3)).to(dtype)
    for use in (
        lambda: flow.log_prob(torch.ones(4, 3, dtype=dtype)),
        lambda: flow.sample(3),
        lambda: flow.sample_and_log_prob(3),
        lambda: flow.initialize(torch.ones(4, 3, dtype=dtype)),
        lambda: next(flow.sample_in_pieces(3)),
    ):
        with pytest.raises(
            ValueError, match=rf"this flow is {dtype}, but densities are computed in float32 or float64"
        ):
            use()


def test_data_of_another_kind_are_refused_with_what_to_do():
    flow = flow_of().float()
    with pytest.raises(ValueError, match="give real and imaginary parts as dimensions of their own"):
        flow.log_prob(torch.ones(4, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"convert the data with x.to\(torch.float32\)$"):
        flow.log_prob(torch.ones(4, 3, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"or the flow with flow.to\(torch.float64\)$"):
        flow.log_prob(torch.ones(4, 3, dtype=torch.float64))


def test_fields_of_a_users_own_take_any_context_or_none():
    class Own(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return -x if context is None else context.sum(1, keepdim=True) * x

    flow, x = Flow(CNF(Own(), solver=TIGHT), StandardNormal(3)).double(), draw(5, 3)
    assert flow.log_prob(x).shape == (5,)
    assert torch.allclose(flow.log_prob(x, draw(5, 4)), flow.log_prob(x)) is False
    assert torch.allclose(flow.log_prob(x, torch.tensor([-1.0]).double()), flow.log_prob(x))


# Starts from data


def test_initialize_is_explicit_remembered_and_saved():
    flow, x = build("cnf", 2), torch.randn(100, 2) * 7 + 3
    before = flow.log_prob(x)
    assert not flow.initialized
    flow.initialize(x.reshape(20, 5, 2))
    twin = build("cnf", 2)
    twin.load_state_dict(flow.state_dict())
    assert flow.initialized
    assert twin.initialized
    assert not torch.allclose(flow.log_prob(x), before)
    assert torch.allclose(flow(x).z.mean(0), torch.zeros(2), atol=1e-5)


def test_initialize_needs_two_finite_rows():
    flow = build("cnf", 2)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        flow.initialize(torch.randn(1, 2))
    with pytest.raises(ValueError, match="NaN"):
        flow.initialize(torch.full((3, 2), math.nan))
    with pytest.raises(ValueError, match="conditional"):
        build("cnf", 2, 1).initialize(torch.randn(5, 2))
    assert not flow.initialized


# Other bases and precisions


def test_any_base_serves_at_the_other_end():
    flow = Flow(Compose([Logit(), affine((2,))]), Uniform(2, low=-30.0, high=30.0))
    x = flow.sample(50)
    assert ((x >= 0) & (x <= 1)).all()
    inside = Flow(Inverse(Logit()), Uniform(2)).double()  # encode maps the line to the unit square
    x = draw(9, 2)
    assert torch.allclose(inside.log_prob(x), (x.sigmoid() * (1 - x.sigmoid())).log().sum(1))


def test_a_flow_in_float32_agrees_with_its_double():
    flow = Flow(CNF(randomized(MLPField(3, hidden=(8, 8))), solver=RungeKutta(rtol=1e-5, atol=1e-5)), StandardNormal(3))
    x = torch.randn(6, 3)
    single = flow.log_prob(x)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), flow.double().log_prob(x.double()), atol=1e-4)


def test_a_module_call_reaches_hooks():
    flow, seen = flow_of(), []
    flow.register_forward_hook(lambda module, inputs, output: seen.append(output.log_prob.shape))
    flow.log_prob(draw(5, 3))
    assert seen == [(5,)]


def test_a_distribution_refuses_a_context_that_does_not_fit():
    with pytest.raises(ValueError, match="this flow is conditional"):
        build("cnf", 2, context_dim=1).distribution()
    with pytest.raises(ValueError, match="takes no context"):
        build("cnf", 2).distribution(torch.zeros(1))


def steps_by_hand(flow: Flow, x: torch.Tensor) -> list[str]:
    """What three steps of training warn of."""
    optimizer = torch.optim.Adam(flow.parameters())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            optimizer.zero_grad()
            (-flow.log_prob(x).mean()).backward()
            optimizer.step()
    return [str(entry.message) for entry in caught if entry.category is DataWarning]


def test_training_without_the_start_is_warned_of_once_a_flow():
    x = 1000 + torch.randn(50, 2)
    for name in ("maf", "glow"):
        flow = build(name, 2)
        flow.log_prob(x)  # looking costs nothing
        (text,) = steps_by_hand(flow, x)
        assert "flow.initialize(x)" in text
        assert steps_by_hand(flow, x) == []


def test_nothing_is_said_of_flows_that_were_started_have_no_start_or_are_not_trained():
    x = 1000 + torch.randn(50, 2)
    started = build("maf", 2)
    started.initialize(x)
    assert steps_by_hand(started, x) == []
    assert steps_by_hand(build("maf", 2, preprocess="none"), x - 1000) == []
    assert steps_by_hand(build("maf", 2).eval(), x) == []


class Explosive(torch.nn.Module):
    """`dx/dt = x²`: backwards from t = 1, x below −1 becomes infinite."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x * x


def test_rows_without_a_density_do_not_take_it_from_the_others():
    flow = Flow(cnf.CNF(Explosive(), solver=RungeKutta(rtol=1e-3, atol=1e-3)), StandardNormal(1))
    x = torch.tensor([[[0.1], [-2.0], [0.3]], [[-4.0], [0.5], [0.7]]])
    with pytest.raises(cnf.SolverError, match=r"Samples: 1, 3 \(2 in all\)"):
        flow.log_prob(x)
    with pytest.warns(FailedRowsWarning, match=r"2 of 6 rows .*row 1: .*at t = 0\.(5|49).*; row 3: .*at t = 0\.7"):
        log_prob = flow.log_prob(x, on_failure="nan")
    bad = torch.tensor([[False, True, False], [True, False, False]])
    assert log_prob[bad].isnan().all()
    torch.testing.assert_close(log_prob[~bad], flow.log_prob(x[~bad]))
    with pytest.raises(ValueError, match="on_failure"):
        flow.log_prob(x, on_failure="ignore")


def test_failures_of_any_transform_are_kept_apart_and_no_failure_warns_of_nothing():
    class Stubborn(Affine):
        def encode(self, x: Tensor, context: Tensor | None = None) -> cnf.Mapped:
            bad = (x[:, 0] > 5).nonzero().flatten().tolist()
            if bad:
                raise cnf.ConvergenceError("no root was found", bad[:1])  # one at a time
            return super().encode(x, context)

    flow = Flow(Stubborn(2), cnf.StandardNormal(2))
    x = torch.randn(9, 2)
    x[[2, 5]] = 9.0
    with pytest.warns(FailedRowsWarning, match="row 2: no root was found; row 5: no root was found"):
        log_prob = flow.log_prob(x, on_failure="nan")
    assert log_prob.isnan().nonzero().flatten().tolist() == [2, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flow.log_prob(x[:2], on_failure="nan").isfinite().all()


NARROW = {
    "CNF": lambda: cnf.CNF(cnf.MLPField(3)),
    "potential": lambda: cnf.CNF(cnf.PotentialField(3)),
    "affine": lambda: Affine(3),
    "one-number-for-all": lambda: Affine(1, scale=2.0),
    "coupling": lambda: CouplingLayer(AffineMap(), ResidualMLP(2, 2), alternating(3)),
    "autoregressive": lambda: Autoregressive(AffineMap(), MADE(3, 2)),
    "marginals": lambda: MarginalGaussianization(3),
    "gaussianization": lambda: GaussianizationLayer(3),
    "rbig": lambda: RBIG(3),
    "rotation": lambda: Rotation(3),
    "gaussian": lambda: GaussianDestructor(3),
    "histograms": lambda: HistogramDestructor(3),
    "tree": lambda: TreeDestructor(3),
    "linear": lambda: LULinear(3),
    "norm": lambda: ActNorm(3),
    "planar": lambda: Planar(3),
}


@pytest.mark.parametrize("make", NARROW.values(), ids=NARROW)
def test_a_base_of_another_width_than_its_transform_is_refused_in_words(make):
    flow = Flow(make(), StandardNormal(2))
    for refused in (lambda: flow.log_prob(torch.full((5, 2), 0.5)), lambda: flow.sample(5)):
        with pytest.raises(ValueError, match=r"\(N, [13](, \.\.\.)?\), got \(5, 2\): the base and all transforms"):
            refused()
