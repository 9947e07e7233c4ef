"""Augmentation: the bound below the density, importance weights that close the gap, shapes that differ at both ends."""

from __future__ import annotations

import math

import pytest
import torch
from instances import affine, randomized
from torch import Tensor
from torch.distributions import MultivariateNormal

from cnf import (
    CNF,
    Augment,
    Compose,
    Exact,
    Flow,
    FlowMatching,
    Hutchinson,
    Inverse,
    MLPField,
    RungeKutta,
    StandardNormal,
    build,
    load,
    reconfigure,
    save,
)
from cnf.discrete import DenseLinear, Logit, StandardizeContext
from cnf.metrics import importance_log_prob

D, E = 2, 2  # dimensions of the data and of the noise


def joint_flow() -> tuple[Flow, MultivariateNormal]:
    """A linear flow of data and noise, with the Gaussian joint density that it has."""
    linear = DenseLinear(D + E).double()
    with torch.no_grad():
        linear.weight.copy_(1.2 * torch.eye(D + E) + 0.2 * torch.randn(D + E, D + E))  # lighter than the noise
    back = linear.decode(torch.eye(D + E).double()).value.mT.detach()  # (x, e) = back z
    joint = MultivariateNormal(torch.zeros(D + E).double(), back @ back.mT)
    return Flow(Compose([Augment(E), linear]), StandardNormal(D + E)).double(), joint


def marginal(joint: MultivariateNormal) -> MultivariateNormal:
    return MultivariateNormal(joint.loc[:D], joint.covariance_matrix[:D, :D])


def gap(joint: MultivariateNormal, x: Tensor) -> Tensor:
    """`KL(q(e) ‖ p(e | x))`, how far the bound lies below log p(x)."""
    covariance = joint.covariance_matrix
    gain = covariance[D:, :D] @ covariance[:D, :D].inverse()
    conditional = covariance[D:, D:] - gain @ covariance[:D, D:]
    normal = MultivariateNormal(torch.zeros(E).double(), torch.eye(E).double())
    return torch.stack([torch.distributions.kl_divergence(normal, MultivariateNormal(gain @ row, conditional))
                        for row in x])  # fmt: skip


@torch.no_grad()
def test_the_mean_of_log_prob_is_below_the_log_density_by_the_kl_of_the_noise():
    flow, joint = joint_flow()
    x = marginal(joint).sample((5,))
    value, error, solver = flow.log_prob_with_error(x, probes=20_000)
    expected = marginal(joint).log_prob(x) - gap(joint, x)
    assert ((value - expected).abs() < 4 * error).all()
    assert (value + 4 * error < marginal(joint).log_prob(x)).all()
    assert (solver == 0).all()


@torch.no_grad()
def test_samples_are_those_of_the_marginal_and_their_log_prob_is_above_it_in_the_mean():
    flow, joint = joint_flow()
    x, log_prob = flow.sample_and_log_prob(20_000)
    assert x.shape == (20_000, D)
    assert torch.allclose(x.mT.cov(), marginal(joint).covariance_matrix, atol=0.05)
    above = log_prob - marginal(joint).log_prob(x)
    assert above.mean() > 5 * above.std() / 20_000**0.5


@torch.no_grad()
def test_importance_weights_find_the_density():
    flow, joint = joint_flow()
    x = marginal(joint).sample((6,))
    exact = marginal(joint).log_prob(x)
    value, error = importance_log_prob(flow, x, samples=20_000)
    assert ((value - exact).abs() < 4 * error).all()
    assert error.max() < 0.03
    means = [importance_log_prob(flow, x.expand(3000, 6, D), samples=k).value.mean(0) for k in (2, 8, 32)]
    bound = exact - gap(joint, x)
    for looser, tighter in zip([bound, *means], [*means, exact], strict=True):
        assert (looser < tighter + 0.01).all()
        assert looser.mean() < tighter.mean()


@torch.no_grad()
def test_the_error_of_the_importance_estimate_covers_it():
    flow, joint = joint_flow()
    x = marginal(joint).sample()
    value, error = importance_log_prob(flow, x.expand(1000, D), samples=400)
    inside = ((value - marginal(joint).log_prob(x)).abs() < 1.96 * error).double().mean()
    assert 0.91 < inside < 0.975


@torch.no_grad()
def test_a_continuous_augmented_flow_is_a_density():
    flow = Flow(Compose([Augment(1), CNF(randomized(MLPField(2, hidden=16), 1.5))]), StandardNormal(2))
    x = torch.linspace(-8, 8, 81)
    value, error = importance_log_prob(flow, x[:, None], samples=300)
    assert abs(value.exp().sum() * (x[1] - x[0]) - 1) < 4 * (error * value.exp()).norm() * (x[1] - x[0]) + 1e-3
    mean, _, solver = flow.log_prob_with_error(x[:, None], probes=60)
    assert (mean < value + 0.1).all()
    assert solver.max() < 1e-2


@torch.no_grad()
def test_exact_flows_need_no_importance_weights():
    flow, x = build("cnf", 3), torch.randn(2, 5, 3)
    value, error = importance_log_prob(flow, x)
    assert torch.allclose(value, flow.log_prob(x), atol=1e-5)
    assert (error == 0).all()


def test_noise_of_traces_is_no_importance_weight():
    flow, x = reconfigure(build("augmented_cnf", 2), divergence=Hutchinson()), torch.randn(4, 2)
    with pytest.raises(ValueError, match=r"need exact log-determinants.*divergence=cnf.Exact"):
        importance_log_prob(flow, x)
    assert importance_log_prob(reconfigure(flow, divergence=Exact()), x, samples=2).value.shape == (4,)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        importance_log_prob(build("augmented_cnf", 2), x, samples=1)


# The transform


def test_encode_appends_fresh_normal_noise_and_counts_it():
    augment, x = Augment(3), torch.randn(5000, 2, dtype=torch.float64)
    (z, log_det, _), again = augment.encode(x), augment.encode(x)
    noise = torch.distributions.MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    assert torch.equal(z[:, :2], x)
    assert not torch.equal(z[:, 2:], again.value[:, 2:])
    assert torch.allclose(log_det, -noise.log_prob(z[:, 2:]))
    assert torch.allclose(z[:, 2:].mT.cov(), torch.eye(3).double(), atol=0.1)
    back, back_det, _ = augment.decode(z)
    assert torch.equal(back, x)
    assert torch.equal(back_det, -log_det)
    assert not augment.exact


def test_gradients_pass_through():
    flow, _ = joint_flow()
    x = torch.randn(5, D, dtype=torch.float64, requires_grad=True)
    flow.log_prob(x).sum().backward()
    assert (x.grad != 0).all()
    samples, log_prob = flow.sample_and_log_prob(7)
    assert samples.requires_grad
    assert log_prob.requires_grad


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1, 1)])
@pytest.mark.parametrize("batch", [(), (5,), (3, 4), (0,)])
def test_data_and_base_have_shapes_of_their_own(shape, batch):
    body = StandardizeContext(Compose([Augment(3, shape), CNF(MLPField(5, hidden=8, context_dim=1))]), 1)
    flow = Flow(Compose([Logit(0.05), body]), StandardNormal(5))
    context = torch.randn(*batch, 1)
    assert (flow.event_shape, flow.base.event_shape) == (shape, (5,))
    density = flow(torch.rand(*batch, *shape), context)
    assert (density.log_prob.shape, density.z.shape) == (batch, (*batch, 5))
    assert flow.sample(4, context.new_zeros(1)).shape == (4, *shape)
    assert flow.distribution(context).sample((2,)).shape == (2, *batch, *shape)
    assert flow.distribution(context).event_shape == shape
    assert flow.support.event_dim == len(shape)
    frames = flow.trajectory(flow.base.sample(4), [0.0, 0.5, 1.0], torch.zeros(1))
    assert frames.shape == (3, 4, *shape)
    with pytest.raises(ValueError, match=r"z must have shape \(\*batch, 5\)"):
        flow.trajectory(torch.rand(4, *shape), [1.0], torch.zeros(1))
    with pytest.raises(ValueError, match="x must have shape"):
        flow.log_prob(torch.zeros(4, 5), context)


def test_frames_of_several_augmented_cnfs_are_in_the_units_of_the_data():
    first = Compose([affine((2,)), Augment(1), CNF(randomized(MLPField(3, hidden=8)))])
    last = CNF(randomized(MLPField(3, hidden=8)))
    flow = Flow(Compose([first, last]), StandardNormal(3)).double()
    z = flow.base.sample(4)
    frames = flow.trajectory(z, [0.0, 0.25, 0.5, 0.75, 1.0])
    scale, _, cnf = first.transforms
    middle = last.move(z, 0.0, 1.0).state.x
    assert torch.allclose(frames[0], scale.push(z[:, :2]), atol=1e-9)
    assert torch.allclose(frames[1], scale.push(last.move(z, 0.0, 0.5).state.x[:, :2]), atol=1e-5)
    assert torch.allclose(frames[2], scale.push(middle[:, :2]), atol=1e-5)
    assert torch.allclose(frames[3], scale.push(cnf.move(middle, 0.0, 0.5).state.x[:, :2]), atol=1e-5)
    assert torch.allclose(frames[4], flow.transform.decode(z).value, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Augment(0), ValueError, "extra must be .* from 1 to .*, got 0"),
        (lambda: Flow(Augment(2), StandardNormal(2)), ValueError, r"data with 2 more dimensions do not make a vector"),
        (lambda: Flow(Augment(2), StandardNormal((2, 3))), ValueError, r"do not make a vector \(2, 3\)"),
        (lambda: Flow(Augment(2, (2, 2)), StandardNormal(5)), ValueError, r"data \(2, 2\) with 2 more dimensions"),
        (
            lambda: Flow(Inverse(Augment(1)), StandardNormal(3)),
            TypeError,
            "Augment adds dimensions, so it has no Inverse",
        ),
    ],
)
def test_impossible_augmentations_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# The model


def test_the_model_is_trained_by_its_bound_towards_what_a_plain_flow_reaches():
    torch.manual_seed(1)
    angle = 2 * math.pi * torch.rand(600)
    x = torch.stack([angle.cos(), angle.sin()], 1) + 0.2 * torch.randn(600, 2)
    flow = reconfigure(build("augmented_cnf", 2, hidden=(32, 32)), solver=RungeKutta("rk4", steps=4))
    flow.initialize(x)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    start = importance_log_prob(flow, x).value.mean()
    for _ in range(80):
        optimizer.zero_grad()
        (-flow.log_prob(x).mean()).backward()
        optimizer.step()
    assert importance_log_prob(flow, x).value.mean() > start + 0.2
    assert importance_log_prob(flow, x).value.mean() > flow.log_prob_with_error(x).value.mean()


def test_the_model_can_be_matched_and_saved(tmp_path):
    flow, x = build("augmented_cnf", (2, 2), extra=3), torch.randn(40, 2, 2)
    flow.initialize(x)
    FlowMatching()(flow, x, None).value.backward()
    assert all(parameter.grad is not None for parameter in flow.parameters())
    twin = load(save(flow, tmp_path))
    torch.manual_seed(3)
    expected = flow.log_prob(x)
    torch.manual_seed(3)
    assert torch.equal(twin.log_prob(x), expected)
    assert twin.event_shape == (2, 2)
