"""Continuous flows on sphere and torus: they stay there, and their log-determinants are the Riemannian ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from instances import TIGHT, randomized
from scipy import stats
from torch import Tensor, nn

import cnf
from cnf import Flow, FlowMatching, GeodesicPath, Hutchinson, KineticEnergy, MLPField, RungeKutta, Torchdiffeq, build
from cnf.distributions import SphereUniform, TorusUniform, VonMisesFisher
from cnf.manifolds import (
    FourierField,
    Manifold,
    ManifoldCNF,
    Simplex,
    Sphere,
    SphereField,
    Torus,
    TorusField,
    volume_ratio,
)

CONTEXT = 2
FINE = RungeKutta(rtol=1e-7, atol=1e-7)
CIRCLE = 2 * math.pi


def ambient(manifold: Manifold) -> int:
    return manifold.n if isinstance(manifold, Sphere) else 2 * manifold.dimension


def moving(manifold: Manifold, context_dim: int = 0, field: type[nn.Module] = FourierField, **settings) -> ManifoldCNF:
    """A CNF in float64 that moves its points far, solved to 1e-8."""
    net = field(ambient(manifold), hidden=16, context_dim=context_dim)
    return randomized(ManifoldCNF(manifold, net, **{"solver": FINE, **settings}), 0.9).double()


def flow_on(manifold: Manifold, context_dim: int = 0, **settings) -> Flow:
    base = SphereUniform(manifold.n) if isinstance(manifold, Sphere) else TorusUniform(manifold.dimension)
    return Flow(moving(manifold, context_dim, **settings), base).double()


def points(manifold: Manifold, rows: int, context_dim: int = 0) -> tuple[Tensor, Tensor | None]:
    context = torch.randn(rows, context_dim).double() if context_dim else None
    return manifold.sample(rows, dtype=torch.float64), context


MANIFOLDS = [Sphere(2), Sphere(3), Sphere(5), Sphere(6), Torus(1), Torus(2), Torus(3)]
every = pytest.mark.parametrize("manifold", MANIFOLDS, ids=repr)


@pytest.mark.parametrize(
    ("manifold", "context_dim"),
    [(Sphere(2), 0), (Sphere(3), 0), (Sphere(3), CONTEXT), (Sphere(5), 0), (Torus(1), 0), (Torus(2), CONTEXT)],
    ids=str,
)
def test_the_log_determinant_is_the_volume_ratio_of_the_map(manifold, context_dim):
    flow, (x, context) = moving(manifold, context_dim), points(manifold, 6, context_dim)
    for method, ends in ((flow.encode, (1.0, 0.0)), (flow.decode, (0.0, 1.0))):
        value, log_det, _ = method(x, context)
        ratio = volume_ratio(lambda x, ends=ends: flow.move(x, *ends, context).state.x, x, manifold)
        assert torch.allclose(ratio.log(), log_det, rtol=0, atol=1e-6)
        assert log_det.std() > 0.1
        assert manifold.distance(value, x).max() > 0.2


@every
@torch.no_grad()
def test_the_two_directions_undo_each_other(manifold):
    flow, (x, _) = moving(manifold), points(manifold, 50)
    z, forth, _ = flow.encode(x)
    back, log_det, _ = flow.decode(z)
    assert manifold.distance(back, x).max() < 1e-6
    assert torch.allclose(log_det, -forth, rtol=0, atol=1e-6)
    assert manifold.distance(flow.push(z), back).max() < 1e-6


SOLVERS = [RungeKutta(rtol=1e-2, atol=1e-2), RungeKutta("euler", steps=2), Torchdiffeq(rtol=1e-3, atol=1e-3)]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-14), (torch.float32, 3e-7)])
@pytest.mark.parametrize("manifold", [Sphere(3), Torus(2)], ids=repr)
@torch.no_grad()
def test_points_stay_on_the_manifold_however_rough_the_solver(manifold, dtype, off, solver):
    flow = flow_on(manifold, solver=solver).to(dtype)
    frames = flow.trajectory(flow.base.sample(200), [0.0, 0.3, 1.0])
    for x in (*frames, flow.sample(200), flow(flow.sample(200)).z):
        if isinstance(manifold, Sphere):
            assert (x.norm(dim=1) - 1).abs().max() < off
        else:
            assert ((x >= 0) & (x <= CIRCLE)).all()


@torch.no_grad()
def test_bringing_points_back_after_every_step_changes_nothing_but_their_length():
    flow = moving(Sphere(4), solver=RungeKutta("rk4", steps=3))
    x, _ = points(Sphere(4), 50)
    free, step = cnf.CNF(flow.field, solver=flow.solver), cnf.CNF(flow.field, solver=RungeKutta("rk4", steps=1))
    z, log_det = x, torch.zeros(50).double()
    for i in range(3):
        state = step.solve(z, i / 3, (i + 1) / 3).state
        z, log_det = state.x / state.x.norm(dim=1, keepdim=True), log_det + state.integrals[0]
    decoded = flow.decode(x)
    assert (free.decode(x).value.norm(dim=1) - 1).abs().max() > 1e-5
    assert torch.allclose(decoded.value, z, rtol=0, atol=1e-14)
    assert torch.allclose(decoded.log_det, log_det, rtol=0, atol=1e-13)


def test_a_field_of_ones_own_is_made_tangent_and_periodic():
    class Own(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return torch.stack([t + x[:, 1], x[:, 0] * x[:, 1], x[:, 0].sin(), x[:, 1] - 1], 1)[:, : x.shape[1]]

    x, t = Sphere(3).sample(20, dtype=torch.float64), torch.tensor(0.3).double()
    at = SphereField(3, Own()).linearize(t, x)
    assert (at.velocity * x).sum(1).abs().max() < 1e-15
    rows = torch.stack([0.3 + x[:, 1], x[:, 0] * x[:, 1], x[:, 0].sin()], 1)
    assert torch.allclose(at.velocity, rows - (rows * x).sum(1, keepdim=True) * x)
    angles = Torus(2).sample(20, dtype=torch.float64)
    field = TorusField(2, Own())
    assert torch.allclose(field(t, angles), field(t, angles + CIRCLE), rtol=0, atol=1e-13)
    assert field(t, angles).shape == (20, 2)


@every
def test_the_support_of_a_flow_is_the_manifold(manifold):
    support, (x, _) = flow_on(manifold).support, points(manifold, 4)
    assert support.event_dim == 1
    assert support.check(x).all()
    assert not support.check(x + 7).any()


def test_the_divergence_of_the_gradient_of_a_harmonic_is_its_eigenvalue():
    """`div ∇(aᵀx) = −(n − 1) aᵀx` on the sphere, `Δ cos(x_1 + x_2) = −2 cos(x_1 + x_2)` on the torus."""
    axis = torch.randn(5).double()

    class Constant(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return axis[: x.shape[1]].expand_as(x)

    for n in (2, 3, 5):
        x = Sphere(n).sample(20, dtype=torch.float64)
        trace = SphereField(n, Constant()).linearize(torch.tensor(0.0), 1.7 * x).trace()
        assert torch.allclose(trace, -(n - 1) * x @ axis[:n])

    class Wave(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            (a, b), (c, d) = x[:, :2].mT, x[:, 2:].mT
            slope = -(c * b + a * d).unsqueeze(1)  # of cos(x_1 + x_2)
            return slope * torch.stack([-c, -d, a, b], 1)  # tangents of length 1

    angles = Torus(2).sample(20, dtype=torch.float64)
    trace = TorusField(2, Wave()).linearize(torch.tensor(0.0), angles).trace()
    assert torch.allclose(trace, -2 * angles.sum(1).cos())


def test_estimates_of_the_divergence_have_no_noise_from_across_the_sphere():
    """On the circle the tangent space has one dimension, and one Gaussian probe's variance is `2 div²`."""
    field = randomized(SphereField(2, FourierField(2, hidden=16))).double()
    x = Sphere(2).sample(1, dtype=torch.float64).expand(100_000, 2)
    at, divergence = field.linearize(torch.tensor(0.2).double(), x), Hutchinson(noise="gaussian")
    values, exact = divergence(at, divergence.probe(x)), at.trace()[0]
    assert abs(values.mean() - exact) < 5 * values.std() / 100_000**0.5
    assert abs(values.std() / (2**0.5 * exact.abs()) - 1) < 0.02


def circle(nodes: int) -> tuple[Tensor, Tensor]:
    angle = CIRCLE * (torch.arange(nodes).double() + 0.5) / nodes
    return torch.stack([angle.cos(), angle.sin()], 1), torch.full((nodes,), CIRCLE / nodes).double()


def globe(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes on S² and their weights: Gauss and Legendre's for the height, equidistant ones for the longitude."""
    height, weight = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(nodes))
    ring, arc = circle(nodes)
    radius = (1 - height.square()).sqrt()
    x = torch.cat([radius[:, None, None] * ring, height[:, None, None].expand(-1, nodes, 1)], 2)
    return x.reshape(-1, 3), (weight.unsqueeze(1) * arc).reshape(-1)


def doughnut(nodes: int) -> tuple[Tensor, Tensor]:
    angle = CIRCLE * (torch.arange(nodes).double() + 0.5) / nodes
    return torch.cartesian_prod(angle, angle), torch.full((nodes**2,), (CIRCLE / nodes) ** 2).double()


NODES = {"circle": (Sphere(2), circle(400)), "globe": (Sphere(3), globe(60)), "torus": (Torus(2), doughnut(60))}


@pytest.mark.parametrize(("manifold", "nodes"), NODES.values(), ids=NODES)
@torch.no_grad()
def test_densities_integrate_to_one(manifold, nodes):
    flow, (x, weights) = flow_on(manifold, solver=RungeKutta(rtol=1e-6, atol=1e-6)), nodes
    density = flow.log_prob(x).exp()
    assert abs(density @ weights - 1) < 1e-4
    assert density.max() > 5 * density.min()


@torch.no_grad()
def test_samples_have_the_density():
    """A χ² test over the octants, whose masses come by quadrature."""
    flow = flow_on(Sphere(3), solver=RungeKutta(rtol=1e-6, atol=1e-6))
    x, weights = globe(80)
    masses = torch.bincount(octant(x), flow.log_prob(x).exp() * weights, minlength=8)
    counts = torch.bincount(octant(flow.sample(10_000)), minlength=8)
    assert masses.max() > 1.5 * masses.min()
    assert stats.chisquare(counts.numpy(), (10_000 * masses / masses.sum()).numpy()).pvalue > 0.01


def octant(x: Tensor) -> Tensor:
    return (x > 0).long() @ torch.tensor([1, 2, 4])


@every
def test_samples_come_with_the_log_density_they_have_and_gradients_reach_everything(manifold):
    flow = flow_on(manifold, CONTEXT, regularizers={"kinetic": KineticEnergy()}, solver=RungeKutta())
    context = torch.randn(20, CONTEXT).double().requires_grad_()
    x, log_prob = flow.sample_and_log_prob(20, context)
    assert torch.allclose(flow.log_prob(x, context), log_prob, atol=1e-3)
    (x.square() @ torch.arange(1.0, x.shape[1] + 1).double() + log_prob).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in flow.parameters())
    assert (context.grad.abs().sum(1) > 0).all()
    assert not torch.allclose(flow.log_prob(x, context + 1), log_prob, atol=1e-2)


@torch.no_grad()
def test_errors_are_those_of_estimate_and_solver():
    flow = flow_on(Sphere(3), divergence=Hutchinson(), solver=RungeKutta(rtol=1e-3, atol=1e-3))
    x = Sphere(3).sample(40, dtype=torch.float64)
    exact = cnf.reconfigure(flow, divergence=cnf.Exact(), solver=TIGHT).log_prob(x)
    value, standard_error, solver_error = flow.log_prob_with_error(x, probes=30)
    scores = (value - exact) / standard_error
    assert 0.5 < scores.std() < 2
    assert (solver_error < 1e-2).all()


@pytest.mark.parametrize("manifold", [Sphere(2), Sphere(3), Torus(2), Simplex(3)], ids=repr)
def test_geodesic_paths_end_at_the_data_and_their_velocity_is_their_derivative(manifold):
    base, data = (manifold.sample(50, dtype=torch.float64) for _ in range(2))
    path = GeodesicPath(manifold)
    for t, end in ((0.0, base), (1.0, data)):
        assert manifold.distance(path(torch.full((50, 1), t).double(), base, data, base)[0], end).max() < 1e-7
    t = torch.rand(50, 1).double()
    point, velocity = path(t, base, data, base)
    moved = torch.func.jvp(lambda t: path(t, base, data, base)[0], (t,), (torch.ones_like(t),))[1]
    assert torch.allclose(velocity, moved, rtol=0, atol=1e-10)
    speed = manifold.distance(base, data)
    assert torch.allclose(velocity.norm(dim=1), speed)
    assert torch.allclose(manifold.distance(base, point), t[:, 0] * speed, rtol=0, atol=1e-7)
    assert torch.allclose(path(t, base, base, base)[1], torch.zeros_like(base), rtol=0, atol=1e-12)


def test_optimal_pairs_are_nearest_on_the_manifold():
    base, data = torch.tensor([[0.1], [3.0]]), torch.tensor([[2.9], [6.2]])
    assert cnf.OptimalTransport()(base, data, None).tolist() == [0, 1]
    assert cnf.OptimalTransport(manifold=Torus(1))(base, data, None).tolist() == [1, 0]


def target(manifold: Manifold) -> Tensor:
    if isinstance(manifold, Sphere):
        return VonMisesFisher(torch.tensor([1.0, -1.0, 0.5]), 10.0).sample(2000).detach()
    angles = torch.distributions.VonMises(torch.tensor([0.1, 3.0]), 5.0)
    return angles.sample((2000,)).remainder(CIRCLE)


@pytest.mark.parametrize(("name", "manifold"), [("sphere_cnf", Sphere(3)), ("torus_cnf", Torus(2))])
def test_models_learn_a_peak_by_geodesics_and_then_by_likelihood(name, manifold):
    flow, x = build(name, manifold.ambient_dimension, hidden=32), target(manifold)
    assert torch.allclose(flow.log_prob(x), torch.tensor(-math.log(manifold.volume)))
    config = cnf.FitConfig(steps=80, batch_size=128, learning_rate=1e-2, warmup=10, progress=False)
    cnf.fit(flow, x, config=config)
    peaked = 1.38 if isinstance(manifold, Sphere) else 1.33  # nats above the uniform density
    assert flow.log_prob(target(manifold)).mean() + math.log(manifold.volume) > peaked - 0.15


@pytest.mark.parametrize(("name", "shape"), [("sphere_cnf", 4), ("torus_cnf", (2, 2))])
def test_a_saved_flow_is_the_same(name, shape, tmp_path):
    flow = randomized(build(name, shape, CONTEXT, hidden=8, solver=RungeKutta("tsit5")), 0.5).double()
    x, context = flow.base.sample(5), torch.randn(5, CONTEXT).double()
    twin = cnf.load(cnf.save(flow, tmp_path))
    assert torch.equal(twin.log_prob(x, context), flow.log_prob(x, context))


def on(name: str, dim: int) -> Flow:
    return randomized(build(name, dim, hidden=8), 0.5)


BAD = {
    "off the sphere": (
        lambda: on("sphere_cnf", 3).log_prob(torch.tensor([[1.0, 0, 0], [1, 1, 0]])),
        "farthest is 0.41",
    ),
    "off the torus": (lambda: on("torus_cnf", 2).log_prob(torch.tensor([[1.0, 7.0]])), "farthest is 0.717 off"),
    "no dimension left": (lambda: build("sphere_cnf", 1), "n = 1 leaves no dimension"),
    "no vectors": (lambda: build("sphere_cnf", (2, 3)), r"vectors \(n,\), got event_shape \(2, 3\)"),
    "straight paths": (
        lambda: FlowMatching()(on("sphere_cnf", 3), Sphere(3).sample(9)),
        r"the path leaves the manifold: .*GeodesicPath\(Sphere\(n=3\)\)",
    ),
    "data off it": (lambda: FlowMatching(GeodesicPath(Sphere(3)))(on("sphere_cnf", 3), torch.ones(9, 3)), "0.732 off"),
    "no context": (
        lambda: ManifoldCNF(Sphere(3), FourierField(3, hidden=8, context_dim=1)).encode(torch.eye(3)),
        "conditional",
    ),
    "no layers": (lambda: FourierField(3, depth=0), "depth must be .* from 1"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_manifold_with_a_boundary_is_refused():
    with pytest.raises(TypeError, match="without boundary, such as Sphere or Torus; got Simplex"):
        ManifoldCNF(Simplex(3), MLPField(3))
