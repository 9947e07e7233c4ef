"""Free-form flows: exact volumes of their networks, and a surrogate that has the gradient of the log-determinant."""

from __future__ import annotations

import pytest
import torch
from instances import inverse_pair, randomized
from torch import Tensor, nn

import cnf
from cnf import Compose, Flow, FreeForm, MaximumLikelihood, StandardNormal, build
from cnf.data import toy
from cnf.discrete import AffineMap, CouplingLayer, alternating
from cnf.distributions import VonMisesFisher
from cnf.manifolds import EncoderDecoder, ManifoldEncoderDecoder, NormalizedAffine, Sphere, volume_ratio
from cnf.metrics import normalization
from cnf.networks import Conditioner, ResidualMLP, Skip
from cnf.objectives.free_form import surrogate


class Matrix(Conditioner):
    """`W x`."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x @ self.matrix.mT


def net(dim: int) -> Conditioner:
    return randomized(Skip(ResidualMLP(dim, dim, hidden=8, blocks=1, activation="silu")), 0.7)


def regular(dim: int) -> Tensor:
    return torch.eye(dim).double() + 0.3 * torch.randn(dim, dim).double()


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_surrogate_of_a_linear_map_has_the_gradient_of_its_log_determinant_with_all_probes(dim):
    matrix = regular(dim)
    pair = EncoderDecoder(Matrix(matrix), Matrix(torch.linalg.inv(matrix)))
    _, volume = surrogate(pair, torch.randn(4, dim).double(), dim)
    (gradient,) = torch.autograd.grad(volume.mean(), pair.encoder.matrix)
    assert torch.allclose(gradient, torch.linalg.inv(matrix).mT, rtol=0, atol=1e-10)
    assert torch.allclose(volume, torch.tensor(float(dim)).double())  # D, whatever the matrix: not its log-det


@pytest.mark.parametrize("probes", [1, 3])
def test_the_surrogate_has_that_gradient_in_expectation_with_fewer_probes(probes):
    matrix, rows = regular(5), 20_000
    pair = EncoderDecoder(Matrix(matrix), Matrix(torch.linalg.inv(matrix)))
    at = pair.encode(torch.randn(1, 5).double().expand(rows, 5)).value
    draws = pair.directions(at.detach(), probes)
    each = torch.einsum("kni,knj->nij", draws, draws @ torch.linalg.inv(matrix).mT) / probes
    _, volume = surrogate(pair, torch.randn(rows, 5).double(), probes)
    (gradient,) = torch.autograd.grad(volume.mean(), pair.encoder.matrix)
    error = each.std(0) / rows**0.5
    assert ((gradient - torch.linalg.inv(matrix).mT).abs() < 4.5 * error).all()
    assert (error > 1e-4).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: (inverse_pair(CouplingLayer(AffineMap(), ResidualMLP(2, 2, hidden=8), alternating(3))), None),
        lambda: (inverse_pair(NormalizedAffine(3), manifold=Sphere(3)), Sphere(3)),
    ],
    ids=["space", "sphere"],
)
def test_the_surrogate_has_the_gradient_of_the_log_determinant_where_the_decoder_is_the_inverse(make):
    pair, place = make()
    randomized(pair, 0.7).double()
    x = torch.randn(30, 3).double() if place is None else place.sample(30, dtype=torch.float64)
    weights, gradients = torch.rand(30).double(), []
    for volume in (pair.encode(x).log_det, surrogate(pair, x, 3 if place is None else 2)[1]):
        gradients.append(torch.autograd.grad(volume @ weights, list(pair.parameters())))
    for expected, got in zip(*gradients, strict=True):
        assert torch.allclose(got, expected, rtol=0, atol=1e-9)
    assert max(gradient.abs().max() for gradient in gradients[0]) > 0.1


@pytest.mark.parametrize("dim", [1, 3, 40])
def test_each_direction_has_the_log_determinant_of_its_own_network(dim):
    pair, x = EncoderDecoder(net(dim), net(dim)).double(), torch.randn(3, dim).double()
    for method, network in ((pair.encode, pair.encoder), (pair.decode, pair.decoder)):
        value, log_det, _ = method(x)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda row, network=network: network(row[None])[0]))(x)
        assert torch.allclose(log_det, torch.linalg.slogdet(jacobian).logabsdet, rtol=0, atol=1e-10)
        assert torch.equal(value, network(x))
    assert torch.equal(pair.push(x), pair.decode(x).value)


def test_on_the_sphere_each_direction_has_the_volume_ratio_of_its_own_network():
    pair, x = (
        ManifoldEncoderDecoder(net(4), net(4), manifold=Sphere(4)).double(),
        Sphere(4).sample(5, dtype=torch.float64),
    )
    for method in (pair.encode, pair.decode):
        value, log_det, _ = method(x)
        Sphere(4).check(value)
        ratio = volume_ratio(lambda x, method=method: method(x).value, x, Sphere(4))
        assert torch.allclose(log_det, ratio.log(), rtol=0, atol=1e-10)


def test_the_reconstruction_is_that_of_a_data_point_in_both_directions():
    pair, x = EncoderDecoder(net(3), net(3)).double(), torch.randn(6, 3).double()
    error = (x - pair.decoder(pair.encoder(x))).square().sum(1)
    assert torch.allclose(pair.encode(x).costs["reconstruction"], error)
    assert error.min() > 1e-3
    z = torch.randn(6, 3).double()
    decoded = pair.decode(z)
    assert torch.allclose(decoded.costs["reconstruction"], pair.encode(decoded.value).costs["reconstruction"])
    flow = Flow(Compose([pair]), StandardNormal(3).double())
    assert torch.allclose(flow(x).costs["reconstruction"], error)


def test_samples_come_with_the_density_of_the_decoder():
    matrix = regular(2)
    flow = Flow(EncoderDecoder(Matrix(regular(2)), Matrix(matrix)), StandardNormal(2).double())
    x, log_prob = flow.sample_and_log_prob(50)
    expected = torch.distributions.MultivariateNormal(torch.zeros(2).double(), matrix @ matrix.mT).log_prob(x)
    assert torch.allclose(log_prob, expected)
    assert not torch.allclose(flow.log_prob(x), expected, atol=0.1)


def test_a_learned_inverse_promises_no_exact_density():
    assert not build("free_form", 2).exact


def test_training_leaves_the_log_determinant_what_it_is():
    """The objective's surrogate is not the log-determinant of the flow, before, during or after a step."""
    flow, x = randomized(build("free_form", 3), 0.5).double(), torch.randn(8, 3).double()
    pair = next(part for part in flow.modules() if isinstance(part, EncoderDecoder))
    before = pair.encode(x).log_det
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: pair.encoder(row[None])[0]))(x)
    FreeForm()(flow, x).value.backward()
    assert torch.equal(pair.encode(x).log_det, before)
    assert torch.allclose(before, torch.linalg.slogdet(jacobian).logabsdet)
    assert all(parameter.grad is not None for parameter in pair.parameters())


@pytest.mark.parametrize("name", ["free_form", "sphere_free_form"])
def test_a_condition_reaches_encoder_and_decoder_in_training(name):
    flow = randomized(build(name, 3, context_dim=2), 0.5)
    x, context = torch.nn.functional.normalize(torch.randn(6, 3), dim=1), torch.randn(6, 2)
    torch.manual_seed(0)
    first = FreeForm()(flow, x, context)
    torch.manual_seed(0)
    second = FreeForm()(flow, x, context + 1)
    assert not torch.allclose(first.rows, second.rows)
    assert not torch.allclose(first.metrics["reconstruction"], second.metrics["reconstruction"])


def test_the_objective_is_the_published_loss():
    flow, x = randomized(build("free_form", 3), 0.5).double(), torch.randn(8, 3).double()
    pair = next(part for part in flow.modules() if isinstance(part, EncoderDecoder))
    loss = FreeForm(beta=7.0, probes=3)(flow, x)
    z = pair.encoder(x)
    error = (x - pair.decoder(z)).square().sum(1)
    f, g = (torch.func.vmap(torch.func.jacrev(lambda row, n=n: n(row[None])[0])) for n in (pair.encoder, pair.decoder))
    surrogate = (f(x) @ g(z)).diagonal(dim1=1, dim2=2).sum(1)
    expected = 7 * error - StandardNormal(3).log_prob(z) - surrogate
    assert torch.allclose(loss.rows, expected)
    assert torch.allclose(loss.value, expected.mean())
    assert torch.allclose(loss.metrics["reconstruction"], error.mean())


def trained(name: str, objective, steps: int) -> tuple[Flow, Tensor, Tensor]:
    target = toy(name)
    x, held_out = (target.sample(n, generator=torch.Generator().manual_seed(n)) for n in (10_000, 4_000))
    flow = build("free_form", 2, hidden=64)
    config = cnf.FitConfig(steps=steps, batch_size=512, learning_rate=5e-3, progress=False)
    cnf.fit(flow, x, objective, config=config)
    with torch.no_grad():
        return flow, target.log_prob(held_out) - flow.log_prob(held_out), held_out


def test_trained_flows_reconstruct_and_their_exact_density_integrates_to_one():
    flow, gap, held_out = trained("moons", FreeForm(beta=100.0), 300)
    assert flow(held_out).costs["reconstruction"].mean() < 1e-3
    assert abs(normalization(flow, [-8, -8], [8, 8], points=400) - 1) < 1e-3
    assert 0 < gap.mean() < 0.5  # 0.9 at the start


def test_exact_likelihood_trains_the_same_flow():
    _, gap, _ = trained("moons", MaximumLikelihood({"reconstruction": 10.0}), 100)
    assert 0 < gap.mean() < 0.75


def test_it_learns_on_the_sphere():
    target = VonMisesFisher(torch.tensor([0.0, 0.6, 0.8]), 10.0)
    with torch.no_grad():
        x, held_out = target.sample(4000), target.sample(2000)
    flow = build("sphere_free_form", 3, hidden=32, blocks=1)
    cnf.fit(
        flow,
        x,
        FreeForm(beta=10.0),
        config=cnf.FitConfig(steps=200, batch_size=256, learning_rate=1e-2, progress=False),
    )
    with torch.no_grad():
        gap = (target.log_prob(held_out) - flow.log_prob(held_out)).mean()
        grid = Sphere(3).sample(100_000)
        mass = flow.log_prob(grid).exp() * Sphere(3).volume
        Sphere(3).check(flow.sample(100))
        assert -0.05 < gap < 0.15  # 1.2 for the uniform density
        assert abs(mass.mean() - 1) < 5 * mass.std() / len(grid) ** 0.5 + 1e-3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FreeForm(beta=0.0), ValueError, "beta must be a number above 0 .*, got 0.0"),
        (lambda: FreeForm(probes=0), ValueError, "probes must be .* from 1 to .*, got 0"),
        (
            lambda: FreeForm()(build("nice", 2), torch.zeros(3, 2)),
            TypeError,
            "trains flows with an EncoderDecoder, this Flow holds none",
        ),
        (lambda: FreeForm(probes=3)(build("free_form", 2), torch.zeros(3, 2)), ValueError, "at most 2 probes, got 3"),
        (
            lambda: EncoderDecoder(ResidualMLP(2, 2), ResidualMLP(2, 2, context_dim=1)),
            ValueError,
            "must read the same context, theirs have lengths 0 and 1",
        ),
        (lambda: build("sphere_free_form", (2, 2)), ValueError, r"are vectors \(n,\), got event_shape.\(2, 2\)"),
        (
            lambda: FreeForm()(build("sphere_free_form", 3), torch.ones(3, 3)),
            ValueError,
            "3 of 3 points are not on the unit sphere",
        ),
    ],
)
def test_misuse_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
