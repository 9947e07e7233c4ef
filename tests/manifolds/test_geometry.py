"""Manifolds: distances, geodesics, volumes and uniform samples; and volumes under maps."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from cnf import CNF, MLPField, RungeKutta
from cnf.manifolds import NormalizedTranslation, Simplex, Sphere, Torus, volume_ratio

MANIFOLDS = {
    "circle": Sphere(2),
    "sphere": Sphere(3),
    "sphere-8": Sphere(8),
    "segment": Simplex(2),
    "simplex": Simplex(5),
    "angle": Torus(1),
    "torus": Torus(3),
}
every = pytest.mark.parametrize("manifold", MANIFOLDS.values(), ids=MANIFOLDS)


def points(manifold, n: int = 50) -> torch.Tensor:
    return manifold.sample(n, dtype=torch.float64)


@every
def test_samples_lie_on_it_and_projection_leaves_them(manifold):
    x = points(manifold)
    manifold.check(x)
    manifold.check(x.reshape(5, 10, -1))
    assert x.shape == (50, manifold.ambient_dimension)
    assert torch.allclose(manifold.project(x), x, rtol=0, atol=1e-15)
    manifold.check(manifold.project(3 * x))
    assert manifold.sample(0).shape == (0, manifold.ambient_dimension)
    assert manifold.sample((2, 3)).shape == (2, 3, manifold.ambient_dimension)
    first, second = (manifold.sample(3, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32


@every
def test_the_tangent_basis_is_orthonormal_and_spans_what_projections_leave(manifold):
    x = points(manifold)
    basis, m = manifold.tangent(x), manifold.dimension
    assert basis.shape == (50, manifold.ambient_dimension, m)
    assert torch.allclose(basis.mT @ basis, torch.eye(m).double().expand(50, m, m), rtol=0, atol=1e-14)
    v = torch.randn_like(x)
    part = manifold.to_tangent(x, v)
    assert torch.allclose((basis @ (basis.mT @ v.unsqueeze(-1))).squeeze(-1), part, rtol=0, atol=1e-14)
    step = 1e-6 * part
    nearby = manifold.project(x + step)
    assert (manifold.distance(nearby, manifold.exp(x, step)) < 1e-10).all()


@every
def test_vectors_span_the_volume_of_their_coordinates(manifold):
    x, m = points(manifold), manifold.dimension
    coordinates = torch.randn(50, m, m).double()
    spanned = manifold.spanned(x, manifold.tangent(x) @ coordinates)
    assert torch.allclose(spanned, torch.linalg.det(coordinates).abs(), rtol=1e-12, atol=1e-13)


def test_volumes_far_apart_in_scale_keep_their_digits():
    p = torch.tensor([[1e-9, 1e-4, 0.3, 0.6999 - 1e-9]], dtype=torch.float64)
    powers = volume_ratio(lambda p: (4 * p.log()).softmax(1), p, Simplex(4))
    q = (4 * p.log()).softmax(1)
    assert torch.allclose(powers, 4**3 * (q / p).prod(1), rtol=1e-12, atol=0)


@every
def test_log_undoes_exp_and_its_length_is_the_distance(manifold):
    x, y = points(manifold), points(manifold)
    v = manifold.log(x, y)
    assert torch.allclose(manifold.to_tangent(x, v), v, rtol=0, atol=1e-14)
    assert torch.allclose(v.norm(dim=1), manifold.distance(x, y), rtol=0, atol=1e-13)
    assert (manifold.distance(manifold.exp(x, v), y) < 1e-13).all()
    half = manifold.exp(x, 0.5 * v)
    manifold.check(half)
    assert torch.allclose(manifold.distance(x, half), manifold.distance(half, y), rtol=0, atol=1e-13)
    assert torch.equal(manifold.log(x, x), torch.zeros_like(x))
    assert torch.equal(manifold.exp(x, torch.zeros_like(x)), x)


def test_distances_on_the_sphere_are_exact_for_near_and_opposite_points():
    x = points(Sphere(4))
    tiny = 1e-9 * Sphere(4).tangent(x)[..., 0]
    assert torch.allclose(Sphere(4).distance(x, x + tiny), torch.full((50,), 1e-9).double(), rtol=1e-6, atol=0)
    assert torch.equal(Sphere(4).distance(x, -x), torch.full((50,), math.pi, dtype=torch.float64))
    across = Sphere(4).log(x, -x)
    assert torch.allclose(Sphere(4).exp(x, across), -x, rtol=0, atol=1e-14)
    assert torch.allclose(Sphere(4).to_tangent(x, across), across, rtol=0, atol=1e-14)


def test_geodesics_of_the_torus_take_the_shorter_way_round():
    x, y = torch.tensor([[0.1, 3.0]]).double(), torch.tensor([[6.2, 3.5]]).double()
    assert torch.allclose(Torus(2).log(x, y), torch.tensor([[6.1 - 2 * math.pi, 0.5]]).double())


def test_geodesics_are_differentiable_where_points_coincide():
    for manifold in (Sphere(3), Torus(2)):
        x = points(manifold, 4)
        y = x.clone().requires_grad_()
        (manifold.log(x, y).sum() + manifold.exp(y, 0 * x).sum()).backward()
        assert y.grad.isfinite().all()


def test_volumes():
    assert math.isclose(Sphere(2).volume, 2 * math.pi)
    assert math.isclose(Sphere(3).volume, 4 * math.pi)
    assert math.isclose(Sphere(4).volume, 2 * math.pi**2)
    assert math.isclose(Simplex(2).volume, math.sqrt(2))
    assert math.isclose(Simplex(3).volume, math.sqrt(3) / 2)
    assert math.isclose(Torus(2).volume, 4 * math.pi**2)


@pytest.mark.parametrize(
    ("manifold", "marginal"),
    [
        (Sphere(2), stats.arcsine(-1, 2).cdf),
        (Sphere(3), stats.uniform(-1, 2).cdf),  # Archimedes
        (Sphere(6), stats.beta(2.5, 2.5, -1, 2).cdf),
        (Simplex(4), stats.beta(1, 3).cdf),
        (Torus(2), stats.uniform(0, 2 * math.pi).cdf),
    ],
)
def test_samples_are_uniform(manifold, marginal):
    x = points(manifold, 20_000)
    for column in x.T:
        assert stats.kstest(column.numpy(), marginal).pvalue > 1e-3


def test_the_volume_ratio_of_known_maps():
    x = points(Sphere(3))
    rotation = torch.linalg.qr(torch.randn(3, 3).double()).Q
    assert torch.allclose(volume_ratio(lambda x: x @ rotation, x, Sphere(3)), torch.ones(50).double())
    angles = points(Torus(2)) / 2
    assert torch.allclose(volume_ratio(lambda x: 2 * x, angles, Torus(2)), torch.full((50,), 4.0).double())
    p = points(Simplex(3))
    shrunk = volume_ratio(lambda p: 0.5 * p + 0.5 / 3, p, Simplex(3))
    assert torch.allclose(shrunk, torch.full((50,), 0.25).double())
    assert volume_ratio(lambda p: p, p[:0], Simplex(3)).shape == (0,)


def test_the_volume_ratio_is_differentiable_in_the_parameters_of_the_map():
    x = points(Sphere(3))
    flow = NormalizedTranslation(3, shift=torch.tensor([0.3, -0.5, 0.2])).double()
    volume_ratio(lambda x: flow.encode(x).value, x, Sphere(3)).log().sum().backward()
    from_ratio = flow.raw.grad.clone()
    flow.zero_grad()
    flow.encode(x).log_det.sum().backward()
    assert torch.allclose(from_ratio, flow.raw.grad, rtol=1e-10)


def test_the_volume_ratio_of_a_continuous_flow_is_its_log_determinant():
    cnf = CNF(MLPField(2, hidden=(8, 8)), solver=RungeKutta("dopri5", rtol=1e-8, atol=1e-8)).double()
    x = 2 + torch.rand(5, 2).double()
    ratio = volume_ratio(lambda x: cnf.encode(x).value, x, Torus(2))
    assert torch.allclose(ratio.log(), cnf.encode(x).log_det, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sphere(1), r"a sphere needs vectors of length n >= 2 \(n = 1 leaves no dimension\), got n=1"),
        (lambda: Simplex(1), "a simplex needs vectors of length n >= 2"),
        (lambda: Simplex(2.5), "n must be a whole number .*, got 2.5"),
        (lambda: Torus(0), "d must be .* from 1 to .*, got 0"),
        (lambda: Sphere(2).check(torch.tensor([[1.0, 0.0], [0.6, 0.9]])), "1 of 2 points are not on the unit sphere: "),
        (lambda: Sphere(2).check(torch.tensor([[1.0, 0.0], [0.6, 0.9]])), r"0.0817 off, first in rows \[1\]: divide"),
        (lambda: Sphere(2).check(torch.tensor([[math.nan, 0.0]])), "the farthest is nan off"),
        (lambda: Simplex(2).check(torch.tensor([[0.5, 0.6]])), "not on the simplex: the farthest is 0.1 off"),
        (lambda: Simplex(2).check(torch.tensor([[1.2, -0.2]])), "not on the simplex: the farthest is 0.2 off"),
        (lambda: Torus(1).check(torch.tensor([[-0.5], [7.0]])), "the farthest is 0.717 off.*modulo"),
        (lambda: Sphere(3).check(torch.ones(4, 2)), r"must have shape \(…, 3\), got \(4, 2\)"),
        (lambda: volume_ratio(lambda x: x, torch.eye(3)[0], Sphere(3)), r"points must be \(N, 3\)"),
        (lambda: volume_ratio(lambda x: 2 * x, torch.eye(3), Sphere(3)), "3 of 3 points are not on the unit sphere"),
    ],
)
def test_what_is_off_the_manifold_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_ratio_at_one_point_many_times_is_that_at_the_point():
    flow, x = NormalizedTranslation(3).double(), Sphere(3).sample(1, dtype=torch.float64)
    ratio = volume_ratio(lambda x: flow.encode(x).value, x.expand(5, 3), Sphere(3))
    assert torch.allclose(ratio.log(), flow.encode(x).log_det, rtol=0, atol=1e-12)
