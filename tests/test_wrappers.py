"""The contract of every transform around another one: it passes on all that a `Transform` promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from instances import TIGHT, randomized
from torch import Tensor
from torch.distributions import constraints

from cnf import CNF, Augment, Compose, Flow, Hutchinson, Inverse, MLPField, StandardNormal, Transform
from cnf.discrete import (
    ActNorm,
    Affine,
    Destructor,
    FactorOut,
    Gaussianized,
    Logit,
    NormalCDF,
    Softplus,
    Squeeze,
    Standardize,
    StandardizeContext,
)
from cnf.manifolds import ManifoldCNF, NormalizedTranslation, Sphere
from cnf.transforms import Flatten, Wrapper

D, N, C = 4, 5, 2


def moved(outer: StandardizeContext) -> StandardizeContext:
    """Away from the identity on contexts."""
    outer.standardize.shift.fill_(0.5)
    return outer


def flat(shape: tuple[int, ...]) -> Callable[[Transform], Transform]:
    return lambda inner: Flatten(inner, shape)


# name: (wrapper of a transform of vectors (D,), the event's shape outside, outer points to inner ones)
WRAPPERS: dict[str, tuple[Callable[[Transform], Transform], tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "wrapper": (Wrapper, (D,), lambda x: x),
    "flatten": (flat((2, 2)), (2, 2), lambda x: x.flatten(1)),
    "context": (lambda inner: moved(StandardizeContext(inner, C)), (D,), lambda x: x),
    "split": (lambda inner: FactorOut(inner, kept=3), (3 + D,), lambda x: x[:, 3:]),
    "nested": (lambda inner: Flatten(FactorOut(inner, kept=2), (3, 2)), (3, 2), lambda x: x.flatten(1)[:, 2:]),
    "compose": (lambda inner: Compose([inner]), (D,), lambda x: x),
}
INNER: dict[str, Callable[[], Transform]] = {
    "cnf": lambda: CNF(randomized(MLPField(D, hidden=6)), solver=TIGHT),
    "estimated": lambda: CNF(randomized(MLPField(D, hidden=6)), Hutchinson(), solver=TIGHT),
    "conditional": lambda: CNF(randomized(MLPField(D, hidden=6, context_dim=C)), solver=TIGHT),
    "actnorm": lambda: ActNorm(D),
    "standardize": lambda: Standardize(D),
    "positive": lambda: Softplus(),
    "unit": lambda: NormalCDF(),
    "sphere": lambda: NormalizedTranslation(D),
}
each_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)


def made(wrapper: str, inner: str) -> tuple[Transform, Transform, Tensor, Tensor, Tensor]:
    """The outer transform, the inner one, two batches of outer points and a context."""
    wrap, shape, _ = WRAPPERS[wrapper]
    transform = INNER[inner]().double()
    x, z = torch.randn(2, N, *shape, dtype=torch.float64)
    return wrap(transform).double(), transform, x, z, torch.randn(N, C, dtype=torch.float64)


def inside(wrapper: str, x: Tensor) -> Tensor:
    return WRAPPERS[wrapper][2](x)


def inner_context(outer: Transform, context: Tensor) -> Tensor:
    return outer.standardize.read(context) if isinstance(outer, StandardizeContext) else context


@each_wrapper
@pytest.mark.parametrize("inner", INNER)
def test_what_a_transform_says_of_itself_is_passed_on(wrapper, inner):
    outer, transform, x, _, _ = made(wrapper, inner)
    assert (outer.continuous, outer.exact) == (transform.continuous, transform.exact)
    assert (outer.domain, outer.codomain) == (transform.domain, transform.codomain)
    starts = isinstance(outer, StandardizeContext)
    assert outer.data_dependent is (transform.data_dependent or starts)
    assert outer.context_dim == (C if starts else transform.context_dim)
    assert outer.data_shape(x.shape[1:]) == outer.base_shape(x.shape[1:]) == x.shape[1:]


@each_wrapper
@pytest.mark.parametrize("inner", ["cnf", "conditional"])
@torch.no_grad()
def test_maps_paths_and_the_continuous_part_are_those_of_the_inner_transform(wrapper, inner):
    outer, transform, x, z, context = made(wrapper, inner)
    given = context if outer.context_dim else None
    standard = inner_context(outer, context) if transform.context_dim else None
    times = torch.tensor([0.0, 0.3, 1.0]).double()
    for points, method in ((x, "encode"), (z, "decode")):
        value, log_det, _ = getattr(outer, method)(points, given)
        expected = getattr(transform, method)(inside(wrapper, points), standard)
        assert torch.equal(inside(wrapper, value), expected.value)
        assert torch.equal(log_det, expected.log_det)
        assert value.shape == points.shape
    assert torch.equal(inside(wrapper, outer.push(z, given)), transform.push(inside(wrapper, z), standard))
    states = outer.path(z, times, given)
    assert states.shape == (3, *z.shape)
    expected = transform.path(inside(wrapper, z), times, standard)
    assert torch.equal(torch.stack([inside(wrapper, state) for state in states]), expected)
    part = outer.continuous_part(z, x, given)
    assert torch.equal(part.base, inside(wrapper, z))
    assert torch.equal(part.data, inside(wrapper, x))
    assert (part.context is None) == (standard is None)
    assert standard is None or torch.equal(part.context, standard)


@each_wrapper
@torch.no_grad()
def test_the_start_from_data_reaches_the_inner_transform(wrapper):
    outer, transform, x, _, context = made(wrapper, "standardize")
    x = 3 * x + 1
    outer.initialize(x, context)
    assert torch.allclose(transform.shift, inside(wrapper, x).mean(0))


@each_wrapper
@torch.no_grad()
def test_push_need_not_pay_for_the_log_determinant(wrapper):
    """The wrapper asks for the inner `push`, not for the value of `decode`."""

    class Pushed(Affine):
        def decode(self, z, context=None):
            raise AssertionError("decode was called")

        def push(self, z, context=None):
            return 2 * z

    wrap, shape, _ = WRAPPERS[wrapper]
    z, context = torch.ones(N, *shape), torch.zeros(N, C)
    assert torch.equal(inside(wrapper, wrap(Pushed(D)).push(z, context)), torch.full((N, D), 2.0))


def test_a_discrete_transform_in_a_wrapper_has_no_path():
    outer = Flatten(FactorOut(Affine(3), kept=1), (2, 2))
    with pytest.raises(TypeError, match="Affine has no path"):
        outer.path(torch.zeros(1, 2, 2), torch.ones(1))
    with pytest.raises(TypeError, match="Affine is discrete"):
        outer.continuous_part(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))


@torch.no_grad()
def test_dimensions_may_be_added_inside():
    flow = Flow(Flatten(Compose([Augment(2), Affine(6, shift=1.0)]), (2, 2)), StandardNormal(6))
    assert flow.event_shape == (2, 2)
    assert flow.sample(3).shape == (3, 2, 2)
    assert flow(torch.zeros(3, 2, 2)).z.shape == (3, 6)
    flow = Flow(FactorOut(Augment(2), kept=1), StandardNormal(5))
    assert flow.event_shape == (3,)
    assert flow.log_prob(flow.sample(4)).shape == (4,)


@torch.no_grad()
def test_shapes_that_change_are_known_at_both_ends():
    flow = Flow(Squeeze(), StandardNormal((4, 2, 3)))
    assert flow.event_shape == (1, 4, 6)
    assert flow.sample(2).shape == (2, 1, 4, 6)
    assert Flow(Inverse(Squeeze()), StandardNormal((1, 4, 6))).event_shape == (4, 2, 3)
    packed = Compose([Squeeze(), Inverse(Squeeze())])
    both = Compose([Squeeze(), FactorOut(packed, kept=2), Inverse(Squeeze())])
    assert both.data_shape(torch.Size([1, 8, 8])) == both.base_shape(torch.Size([1, 8, 8])) == (1, 8, 8)
    with pytest.raises(ValueError, match="even height and width"):
        Flow(Inverse(Squeeze()), StandardNormal((1, 3, 4)))


# The inverse


@torch.no_grad()
def test_the_inverse_of_a_cnf_has_its_path_and_field_backwards():
    cnf = CNF(randomized(MLPField(D, hidden=6, context_dim=C)), solver=TIGHT).double()
    inverse = Inverse(cnf)
    z, x = torch.randn(2, N, D, dtype=torch.float64)
    context, times = torch.randn(N, C, dtype=torch.float64), torch.tensor([0.0, 0.25, 0.7, 1.0]).double()
    assert inverse.continuous
    path = inverse.path(z, times, context)
    assert torch.allclose(path[0], z, atol=1e-6)
    assert torch.allclose(path[-1], inverse.decode(z, context).value, atol=1e-6)
    start = cnf.encode(z, context).value
    assert torch.allclose(path[1], cnf.path(start, 1 - times[1:2], context)[0], atol=1e-12)
    part, t, step = inverse.continuous_part(z, x, context), torch.tensor(0.25).double(), 1e-4
    assert torch.equal(part.base, z)
    assert torch.equal(part.data, x)
    moved = inverse.path(z, torch.tensor([0.25 - step, 0.25 + step]).double(), context)
    assert torch.allclose(part.velocity(t, path[1], part.context), (moved[1] - moved[0]) / (2 * step), atol=1e-4)


def test_the_inverse_exchanges_domain_and_codomain():
    for transform in (NormalCDF(), Softplus(), Logit(), NormalizedTranslation(3)):
        inverse = Inverse(transform)
        assert (inverse.domain, inverse.codomain) == (transform.codomain, transform.domain)
    assert Inverse(NormalCDF()).domain is constraints.unit_interval
    with pytest.raises(TypeError, match="Augment adds dimensions, so it has no Inverse"):
        Inverse(Augment(1)).data_shape(torch.Size([3]))


# Domains


@pytest.mark.parametrize(
    ("transform", "domain", "codomain"),
    [
        (Affine(2), constraints.real, constraints.real),
        (NormalCDF(), constraints.real, constraints.unit_interval),
        (Softplus(), constraints.positive, constraints.real),
        (Compose([Softplus(), Affine(2), NormalCDF()]), constraints.positive, constraints.unit_interval),
        (Compose([]), constraints.real, constraints.real),
        (Gaussianized(Softplus()), constraints.positive, constraints.unit_interval),
    ],
)
def test_domain_and_codomain(transform, domain, codomain):
    assert (transform.domain, transform.codomain) == (domain, codomain)


def test_on_a_manifold_both_ends_are_the_manifold():
    cnf = ManifoldCNF(Sphere(3), MLPField(3))
    assert all(end.check(torch.eye(3)).all() for end in (cnf.domain, cnf.codomain))
    assert not any(end.check(2 * torch.eye(3)).any() for end in (cnf.domain, cnf.codomain))


def test_a_gaussianized_transform_is_a_wrapper_and_a_destructor():
    gaussianized = Gaussianized(ActNorm(2))
    assert isinstance(gaussianized, Destructor)
    assert gaussianized.data_dependent
    assert not Gaussianized(Affine(2)).data_dependent
    assert "transform.transforms.0.log_scale" in gaussianized.state_dict()
