"""Elementwise maps: inverses, slopes, the identity at zero, gradients, and the precision of float32."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.discrete import AffineMap, LogisticMixture, Monotone, RationalQuadratic, Shift, solution, solve_monotone
from cnf.errors import ConvergenceError

MAPS = {
    "shift": Shift(),
    "affine": AffineMap(),
    "affine-tight": AffineMap(bound=0.5),
    "spline": RationalQuadratic(),
    "spline-2": RationalQuadratic(2, bound=1.5),
    "mixture": LogisticMixture(4),
    "mixture-1": LogisticMixture(1),
}
every = pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS.keys())


def draw(elementwise, *shape: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(shape).double(), scale * torch.randn(*shape, elementwise.size).double()


@every
@pytest.mark.parametrize("shape", [(40,), (20, 3), (5, 2, 3, 2)])
def test_decode_undoes_encode(elementwise, shape):
    x, raw = draw(elementwise, *shape)
    z, log_slope = elementwise.encode(x, raw)
    back, inverse = elementwise.decode(z, raw)
    assert z.shape == log_slope.shape == x.shape
    assert torch.allclose(back, x, rtol=0, atol=1e-8)
    assert torch.allclose(inverse, -log_slope, rtol=0, atol=1e-8)
    forth, log_slope = elementwise.encode(elementwise.decode(x, raw)[0], raw)
    assert torch.allclose(forth, x, rtol=0, atol=1e-10)


@every
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_log_slopes_are_those_of_autograd(elementwise, method):
    x, raw = draw(elementwise, 200)
    value, log_slope = getattr(elementwise, method)(x.requires_grad_(), raw)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert torch.allclose(slope.log(), log_slope, rtol=0, atol=1e-8)


@every
def test_raw_zero_is_the_identity(elementwise):
    x = torch.linspace(-8, 8, 101).double()
    for method in (elementwise.encode, elementwise.decode):
        value, log_slope = method(x, torch.zeros(101, elementwise.size).double())
        assert torch.allclose(value, x, rtol=0, atol=1e-12)
        assert torch.allclose(log_slope, torch.zeros_like(x), rtol=0, atol=1e-12)


@every
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_gradients_are_those_of_differences(elementwise, method):
    x, raw = draw(elementwise, 6, scale=0.7)
    function = getattr(elementwise, method)
    assert torch.autograd.gradcheck(function, (x.requires_grad_(), raw.requires_grad_()), atol=1e-5)


@every
def test_every_raw_number_matters_where_it_starts(elementwise):
    x, raw = draw(elementwise, 500, scale=0.0)
    z, log_slope = elementwise.encode(x, raw.requires_grad_())
    ((z - 1).square().sum() - log_slope.sum()).backward()
    silent = elementwise.components if isinstance(elementwise, LogisticMixture) else 0  # weights of equal components
    assert (raw.grad.abs().sum(0) > 1e-3).tolist() == [i >= silent for i in range(elementwise.size)]


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_values_and_gradients_stay_finite(elementwise, dtype, size):
    x = torch.cat([torch.randn(300), torch.tensor([0.0, 5.0, -5.0, 1e3, -1e3, 1e6, -1e6])]).to(dtype).requires_grad_()
    raw = (size * torch.randn(len(x), elementwise.size)).to(dtype).requires_grad_()
    value, log_slope = elementwise.encode(x, raw)
    (value.sum() + log_slope.sum()).backward()
    assert value.dtype == log_slope.dtype == dtype
    assert all(tensor.isfinite().all() for tensor in (value, log_slope, x.grad, raw.grad))
    value, log_slope = elementwise.decode(x, raw)
    assert value.isfinite().all()
    assert log_slope.isfinite().all()


@every
def test_float32_inverts(elementwise):
    x, raw = draw(elementwise, 2000, scale=0.5)
    x, raw = x.float(), raw.float()
    z, _ = elementwise.encode(x, raw)
    back, _ = elementwise.decode(z, raw)
    assert torch.allclose(back, x, rtol=0, atol=1e-4)


@every
def test_every_map_increases(elementwise):
    x = torch.linspace(-7, 7, 2001).double()
    for scale in (1, 10):
        raw = scale * torch.randn(elementwise.size).double().expand(2001, -1)
        assert (elementwise.encode(x, raw)[0].diff() > 0).all()


def test_the_affine_map_is_its_formula():
    x, raw = draw(AffineMap(), 50, scale=4)
    z, log_slope = AffineMap(bound=2.0).encode(x, raw)
    log_scale = 2 * torch.tanh(raw[:, 1] / 2)
    assert torch.allclose(z, x * log_scale.exp() + raw[:, 0])
    assert torch.allclose(log_slope, log_scale)
    assert log_slope.abs().max() > 1.9
    assert log_slope.abs().max() <= 2


def test_the_mixture_is_its_formula():
    elementwise = LogisticMixture(5, bound=4.0)
    x, raw = draw(elementwise, 50)
    logits, means, log_scales = raw.unflatten(1, (3, 5)).unbind(1)
    means, scales = means * torch.linspace(0.5, 1.5, 5).double(), (4 * torch.tanh(log_scales / 4)).exp()
    cdf = (logits.softmax(1) * torch.sigmoid((x[:, None] - means) / scales)).sum(1)
    assert torch.allclose(elementwise.encode(x, raw)[0], torch.logit(cdf), atol=1e-9)


def test_a_mixture_can_part_from_its_start():
    """Equal components must not stay equal: from zero, one map turns two clusters into something like a logistic."""
    elementwise, x = LogisticMixture(2), torch.cat([torch.randn(100) * 0.3 - 2, torch.randn(100) * 0.3 + 2])
    raw = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.Adam([raw], 0.1)

    def loss() -> Tensor:
        z, log_slope = elementwise.encode(x, raw.expand(200, 6))
        return -(F.logsigmoid(z) + F.logsigmoid(-z) + log_slope).mean()

    start = loss().item()
    for _ in range(150):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    entropy = math.log(2) + math.log(0.3 * math.sqrt(2 * math.pi * math.e))
    assert start > 2
    assert loss().item() < entropy + 0.1


@pytest.mark.parametrize(
    "make", [lambda: AffineMap(bound=0.0), lambda: LogisticMixture(0), lambda: LogisticMixture(2, bound=-1.0)]
)
def test_settings_are_checked(make):
    with pytest.raises(ValueError, match="(bound|components) must be"):
        make()


def cube(x: Tensor) -> tuple[Tensor, Tensor]:
    return x**3, 3 * x**2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_roots_are_found_to_the_precision_of_the_dtype(dtype):
    root = torch.tensor([-1e3, -2.0, -1e-2, 1.0, 7.0], dtype=dtype)
    found = solve_monotone(cube, root**3, torch.full_like(root, -2e3), torch.full_like(root, 3e3))
    assert torch.allclose(found, root, rtol=8 * torch.finfo(dtype).eps, atol=0)


def test_a_bracket_without_the_root_is_widened():
    target = torch.tensor([-1e6, 1e9]).double()
    found = solve_monotone(cube, target, torch.zeros(2).double(), torch.ones(2).double())
    assert torch.allclose(found, torch.tensor([-1e2, 1e3]).double())


def test_newton_does_not_leave_the_bracket_on_a_plateau():
    def function(x: Tensor) -> tuple[Tensor, Tensor]:  # almost flat between -9 and 9
        return torch.tanh(x - 10) + torch.tanh(x + 10), 2 - torch.tanh(x - 10) ** 2 - torch.tanh(x + 10) ** 2

    root = torch.tensor([-11.0, -8.0, 8.0, 12.0]).double()
    found = solve_monotone(function, function(root)[0], torch.full_like(root, -50), torch.full_like(root, 40))
    assert torch.allclose(found, root, rtol=0, atol=1e-6)


def test_a_failure_names_its_samples():
    target = torch.tensor([[1.0, 2.0], [3.0, math.nan], [5.0, 6.0]])
    with pytest.raises(ConvergenceError, match=r"Samples: 1 \(1 in all\)") as error:
        solve_monotone(cube, target, torch.zeros(3, 2), torch.full((3, 2), 10.0))
    assert error.value.samples == [1]
    with pytest.raises(ConvergenceError, match="no bracket"):
        solve_monotone(lambda x: (x.tanh(), 1 - x.tanh() ** 2), torch.tensor([2.0]), torch.zeros(1), torch.ones(1))
    with pytest.raises(ConvergenceError, match="after 3 steps"):
        solve_monotone(cube, torch.tensor([2.0]), torch.zeros(1), torch.ones(1) * 90, max_steps=3)


def test_the_gradient_of_a_root_is_that_of_the_implicit_function_theorem():
    scale = torch.tensor(2.0).double().requires_grad_()
    target = torch.tensor([3.0, 11.0]).double().requires_grad_()

    def function(x: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return scale * x**3 - target, 3 * scale * x**2

    cube = Monotone(function, lambda target, scale: (torch.zeros_like(target), torch.ones_like(target)))
    root = solution(cube, target, scale)
    exact = (target / scale) ** (1 / 3)
    assert torch.allclose(root, exact, rtol=1e-14)
    for wanted, got in zip(
        torch.autograd.grad(exact.sum(), (target, scale)), torch.autograd.grad(root.sum(), (target, scale)), strict=True
    ):
        assert torch.allclose(wanted, got)
