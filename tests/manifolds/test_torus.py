"""Circular splines: smooth over the seam, exact, and a flow of them learns densities on the torus."""

from __future__ import annotations

import math

import pytest
import torch
from instances import randomized
from scipy import stats
from torch import Tensor
from torch import distributions as td

import cnf
from cnf import Flow, build
from cnf.discrete import CircularSpline, CouplingLayer, alternating
from cnf.distributions import TorusUniform
from cnf.manifolds import Torus, volume_ratio
from cnf.networks import MADE, ResidualMLP

CIRCLE = 2 * math.pi
SPLINES = [CircularSpline(), CircularSpline(2), CircularSpline(20)]
splines = pytest.mark.parametrize("spline", SPLINES, ids=lambda spline: f"{spline.bins} bins")


def apart(x: Tensor, y: Tensor) -> Tensor:
    """The largest distance on the circle."""
    return ((x - y + math.pi).remainder(CIRCLE) - math.pi).abs().max()


def angles(*shape: int) -> Tensor:
    return CIRCLE * torch.rand(shape).double()


def moved(flow: Flow) -> Flow:
    return randomized(flow, 0.6).double()


@splines
def test_the_two_directions_undo_each_other_and_slopes_are_those_of_autodiff(spline):
    x, raw = angles(500, 3).requires_grad_(), 2 * torch.randn(500, 3, spline.size).double()
    for there, back in ((spline.encode, spline.decode), (spline.decode, spline.encode)):
        y, log_slope = there(x, raw)
        again, opposite = back(y, raw)
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert torch.allclose(slope.log(), log_slope, rtol=0, atol=1e-8)
        assert apart(again, x) < 1e-8
        assert torch.allclose(opposite, -log_slope, rtol=0, atol=1e-8)
        assert ((y >= 0) & (y <= CIRCLE)).all()


@splines
def test_it_goes_once_round_the_circle_and_is_smooth_at_the_seam(spline):
    raw = torch.randn(50, spline.size).double()
    x = torch.linspace(0, CIRCLE, 2001, dtype=torch.float64)[:-1]
    z, log_slope = spline.encode(x.expand(50, -1), raw.unsqueeze(1).expand(-1, 2000, -1))
    steps = z.diff(dim=1, append=z[:, :1]).remainder(CIRCLE)
    assert torch.allclose(steps.sum(1), torch.full((50,), CIRCLE).double())
    left, right = (
        spline.encode(torch.full((50, 1), at, dtype=torch.float64), raw.unsqueeze(1)) for at in (1e-12, CIRCLE - 1e-12)
    )
    assert apart(left[0], right[0]) < 1e-9
    assert (left[1] - right[1]).abs().max() < 1e-5
    assert log_slope.std() > 0.3


@splines
def test_values_and_slopes_are_those_of_zuko_on_the_same_knots(spline):
    zuko = pytest.importorskip("zuko")
    k, x, raw = spline.bins, angles(200, 3), torch.randn(200, 3, spline.size).double()
    raw[..., -1] = 0
    theirs = zuko.transforms.MonotonicRQSTransform(raw[..., :k], raw[..., k : 2 * k], raw[..., 2 * k + 1 : -1])
    sizes = [1e-3 + (1 - 1e-3 * k) * logits.softmax(-1) for logits in (raw[..., :k], raw[..., k : 2 * k])]
    theirs.horizontal, theirs.vertical = (torch.nn.functional.pad(CIRCLE * part.cumsum(-1), (1, 0)) for part in sizes)
    slopes = 1e-3 + torch.nn.functional.softplus(raw[..., 2 * k : -1] + math.log(math.expm1(1 - 1e-3)))
    theirs.derivatives = torch.cat((slopes, slopes[..., :1]), -1)
    expected, expected_slope = theirs.call_and_ladj(x)
    value, log_slope = spline.encode(x, raw)
    assert torch.allclose(value, expected, rtol=0, atol=1e-10)
    assert torch.allclose(log_slope, expected_slope, rtol=0, atol=1e-8)


def test_no_raw_numbers_are_the_identity_and_the_last_one_is_a_rotation():
    spline, x = CircularSpline(5), angles(20, 2)
    raw = torch.zeros(20, 2, spline.size).double()
    assert apart(spline.encode(x, raw)[0], x) < 1e-14
    raw[..., -1] = 1.3
    z, log_slope = spline.encode(x, raw)
    assert apart(z, x + 1.3) < 1e-14
    assert log_slope.abs().max() < 1e-14


@pytest.mark.parametrize(
    "make",
    [
        lambda c, s: CouplingLayer(s, ResidualMLP(2, s.size, hidden=8, context_dim=c, angles=True), alternating(3)),
        lambda c, s: cnf.Inverse(cnf.discrete.Autoregressive(s, MADE(3, s.size, hidden=8, angles=True))),
    ],
    ids=["coupling", "inverse-autoregressive"],
)
def test_the_log_determinant_is_the_volume_ratio_on_the_torus(make):
    transform, x = randomized(make(0, CircularSpline(4))).double(), angles(50, 3)
    for method in (transform.encode, transform.decode):
        ratio = volume_ratio(lambda x, method=method: method(x).value, x, Torus(3))
        assert torch.allclose(ratio.log(), method(x).log_det, rtol=0, atol=1e-8)
        assert method(x).log_det.std() > 0.1


@pytest.mark.parametrize(("dim", "context_dim"), [(1, 0), (2, 0), (3, 2)])
@torch.no_grad()
def test_the_density_of_a_flow_is_continuous_over_the_seam(dim, context_dim):
    flow, x = moved(build("torus_nsf", dim, context_dim)), angles(100, dim)
    context = torch.randn(100, context_dim).double() if context_dim else None
    assert flow.log_prob(x, context).std() > 0.1
    for i in range(dim):
        ends = [x.index_fill(1, torch.tensor([i]), at) for at in (0.0, 1e-9, CIRCLE - 1e-9, CIRCLE)]
        values = torch.stack([flow.log_prob(end, context) for end in ends])
        assert (values - values[0]).abs().max() < 1e-6


@torch.no_grad()
def test_the_density_of_a_flow_integrates_to_one():
    flow, points = moved(build("torus_nsf", 2, layers=2)), (torch.arange(200).double() + 0.5) * CIRCLE / 200
    density = flow.log_prob(torch.cartesian_prod(points, points)).exp()
    assert abs(density.mean() * CIRCLE**2 - 1) < 1e-4
    assert density.max() > 100 * density.min()


@torch.no_grad()
def test_samples_follow_the_density():
    """Pearson's test on 8 × 8 cells, whose masses are sums over 25 × 25 points of each."""
    flow, points = moved(build("torus_nsf", 2, layers=2)), (torch.arange(200).double() + 0.5) * CIRCLE / 200
    density = flow.log_prob(torch.cartesian_prod(points, points)).exp() * (CIRCLE / 200) ** 2
    expected = density.reshape(8, 25, 8, 25).sum((1, 3)).flatten()
    row, column = (flow.sample(20_000) / CIRCLE * 8).long().clamp(max=7).unbind(1)
    counts = torch.bincount(8 * row + column, minlength=64)
    assert expected.min() > 2e-4
    assert stats.chisquare(counts, 20_000 * expected / expected.sum()).pvalue > 1e-3


@torch.no_grad()
def test_a_built_flow_starts_at_the_uniform_density_and_samples_the_torus():
    flow = build("torus_nsf", (2, 2))
    x = flow.sample(1000)
    Torus(4).check(x.flatten(1))
    assert flow.support.check(x).all()
    assert not flow.support.check(x - 1).all()
    assert torch.allclose(flow.log_prob(x), torch.tensor(-4 * math.log(CIRCLE)), atol=1e-5)
    assert abs(x.mean() - math.pi) < 0.1


class Bimodal:
    """Two bumps on the 2-torus, one of them over the corner where both angles begin and end."""

    means, weights, sharpness = torch.tensor([[0.0, 0.0], [2.5, 4.0]]), torch.tensor([0.6, 0.4]), 4.0

    def log_prob(self, x: Tensor) -> Tensor:
        bumps = td.Independent(td.VonMises(self.means, self.sharpness), 1).log_prob(x.unsqueeze(1))
        return (bumps + self.weights.log()).logsumexp(1)

    def sample(self, n: int) -> Tensor:
        which = torch.multinomial(self.weights, n, replacement=True)
        return td.VonMises(self.means, self.sharpness).sample((n,))[torch.arange(n), which].remainder(CIRCLE)


def test_it_learns_two_modes_of_which_one_lies_over_the_seam():
    target = Bimodal()
    x, held_out = target.sample(4000), target.sample(4000)
    flow = build("torus_nsf", 2, layers=2, hidden=32, blocks=1)
    cnf.fit(flow, x, config=cnf.FitConfig(steps=150, batch_size=512, learning_rate=1e-2, progress=False))
    with torch.no_grad():
        gap = (target.log_prob(held_out) - flow.log_prob(held_out)).mean()
        uniform = (target.log_prob(held_out) + 2 * math.log(CIRCLE)).mean()
    assert gap < 0.08 < 1 < uniform


def test_a_masked_network_of_angles_gives_the_same_a_dimension_at_a_time():
    net, x = randomized(MADE(4, 3, hidden=16, order=(2, 0, 3, 1), angles=True)).double(), angles(5, 4)
    steps, before, outputs = net.steps(), x[:, :0], net(x).unflatten(1, (4, 3))
    for i in net.order:
        assert torch.allclose(steps(before), outputs[:, i], rtol=0, atol=1e-12)
        before = x[:, i : i + 1]
    assert torch.allclose(net(x + CIRCLE), net(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CircularSpline(1), "bins must be .* from 2"),
        (lambda: CircularSpline(8, min_size=0.2), "min_size"),
        (
            lambda: build("torus_nsf", 2).log_prob(torch.tensor([[0.1, 180.0], [1.0, 2.0]])),
            r"1 of 2 points are not on the torus.*174 off, first in rows \[0\]: take them modulo 2π",
        ),
        (lambda: build("torus_nsf", 2).log_prob(torch.tensor([[0.1, -0.5]])), "the farthest is 0.5 off"),
        (lambda: TorusUniform(2).log_prob(torch.tensor([[0.1, 7.0]])), "the farthest is 0.717 off"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
