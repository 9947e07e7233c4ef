"""Manifolds that a user writes: what `Space` asks for is enough."""

from __future__ import annotations

import pytest
import torch
from instances import randomized
from torch import Tensor, nn
from torch.distributions import constraints

import cnf
from cnf import CNF, Hutchinson, KineticEnergy, MLPField, RungeKutta
from cnf.continuous import Euclidean, Space, TangentField
from cnf.manifolds import Simplex, Sphere

FINE = RungeKutta(rtol=1e-9, atol=1e-9)
N = 20


class Cylinder(Space):
    """`x_0² + x_1² = 1` in ℝ³."""

    domain = constraints.real_vector

    def check(self, x: Tensor) -> None:
        if ((x[..., :2].norm(dim=-1) - 1).abs() > 1e-6).any():
            raise ValueError("points must lie on the cylinder")

    def project(self, x: Tensor) -> Tensor:
        return torch.cat([nn.functional.normalize(x[..., :2], dim=-1), x[..., 2:]], -1)

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        normal = x * torch.tensor([1.0, 1.0, 0.0]).to(x)
        return v - (v * normal).sum(-1, keepdim=True) * normal

    def tangent_field(self, field: nn.Module) -> TangentField:
        return TangentField(self, field)


class Unrolled(nn.Module):
    """The same motion in the angle and the height, which are flat coordinates."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        velocity = self.field(t, rolled(x), context)
        around = x[:, 0].cos() * velocity[:, 1] - x[:, 0].sin() * velocity[:, 0]
        return torch.stack([around, velocity[:, 2]], 1)


def rolled(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0].cos(), x[:, 0].sin(), x[:, 1]], 1)


@pytest.mark.parametrize("context_dim", [0, 2])
def test_a_flow_on_a_cylinder_is_that_of_its_unrolled_coordinates(context_dim):
    field = randomized(MLPField(3, hidden=(16, 16), context_dim=context_dim), 1.3).double()
    x, context = torch.randn(N, 2).double(), torch.randn(N, 2).double() if context_dim else None
    ours = CNF(field, cnf.Exact(), {"kinetic": KineticEnergy()}, FINE, manifold=Cylinder())
    flat = CNF(Unrolled(field), cnf.Exact(), {"kinetic": KineticEnergy()}, FINE)
    for theirs, here in ((flat.decode, ours.decode), (flat.encode, ours.encode)):
        expected, found = theirs(x, context), here(rolled(x), context)
        assert torch.allclose(found.value, rolled(expected.value), atol=1e-7)
        assert torch.allclose(found.log_det, expected.log_det, atol=1e-7)
        assert torch.allclose(found.costs["kinetic"], expected.costs["kinetic"], rtol=1e-6)
        ours.manifold.check(found.value)


def test_points_off_a_manifold_of_ones_own_are_refused():
    flow = CNF(MLPField(3), manifold=Cylinder())
    for way in (flow.encode, flow.decode, flow.push):
        with pytest.raises(ValueError, match="points must lie on the cylinder"):
            way(torch.ones(2, 3))
    with pytest.raises(ValueError, match="flow matching here needs geodesics"):
        flow.continuous_part(rolled(torch.randn(4, 2)), rolled(torch.randn(4, 2))).velocity(
            torch.tensor(0.5), torch.ones(4, 3)
        )


class AnySphere(Sphere):
    """The sphere with the tangent field that any manifold has."""

    def tangent_field(self, field: nn.Module) -> TangentField:
        return TangentField(self, field)


@pytest.mark.parametrize("n", [3, 6])
def test_the_tangent_field_of_any_manifold_gives_the_densities_of_the_field_of_the_sphere(n):
    field = randomized(MLPField(n, hidden=(16, 16)), 1.2).double()
    x = Sphere(n).sample(N, dtype=torch.float64)
    ours, theirs = (CNF(field, solver=FINE, manifold=kind(n)).encode(x) for kind in (AnySphere, Sphere))
    assert theirs.log_det.abs().max() > 0.1
    assert torch.allclose(ours.value, theirs.value, atol=1e-7)
    assert torch.allclose(ours.log_det, theirs.log_det, atol=1e-7)


@torch.no_grad()
def test_estimates_on_any_manifold_are_unbiased():
    field, solver = randomized(MLPField(3, hidden=(16, 16))).double(), RungeKutta("rk4", steps=6)
    x = Sphere(3).sample(1, dtype=torch.float64).expand(4000, 3).contiguous()
    exact = CNF(field, solver=solver, manifold=AnySphere(3)).encode(x[:1]).log_det
    found = CNF(field, Hutchinson(), solver=solver, manifold=AnySphere(3)).encode(x).log_det
    assert (found.mean() - exact).abs() < 4 * found.std() / 4000**0.5


def test_without_a_manifold_all_points_will_do():
    flow = CNF(MLPField(2))
    assert flow.manifold == Euclidean()
    assert flow.domain is constraints.real
    x = torch.randn(3, 2)
    assert flow.manifold.project(x) is flow.manifold.to_tangent(x, x) is x


def test_a_simplex_has_no_tangent_fields():
    with pytest.raises(TypeError, match=r"without boundary, such as Sphere or Torus; got Simplex\(n=3\)"):
        CNF(MLPField(3), manifold=Simplex(3))
