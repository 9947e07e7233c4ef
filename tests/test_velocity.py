"""Velocity networks trained elsewhere: the same flow as the native one, whatever their arguments and their clock."""

from __future__ import annotations

import math

import pytest
import torch
from instances import randomized
from scipy.linalg import expm
from torch import Tensor, nn

from cnf import CNF, Exact, Flow, Hutchinson, MLPField, RungeKutta, StandardNormal, count_evaluations, from_velocity

TIGHT = RungeKutta(rtol=1e-9, atol=1e-9)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")


class Concatenated(nn.Module):
    """As torchcfm's MLP: one tensor `(N, D + 1)` with the time last."""

    def __init__(self, dim: int, width: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class PointFirst(nn.Module):
    """As the networks of flow_matching's examples: `(x, t)`, times `(N,)`."""

    def __init__(self, dim: int, width: int = 16) -> None:
        super().__init__()
        self.time, self.net = dim, Concatenated(dim, width).net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == x.shape[:1]
        return self.net(torch.cat([x, t.reshape(-1, 1).to(x.dtype)], 1))


class TimeFirst(PointFirst):
    """As torchcfm's U-Net: `(t, x, y)`."""

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert t.shape == x.shape[:1]
        return self.net(torch.cat([x, t.reshape(-1, 1), *([] if y is None else [y])], 1))


NETWORKS = {"concat": Concatenated, "xt": PointFirst, "tx": TimeFirst}


def native(network: nn.Module, dim: int) -> Flow:
    """Our field with the weights of the network."""
    field = MLPField(dim, hidden=(16, 16), activation="silu").double()
    linears = [layer for layer in network.net if isinstance(layer, nn.Linear)]
    for ours, theirs in zip(field.layers, linears, strict=True):
        ours.load_state_dict(theirs.state_dict())
    return Flow(CNF(field, solver=TIGHT), StandardNormal(dim)).double()


class Clock(nn.Module):
    """The same velocities by a clock of another end or direction."""

    def __init__(self, network: nn.Module, data_at: float) -> None:
        super().__init__()
        self.network, self.data_at = network, data_at

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        if self.data_at == 0:
            return -self.network(1 - t, x)
        return self.network(t / self.data_at, x) / self.data_at


@pytest.mark.parametrize("arguments", NETWORKS)
@torch.no_grad()
def test_a_wrapped_network_is_the_native_field(arguments):
    network = randomized(NETWORKS[arguments](3), 1.3).double()
    flow, own, x = from_velocity(network, 3, arguments=arguments, solver=TIGHT), native(network, 3), torch.randn(9, 3)
    x = x.double()
    assert torch.allclose(flow.log_prob(x), own.log_prob(x), rtol=0, atol=1e-6)
    assert torch.allclose(flow.trajectory(x, [0.0, 0.4, 1.0]), own.trajectory(x, [0.0, 0.4, 1.0]), rtol=0, atol=1e-6)
    torch.manual_seed(4)
    samples = flow.sample(5)
    torch.manual_seed(4)
    assert torch.allclose(samples, own.sample(5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("data_at", [0.0, 0.5, 1.0, 1000.0])
@torch.no_grad()
def test_the_clock_of_the_network_may_end_anywhere_and_run_backwards(data_at):
    network = randomized(TimeFirst(3), 1.3).double()
    flow, own = from_velocity(Clock(network, data_at), 3, data_at=data_at, solver=TIGHT), native(network, 3)
    x = torch.randn(9, 3).double()
    assert torch.allclose(flow.log_prob(x), own.log_prob(x), rtol=0, atol=1e-6)
    assert torch.allclose(flow.trajectory(x, [0.3, 1.0]), own.trajectory(x, [0.3, 1.0]), rtol=0, atol=1e-6)


@torch.no_grad()
def test_diffusion_time_leads_from_the_base_at_one_to_the_data_at_zero():
    class Shrink(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.tensor([[0.3, 1.0], [-1.0, 0.6]]).double())

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return x @ self.matrix.mT

    network = Shrink()
    flow = from_velocity(network, 2, data_at=0.0, solver=TIGHT)
    map = torch.as_tensor(expm(-network.matrix.numpy()))  # from time 1 to time 0
    x = torch.randn(6, 2).double()
    expected = torch.distributions.MultivariateNormal(torch.zeros(2).double(), map @ map.mT).log_prob(x)
    assert torch.allclose(flow.log_prob(x), expected, atol=1e-7)


@torch.no_grad()
def test_images_and_contexts_pass():
    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
            self.embed = nn.Linear(3, 4)

        def forward(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
            time = t.reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
            shift = self.embed(y)[:, :, None, None]
            return self.last((self.layer(torch.cat([x, time], 1)) + shift).tanh())

    flow = from_velocity(randomized(Convolution()), (2, 4, 3))
    x, context = torch.randn(5, 2, 4, 3), torch.randn(5, 3)
    log_prob = flow.log_prob(x, context)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x, context).z.sum(0), x)  # (2, 4, 3, 5, 2, 4, 3)
    volumes = torch.linalg.slogdet(jacobian.movedim(3, 0).reshape(5, 24, 24)).logabsdet
    assert torch.allclose(log_prob, flow.base.log_prob(flow(x, context).z) + volumes, atol=1e-3)
    assert not torch.allclose(log_prob, flow.log_prob(x, context.roll(1, 0)), atol=1e-3)
    assert flow.sample(4, context[0]).shape == (4, 2, 4, 3)
    estimate = from_velocity(flow.transform.field.model, (2, 4, 3), divergence=Hutchinson())
    value, error, _ = estimate.log_prob_with_error(x, context, probes=50)
    assert ((value - log_prob).abs() < 5 * error).all()


def test_the_network_is_part_of_the_flow():
    network = randomized(TimeFirst(2))
    flow = from_velocity(network, 2)
    assert set(map(id, flow.parameters())) == set(map(id, network.parameters()))
    (-flow.log_prob(torch.randn(8, 2)).mean()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    twin = from_velocity(TimeFirst(2), 2)
    twin.load_state_dict(flow.state_dict())
    x = torch.randn(4, 2)
    assert torch.equal(twin.log_prob(x), flow.log_prob(x))


def test_settings_and_precision_are_those_asked_for():
    flow = from_velocity(TimeFirst(2).double(), 2, divergence=Hutchinson(2), solver=RungeKutta("rk4", steps=3))
    assert flow.sample(3).dtype == torch.float64
    with count_evaluations() as count:
        flow.log_prob(torch.randn(3, 2).double())
    assert count.evaluations == 12
    assert not flow.exact
    assert from_velocity(nn.Identity(), 2).transform.divergence == Exact()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: from_velocity(TimeFirst(2), 2, arguments="yx"),
            "arguments must be one of 'tx', 'xt', 'concat', got 'yx'",
        ),
        (lambda: from_velocity(TimeFirst(2), 2, data_at=-1.0), "data_at must be a number not below 0 .*, got -1.0"),
        (lambda: from_velocity(TimeFirst(2), 2, data_at=math.nan), "data_at must be a number not below 0 .*, got nan"),
        (lambda: from_velocity(TimeFirst(2), 2, data_at=math.inf), "data_at must be"),
        (lambda: from_velocity(Concatenated(2), (1, 4, 4), arguments="concat"), r"not to events \(1, 4, 4\)"),
        (lambda: from_velocity(nn.Linear(3, 3), 2, arguments="concat").sample(4), "must return the shape of x"),
    ],
)
def test_impossible_networks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_plain_function_is_refused():
    with pytest.raises(TypeError, match=r"torch.nn.Module \(wrap a function in one\), got function"):
        from_velocity(lambda t, x: x, 2)


def test_attention_has_a_density():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 8), nn.Linear(8, 1)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            h = self.first(torch.stack([x, t.unsqueeze(1).expand_as(x)], 2))
            return self.last(self.attention(h, h, h)[0]).squeeze(2)

    flow = from_velocity(Attention().eval(), 3)
    x = torch.randn(4, 3, requires_grad=True)
    log_prob = flow.log_prob(x)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x).z.sum(0), x).movedim(1, 0)
    assert torch.allclose(log_prob, flow.base.log_prob(flow(x).z) + torch.linalg.slogdet(jacobian).logabsdet, atol=1e-4)
    log_prob.sum().backward()
    assert x.grad.isfinite().all()
    with torch.no_grad():
        assert torch.allclose(flow.log_prob(x), log_prob)
    assert torch.backends.mha.get_fastpath_enabled()
