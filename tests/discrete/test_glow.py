"""Glow: its steps, its multi-scale architecture and its builders."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from instances import randomized
from torch import Tensor

from cnf import Flow, StandardNormal
from cnf.discrete import ActNorm, AffineMap, glow_step, multiscale_glow
from cnf.discrete.coupling import NetOfSizes
from cnf.networks import ConvResNet, ResidualMLP
from cnf.transforms import Compose


def vectors(context_dim: int = 0) -> NetOfSizes:
    return lambda inputs, outputs: ResidualMLP(
        inputs, outputs, hidden=8, blocks=1, context_dim=context_dim, activation="tanh"
    )


def images(context_dim: int = 0) -> NetOfSizes:
    return lambda inputs, outputs: ConvResNet(
        inputs, outputs, hidden=6, blocks=1, context_dim=context_dim, activation="tanh"
    )


def slogdet_of(transform, x: Tensor, context: Tensor | None) -> Tensor:
    size, n = x[0].numel(), len(x)
    full = torch.autograd.functional.jacobian(lambda x: transform.encode(x, context).value, x)
    full = full.reshape(n, size, n, size)
    return torch.linalg.slogdet(torch.stack([full[i, :, i] for i in range(n)])).logabsdet


CASES = {
    "vector": (lambda c: glow_step(5, vectors(c)), (5,)),
    "vector-dense": (lambda c: glow_step(4, vectors(c), lu=False), (4,)),
    "image": (lambda c: glow_step(3, images(c)), (3, 2, 3)),
    "multiscale": (lambda c: multiscale_glow((1, 4, 4), images(c), scales=2, steps=2), (1, 4, 4)),
    "odd-channels": (lambda c: multiscale_glow((3, 2, 2), images(c), scales=1, steps=1), (3, 2, 2)),
}


@pytest.mark.parametrize(("make", "shape"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("context_dim", [0, 2])
def test_it_inverts_and_its_log_determinant_is_that_of_the_jacobian(make, shape, context_dim):
    transform = randomized(make(context_dim), 0.7).double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    context = torch.randn(3, 2, dtype=torch.float64) if context_dim else None
    z, log_det, _ = transform.encode(x, context)
    back, log_det_back, _ = transform.decode(z, context)
    assert transform.context_dim == context_dim
    assert torch.allclose(back, x, rtol=0, atol=1e-8)
    assert torch.allclose(log_det_back, -log_det, rtol=0, atol=1e-8)
    assert torch.allclose(log_det, slogdet_of(transform, x, context), rtol=0, atol=1e-8)


def test_a_step_is_actnorm_convolution_and_coupling():
    step = randomized(glow_step(4, images()), 0.7).double()
    norm, mixing, coupling = step.transforms
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    weight = mixing.multiply(torch.eye(4, dtype=torch.float64)).mT
    h = F.conv2d((x + norm.shift[:, None, None]) * norm.log_scale.exp()[:, None, None], weight[:, :, None, None])
    shift, log_scale = coupling.net(h[:, :2]).unflatten(1, (2, 2)).unbind(2)
    moved = h[:, 2:] * (3 * torch.tanh(log_scale / 3)).exp() + shift
    assert torch.allclose(step.encode(x).value, torch.cat([h[:, :2], moved], 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_initialization_normalises_the_latents(steps):
    x = 3 * torch.randn(100, 1, 8, 8, dtype=torch.float64) + torch.arange(8.0)
    transform = multiscale_glow((1, 8, 8), images(), scales=1, steps=steps).double()
    transform.initialize(x)
    z = transform.encode(x).value  # couplings are the identity yet, and rotations keep the sum of the variances
    assert abs(z.square().mean().item() - 1) < 1e-5
    if steps == 1:
        assert z.mean((0, 2, 3)).abs().max() < 1e-5


def test_initialization_reaches_every_scale():
    x = 3 * torch.randn(100, 1, 8, 8, dtype=torch.float64) + torch.arange(8.0)
    transform = multiscale_glow((1, 8, 8), images(), scales=3, steps=2).double()
    transform.initialize(x)
    norms = [module for module in transform.modules() if isinstance(module, ActNorm)]
    assert len(norms) == 6
    assert all((norm.log_scale != 0).all() for norm in norms)
    assert 0.5 < transform.encode(x).value.var() < 2


def test_latents_that_leave_have_a_prior_given_those_that_go_on():
    transform = randomized(multiscale_glow((1, 4, 4), images(), scales=2, steps=1), 0.5).double()
    scale = transform.transforms[1]
    x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    before, after = Compose(scale.transforms[:-1]).encode(x).value, scale.encode(x).value
    assert torch.equal(before[:, 2:], after[:, 2:])
    assert (before[:, :2] - after[:, :2]).abs().max() > 0.1


def test_the_density_integrates_to_one():
    step = randomized(Compose([glow_step(2, vectors(), elementwise=AffineMap(bound=1.0)) for _ in range(2)]), 0.7)
    flow = Flow(step, StandardNormal(2)).double()
    with torch.no_grad():
        points = flow.sample(20_000)
        low, high = points.amin(0) - 4, points.amax(0) + 4
        axes = [torch.linspace(a, b, 800, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
        density = flow.log_prob(torch.cartesian_prod(*axes)).exp().reshape(800, 800)
    assert abs(torch.trapezoid(torch.trapezoid(density, axes[1]), axes[0]).item() - 1) < 2e-3


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="at least 2 features, got 1"):
        glow_step(1, vectors())
    with pytest.raises(ValueError, match=r"divisible by 4; images of 6 × 4 .* to 4 × 4 or 8 × 4, or take scales=1$"):
        multiscale_glow((1, 6, 4), images(), scales=2, steps=1)
    with pytest.raises(ValueError, match="of 7 × 7 are not: crop or resize them to 6 × 6 or 8 × 8, or use a model"):
        multiscale_glow((1, 7, 7), images(), scales=1, steps=1)
    with pytest.raises(ValueError, match="need images"):
        multiscale_glow((4,), images(), scales=1, steps=1)
