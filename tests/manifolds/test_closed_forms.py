"""The contract of every closed form: its volume is that of the map, its two directions undo each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cnf import Compose, Flow, Inverse, Transform
from cnf.distributions import Dirichlet, LogisticNormal, SphereUniform, VonMisesFisher
from cnf.manifolds import (
    Calibration,
    GeneralizedCalibration,
    Manifold,
    NormalizedAffine,
    NormalizedLinear,
    NormalizedTranslation,
    Simplex,
    Sphere,
    volume_ratio,
)

CONTEXT = 2


def shorter(n: int) -> Tensor:
    """A vector of length 0.8."""
    vector = torch.randn(n)
    return 0.8 * vector / vector.norm()


def regular(n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n)).Q * (0.5 + torch.rand(n))


def equal_sums(n: int) -> Tensor:
    """An invertible matrix with A1 = 1.7 · 1."""
    matrix = torch.eye(n) + 0.5 * regular(n)
    return matrix - matrix.mean(1, keepdim=True) + 1.7 / n


def positive(n: int) -> Tensor:
    centre, factor = torch.eye(n) - 1 / n, regular(n)
    return centre @ (torch.eye(n) + 0.5 * factor @ factor.mT) @ centre + 1 / n


def affine(n: int) -> NormalizedAffine:
    matrix = regular(n)
    return NormalizedAffine(n, matrix=matrix, shift=matrix @ shorter(n))


def conditional(transform: Transform) -> Transform:
    with torch.no_grad():
        for name, parameter in transform.named_parameters():
            if name.endswith("slope"):
                parameter.normal_(std=0.5)
    return transform


Case = tuple[type[Manifold], Callable[[int], Transform]]
CASES: dict[str, Case] = {
    "translation": (Sphere, lambda n: NormalizedTranslation(n, shift=shorter(n))),
    "translation-start": (Sphere, NormalizedTranslation),
    "linear": (Sphere, lambda n: NormalizedLinear(n, matrix=regular(n))),
    "affine": (Sphere, affine),
    "affine-start": (Sphere, NormalizedAffine),
    "sphere-chain": (Sphere, lambda n: Compose([affine(n), Inverse(NormalizedTranslation(n)), affine(n)])),
    "calibration": (Simplex, lambda n: Calibration(n, temperature=0.3, shift=torch.randn(n))),
    "calibration-reversed": (Simplex, lambda n: Calibration(n, temperature=-1.2, shift=torch.randn(n))),
    "temperature": (Simplex, lambda n: Calibration(n, temperature=0.7, bias=False)),
    "generalized": (Simplex, lambda n: GeneralizedCalibration(n, matrix=equal_sums(n), shift=torch.randn(n))),
    "generalized-positive": (Simplex, lambda n: GeneralizedCalibration(n, positive=True, matrix=positive(n))),
    "simplex-chain": (
        Simplex,
        lambda n: Compose([Calibration(n, temperature=1.2), Inverse(GeneralizedCalibration(n))]),
    ),
}
CONDITIONAL: dict[str, Case] = {
    "translation|context": (Sphere, lambda n: conditional(NormalizedTranslation(n, context_dim=CONTEXT))),
    "affine|context": (Sphere, lambda n: conditional(NormalizedAffine(n, context_dim=CONTEXT))),
    "calibration|context": (Simplex, lambda n: conditional(Calibration(n, context_dim=CONTEXT))),
}
every = pytest.mark.parametrize(
    ("manifold", "transform", "context"),
    [
        pytest.param(manifold, make, context, id=name)
        for cases, context in ((CASES, False), (CONDITIONAL, True))
        for name, (manifold, make) in cases.items()
    ],
)
sizes = pytest.mark.parametrize("n", range(2, 9))


def made(manifold, make, context: bool, n: int, rows: int = 20):
    """The manifold, the transform in float64, points inside and their context."""
    place, transform = manifold(n), make(n).double()
    x = place.sample(rows, dtype=torch.float64)
    return place, transform, x, torch.randn(rows, CONTEXT).double() if context else None


@every
@sizes
def test_the_closed_form_is_the_volume_ratio_in_both_directions(manifold, transform, context, n):
    place, transform, x, context = made(manifold, transform, context, n)
    for method in (transform.encode, transform.decode):
        value, log_det, _ = method(x, context)
        place.check(value)
        ratio = volume_ratio(lambda points, method=method: method(points, context).value, x, place)
        assert torch.allclose(ratio.log(), log_det, rtol=0, atol=1e-10)


@every
@sizes
@torch.no_grad()
def test_the_two_directions_undo_each_other(manifold, transform, context, n):
    _, transform, x, context = made(manifold, transform, context, n)
    for there, back in ((transform.encode, transform.decode), (transform.decode, transform.encode)):
        moved, forth, _ = there(x, context)
        again, log_det, _ = back(moved, context)
        assert torch.allclose(again, x, rtol=0, atol=1e-10)
        assert torch.allclose(log_det, -forth, rtol=0, atol=1e-10)
    assert torch.equal(transform.push(x, context), transform.decode(x, context).value)


@every
def test_gradients_reach_every_parameter_and_the_context(manifold, transform, context):
    _, transform, x, context = made(manifold, transform, context, 4)
    for method in (transform.encode, transform.decode):
        transform.zero_grad()
        if context is not None:
            context = context.detach().requires_grad_()
        value, log_det, _ = method(x, context)
        (value.square() @ torch.arange(4.0).double() + log_det * torch.arange(len(x))).sum().backward()
        parameters = dict(transform.named_parameters())
        assert [name for name, p in parameters.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
        assert context is None or (context.grad.abs().sum(1) > 0).all()


@every
@torch.no_grad()
def test_single_precision_agrees_with_double(manifold, transform, context):
    _, transform, x, context = made(manifold, transform, context, 5)
    for name in ("encode", "decode"):
        exact = getattr(transform.double(), name)(x, context)
        rough = getattr(transform.float(), name)(x.float(), None if context is None else context.float())
        assert rough.value.dtype == rough.log_det.dtype == torch.float32
        assert torch.allclose(rough.value.double(), exact.value, rtol=1e-4, atol=1e-5)
        assert torch.allclose(rough.log_det.double(), exact.log_det, rtol=1e-4, atol=1e-4)


@every
@torch.no_grad()
def test_rows_are_independent_and_a_batch_may_be_empty(manifold, transform, context):
    _, transform, x, context = made(manifold, transform, context, 3)
    whole, alone = (transform.encode(x[rows], None if context is None else context[rows]) for rows in ([0, 1], [1]))
    assert torch.allclose(whole.value[1], alone.value[0], rtol=0, atol=1e-14)
    assert torch.allclose(whole.log_det[1], alone.log_det[0], rtol=0, atol=1e-14)
    for method in (transform.encode, transform.decode):
        value, log_det, _ = method(x[:0], None if context is None else context[:0])
        assert value.shape == (0, 3)
        assert log_det.shape == (0,)


@every
@torch.no_grad()
def test_a_state_dict_carries_the_whole_map(manifold, transform, context):
    make = transform
    _, transform, x, context = made(manifold, make, context, 3)
    twin = make(3).double()
    twin.load_state_dict(transform.state_dict())
    assert torch.equal(twin.encode(x, context).value, transform.encode(x, context).value)
    assert torch.equal(twin.encode(x, context).log_det, transform.encode(x, context).log_det)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("sphere-chain", SphereUniform(3)),
        ("sphere-chain", VonMisesFisher(torch.tensor([1.0, 2.0, 0.0]), 4.0)),
        ("generalized", Dirichlet([2.0, 1.0, 3.0])),
        ("generalized", LogisticNormal(3)),
    ],
)
def test_a_flow_of_them_has_densities_and_samples(name, base):
    manifold, make = CASES[name]
    flow = Flow(Compose([make(3), make(3)]), base).double()
    x, log_prob = flow.sample_and_log_prob(6)
    manifold(3).check(x)
    assert torch.allclose(flow.log_prob(x), log_prob, atol=1e-10)
    assert flow.log_prob(x.detach().reshape(2, 3, 3)).shape == (2, 3)
    assert flow.support.check(x).all()
    assert not flow.support.check(x + 2).any()
    log_prob.sum().backward()
    assert all(parameter.grad is not None for parameter in flow.transform.parameters())
    assert flow.sample(4).shape == (4, 3)
    assert flow.distribution().sample((2, 5)).shape == (2, 5, 3)


@pytest.mark.parametrize("name", ["sphere-chain", "generalized"])
@torch.no_grad()
def test_the_density_of_a_flow_integrates_to_one(name):
    manifold, make = CASES[name]
    base = SphereUniform(3) if manifold is Sphere else Dirichlet([2.0, 2.0, 2.0])
    flow = Flow(make(3), base).double()
    x = manifold(3).sample(400_000, dtype=torch.float64)
    mass = flow.log_prob(x).exp() * manifold(3).volume
    assert abs(mass.mean() - 1) < 5 * mass.std() / len(x) ** 0.5
    assert mass.std() > 0.3
