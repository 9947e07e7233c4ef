"""Flows on the sphere: the formulas, their extremes, what is refused."""

from __future__ import annotations

import pytest
import torch

from cnf import Compose, Flow
from cnf.distributions import AngularCentralGaussian, SphereUniform, VonMisesFisher
from cnf.manifolds import NormalizedAffine, NormalizedLinear, NormalizedTranslation, Sphere, volume_ratio

MATRIX = torch.tensor([[1.2, 0.3, 0.0], [-0.4, 0.9, 0.2], [0.1, 0.5, -0.8]]).double()
SHIFT = torch.tensor([0.3, -0.2, 0.4]).double()


def test_the_affine_flow_is_the_normalised_affine_map_and_has_its_closed_form():
    flow, x = NormalizedAffine(3, matrix=MATRIX, shift=SHIFT), Sphere(3).sample(20, dtype=torch.float64)
    moved = x @ MATRIX.mT + SHIFT
    length = moved.norm(dim=1)
    y, log_det, _ = flow.encode(x)
    assert torch.allclose(flow.matrix, MATRIX)
    assert torch.allclose(flow.shift, SHIFT)
    assert torch.allclose(y, moved / length.unsqueeze(1))
    ratio = torch.linalg.det(MATRIX).abs() * (1 + x @ torch.linalg.solve(MATRIX, SHIFT)) / length**3
    assert torch.allclose(log_det, ratio.log(), rtol=0, atol=1e-12)
    w = torch.linalg.inv(MATRIX @ MATRIX.mT)
    ywy, ywc = ((y @ w) * y).sum(1), y @ w @ SHIFT
    scale = (ywc + (ywc.square() + ywy * (1 - SHIFT @ w @ SHIFT)).sqrt()) / ywy
    inverse = (scale.unsqueeze(1) * y - SHIFT) @ torch.linalg.inv(MATRIX).mT
    assert torch.allclose(flow.decode(y).value, inverse, rtol=0, atol=1e-12)


def test_the_translation_is_the_normalised_translation():
    flow, x = NormalizedTranslation(3, shift=SHIFT), Sphere(3).sample(20, dtype=torch.float64)
    moved = x + SHIFT
    y, log_det, _ = flow.encode(x)
    assert torch.allclose(flow.shift, SHIFT)
    assert torch.allclose(y, moved / moved.norm(dim=1, keepdim=True))
    assert torch.allclose(log_det, (1 + x @ SHIFT).log() - 3 * moved.norm(dim=1).log(), rtol=0, atol=1e-12)


def test_a_linear_flow_of_the_uniform_density_is_an_angular_central_gaussian():
    flow = Flow(NormalizedLinear(3, matrix=MATRIX), SphereUniform(3).double())
    inverse = torch.linalg.inv(MATRIX)
    x = Sphere(3).sample(20, dtype=torch.float64)
    expected = AngularCentralGaussian(inverse @ inverse.mT).log_prob(x)
    assert torch.allclose(flow.log_prob(x), expected, rtol=0, atol=1e-12)


def test_a_multiple_of_the_matrix_is_the_same_map():
    x = Sphere(3).sample(20, dtype=torch.float64)
    one, three = (NormalizedLinear(3, matrix=factor * MATRIX).encode(x) for factor in (1, 3))
    assert torch.allclose(one.value, three.value)
    assert torch.allclose(one.log_det, three.log_det)


@pytest.mark.parametrize("n", range(2, 9))
@torch.no_grad()
def test_double_precision_comes_as_close_to_length_one_as_a_millionth(n):
    direction = Sphere(n).sample(1, dtype=torch.float64)[0]
    shift = (1 - 1e-6) * direction
    flow, x = NormalizedTranslation(n, shift=shift), Sphere(n).sample(100, dtype=torch.float64)
    assert torch.allclose(flow.shift, shift, rtol=0, atol=1e-14)
    y, log_det, _ = flow.encode(x)
    moved = x + shift
    assert torch.allclose(log_det, (1 + x @ shift).log() - n * moved.norm(dim=1).log(), rtol=0, atol=1e-9)
    assert torch.allclose(flow.decode(y).value, x, rtol=0, atol=1e-10)
    twin = NormalizedTranslation(n).double()
    twin.load_state_dict(flow.state_dict())
    assert torch.equal(twin.encode(x).value, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("raw", [0.0, 1e-6, 1e3, 1e6])
def test_translations_of_any_parameter_stay_on_the_sphere(raw, dtype):
    flow = NormalizedTranslation(3).to(dtype)
    with torch.no_grad():
        flow.raw.copy_(torch.tensor([raw, 0.0, 0.0]))
    assert flow.shift.norm() < 1
    poles = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=dtype)
    x = torch.cat([poles, Sphere(3).sample(200, dtype=dtype)])
    for method in (flow.encode, flow.decode):
        flow.zero_grad()
        value, log_det, _ = method(x)
        Sphere(3).check(value)
        assert log_det.isfinite().all()
        (log_det.sum() + value[:, 0].sum()).backward()
        assert flow.raw.grad.isfinite().all()
    if dtype is torch.float64:
        ratio = volume_ratio(lambda x: flow.encode(x).value, x, Sphere(3))
        assert torch.allclose(ratio.log(), flow.encode(x).log_det, rtol=0, atol=1e-5)


def test_gradients_at_a_translation_by_zero_are_those_of_a_small_one():
    x = Sphere(3).sample(20, dtype=torch.float64)
    gradients = []
    for length in (0.0, 1e-7):
        flow = NormalizedTranslation(3, shift=torch.full((3,), length).double())
        z, log_det, _ = flow.decode(x)
        (log_det.sum() + z.pow(3).sum()).backward()
        gradients.append(flow.raw.grad)
    assert torch.allclose(*gradients, rtol=1e-5)


def test_samples_follow_the_density():
    flow = Flow(Compose([NormalizedTranslation(3, shift=SHIFT), NormalizedLinear(3, matrix=MATRIX)]), SphereUniform(3))
    flow = flow.double()
    grid = Sphere(3).sample(400_000, dtype=torch.float64)
    weights = flow.log_prob(grid).exp() * Sphere(3).volume
    samples = flow.sample(100_000)
    for statistic in (lambda x: x, lambda x: x.square(), lambda x: (x > 0.5).double()):
        expected = (weights.unsqueeze(1) * statistic(grid)).mean(0)
        error = (statistic(samples).mean(0) - expected).abs()
        assert (error < 0.01).all()


def fitted_loss(transform, x: torch.Tensor) -> float:
    flow = Flow(transform, SphereUniform(3))
    optimizer = torch.optim.Adam(flow.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -flow.log_prob(x).mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_a_chain_learns_a_density_by_likelihood():
    target = VonMisesFisher(torch.tensor([0.0, 0.6, 0.8]), 8.0)
    x = target.sample(1000).detach()
    losses = [fitted_loss(Compose([NormalizedTranslation(3) for _ in range(members)]), x) for members in (1, 4)]
    assert losses[1] < losses[0] - 0.1 < 1.5  # 2.53 for the uniform density
    assert losses[1] < -target.log_prob(x).mean() + 0.25


def test_members_of_a_chain_start_different():
    first, second = NormalizedAffine(3), NormalizedAffine(3)
    assert not torch.allclose(first.matrix, second.matrix)
    assert not torch.allclose(first.shift, second.shift)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NormalizedTranslation(1), "a sphere needs vectors of length n >= 2"),
        (lambda: NormalizedLinear(1), "a sphere needs vectors of length n >= 2"),
        (lambda: NormalizedAffine(1), "a sphere needs vectors of length n >= 2"),
        (lambda: NormalizedTranslation(2, shift=torch.tensor([0.6, 0.8])), "shorter than 1.*length 1"),
        (lambda: NormalizedTranslation(2, shift=torch.tensor([0.999999, 0.0])), "up to 0.99999 in torch.float32"),
        (
            lambda: NormalizedTranslation(3).encode(torch.eye(3).expand(2, 3, 3)),
            r"expected vectors \(N, 3\), got \(2, 3, 3\)",
        ),
        (lambda: NormalizedTranslation(2, shift=torch.zeros(3)), r"shift must be a vector \(2,\).*got shape \(3,\)"),
        (lambda: NormalizedLinear(2, matrix=torch.ones(2, 2)), "the matrix is singular, its singular values go from 2"),
        (lambda: NormalizedLinear(2, matrix=torch.ones(2, 3)), r"matrix must be \(2, 2\) and finite"),
        (lambda: NormalizedAffine(2, matrix=torch.ones(2, 2)), "the matrix is singular"),
        (
            lambda: NormalizedAffine(2, matrix=2 * torch.eye(2), shift=torch.tensor([3.0, 0.0])),
            "M⁻¹c must be below 1 .* it is 1.5",
        ),
        (lambda: NormalizedAffine(2, shift=torch.zeros(3)), r"shift must be a vector \(2,\)"),
        (lambda: NormalizedTranslation(2).encode(torch.tensor([[1.0, 1.0]])), "the farthest is 0.414 off"),
        (lambda: NormalizedLinear(2).decode(torch.tensor([[1.0, 1.0]])), "the farthest is 0.414 off"),
        (lambda: NormalizedAffine(2).encode(torch.tensor([[1.0, 1.0]])), "the farthest is 0.414 off"),
        (
            lambda: Flow(NormalizedAffine(3), SphereUniform(3)).log_prob(torch.zeros(2, 3)),
            "2 of 2 points are not on the unit sphere: the farthest is 1 off",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
