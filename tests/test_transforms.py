"""The contract of every transform: what `encode` and `decode` promise, over all of `instances.TRANSFORMS`."""

from __future__ import annotations

import pytest
import torch
from instances import TRANSFORMS, Instance, affine, cases, conditional
from torch import Tensor

from cnf import Compose, Inverse, RungeKutta, Transform, reconfigure
from cnf.continuous.cnf import CNF
from cnf.discrete import Affine, Softplus, Standardize, StandardizeContext
from cnf.transforms import Flatten

N = 2
every = pytest.mark.parametrize(("instance", "context_dim"), cases(TRANSFORMS))


@pytest.fixture
def transform(instance: Instance, context_dim: int) -> Transform:
    return instance.make(context_dim).double()


@pytest.fixture
def context(context_dim: int) -> Tensor | None:
    return torch.randn(N, context_dim, dtype=torch.float64) if context_dim else None


@pytest.fixture
def x(instance: Instance) -> Tensor:
    return instance.data(0.8 * torch.randn(N, *instance.event_shape, dtype=torch.float64))


@pytest.fixture
def z(instance: Instance) -> Tensor:
    return instance.base(0.8 * torch.randn(N, *instance.event_shape, dtype=torch.float64))


def jacobian(function, x: Tensor) -> Tensor:
    """`∂ out_i / ∂ x_j` of all rows i, j: `(N, D, N, D)`."""
    size = x[0].numel()
    return torch.autograd.functional.jacobian(function, x).reshape(N, size, N, size)


@every
@torch.no_grad()
def test_decode_undoes_encode(transform, x, context, instance):
    z, forth, _ = transform.encode(x, context)
    back, log_det, _ = transform.decode(z, context)
    assert torch.allclose(back, x, rtol=0, atol=instance.tolerance)
    assert torch.allclose(log_det, -forth, rtol=0, atol=instance.tolerance)
    assert (z - x).abs().max() > 1e-2


@every
@torch.no_grad()
def test_encode_undoes_decode(transform, z, context, instance):
    x, forth, _ = transform.decode(z, context)
    back, log_det, _ = transform.encode(x, context)
    assert torch.allclose(back, z, rtol=0, atol=instance.tolerance)
    assert torch.allclose(log_det, -forth, rtol=0, atol=instance.tolerance)


@every
def test_log_det_of_encode_is_that_of_the_jacobian_and_rows_are_independent(transform, x, context, instance):
    full = jacobian(lambda x: transform.encode(x, context).value, x)
    log_det = transform.encode(x, context).log_det
    blocks = torch.stack([full[i, :, i] for i in range(N)])
    assert torch.allclose(torch.linalg.slogdet(blocks).logabsdet, log_det, rtol=0, atol=instance.tolerance)
    assert log_det.abs().max() > 2e-3
    assert all((full[i, :, j] == 0).all() for i in range(N) for j in range(N) if i != j)


@every
@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours(transform, x, context, instance):
    whole = transform.encode(x, context)
    alone = transform.encode(x[1:2], None if context is None else context[1:2])
    assert torch.allclose(alone.value[0], whole.value[1], rtol=0, atol=instance.tolerance)
    assert torch.allclose(alone.log_det[0], whole.log_det[1], rtol=0, atol=instance.tolerance)


@every
def test_gradients_reach_every_parameter_the_input_and_the_context(transform, x, context, instance):
    x.requires_grad_()
    if context is not None:
        context.requires_grad_()
    value, log_det, _ = transform.encode(x, context)
    (value.square().sum() + (log_det * torch.arange(1, N + 1)).sum()).backward()
    silent = [name for name, p in transform.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == list(instance.unreached)
    assert (x.grad.flatten(1).abs().sum(1) > 0).all()
    if context is not None:
        assert (context.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize(("instance", "context_dim"), cases(TRANSFORMS, conditional=True))
@torch.no_grad()
def test_the_context_matters(transform, x, context):
    assert not torch.allclose(transform.encode(x, context).value, transform.encode(x, context + 1).value, atol=1e-3)


@every
@torch.no_grad()
def test_calling_changes_nothing_and_draws_no_noise(transform, x, z, context):
    before = {name: tensor.clone() for name, tensor in transform.state_dict().items()}
    attributes = [set(vars(module)) for module in transform.modules()]
    generator = torch.get_rng_state()
    first, second = transform.encode(x, context), transform.encode(x, context)
    transform.decode(z, context), transform.push(z, context)
    after = transform.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert [set(vars(module)) for module in transform.modules()] == attributes
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(first.value, second.value)
    assert torch.equal(first.log_det, second.log_det)


@every
@torch.no_grad()
def test_forward_is_encode_and_push_is_the_value_of_decode(transform, x, z, context, instance):
    forward, encode = transform(x, context), transform.encode(x, context)
    assert torch.equal(forward.value, encode.value)
    assert torch.equal(forward.log_det, encode.log_det)
    pushed, decoded = transform.push(z, context), transform.decode(z, context).value
    assert torch.allclose(pushed, decoded, rtol=0, atol=instance.tolerance)


@every
@torch.no_grad()
def test_results_have_the_dtype_and_shape_of_the_input(transform, x, context, instance):
    if any(isinstance(module, CNF) for module in transform.modules()):
        transform = reconfigure(transform, solver=RungeKutta())  # float32 has no digits for the tight one
    exact = transform.encode(x, context)
    rough = transform.float().encode(x.float(), None if context is None else context.float())
    for mapped, dtype in ((exact, torch.float64), (rough, torch.float32)):
        assert mapped.value.dtype == mapped.log_det.dtype == dtype
        assert mapped.value.shape == (N, *instance.event_shape)
        assert mapped.log_det.shape == (N,)
    assert torch.allclose(rough.value.double(), exact.value, rtol=1e-3, atol=1e-3)
    assert torch.allclose(rough.log_det.double(), exact.log_det, rtol=1e-3, atol=1e-3)


@every
@torch.no_grad()
def test_an_empty_batch_gives_an_empty_batch(transform, x, context, instance):
    for method in (transform.encode, transform.decode):
        value, log_det, _ = method(x[:0], None if context is None else context[:0])
        assert value.shape == (0, *instance.event_shape)
        assert log_det.shape == (0,)


@every
@torch.no_grad()
def test_a_state_dict_carries_the_whole_map(transform, x, context, instance, context_dim):
    twin = instance.make(context_dim).double()
    expected = transform.encode(x, context)
    same = list(map(torch.equal, twin.state_dict().values(), transform.state_dict().values()))
    assert not same or not all(same)
    twin.load_state_dict(transform.state_dict())
    value, log_det, _ = twin.encode(x, context)
    assert torch.equal(value, expected.value)
    assert torch.equal(log_det, expected.log_det)


def test_compose_applies_its_transforms_in_the_order_of_encode():
    shift, scale = Affine(2, shift=1.0), Affine(2, scale=torch.tensor([2.0, 4.0]))
    x = torch.tensor([[3.0, 9.0]])
    value, log_det, _ = Compose([shift, scale]).encode(x)
    assert torch.equal(value, torch.tensor([[1.0, 2.0]]))
    assert torch.allclose(log_det, -torch.tensor([8.0]).log())
    assert torch.equal(Compose([scale, shift]).encode(x).value, torch.tensor([[0.5, 1.25]]))


def test_an_empty_composition_is_the_identity():
    x = torch.randn(4, 2)
    for mapped in (Compose([]).encode(x), Compose([]).decode(x)):
        assert torch.equal(mapped.value, x)
        assert torch.equal(mapped.log_det, torch.zeros(4))


def test_the_inverse_of_an_inverse_is_the_transform():
    transform = affine((3,))
    x = torch.randn(4, 3)
    assert torch.equal(Inverse(Inverse(transform)).encode(x).value, transform.encode(x).value)
    assert torch.equal(Inverse(transform).encode(x).value, transform.decode(x).value)


def test_a_conditional_and_an_unconditional_cnf_compose():
    transform = Compose([conditional(0), conditional(2)]).double()
    x, context = torch.randn(3, 3).double(), torch.randn(3, 2).double()
    inner = transform.transforms[0].encode(x)
    expected = transform.transforms[1].encode(inner.value, context)
    value, log_det, _ = transform.encode(x, context)
    assert transform.context_dim == 2
    assert torch.equal(value, expected.value)
    assert torch.equal(log_det, inner.log_det + expected.log_det)


def test_initialize_reaches_the_members_through_the_ones_before_them():
    data = torch.rand(200, 2, dtype=torch.float64).mul(5).add(0.1)
    transform = Compose([Softplus(), Standardize(2)]).double()
    transform.initialize(data)
    z = transform.encode(data).value
    assert torch.allclose(z.mean(0), torch.zeros(2).double(), atol=1e-12)
    assert torch.allclose(z.std(0), torch.ones(2).double(), atol=1e-12)


def test_initialize_reaches_through_flatten_and_standardizes_the_context():
    data, context = torch.randn(100, 2, 3).double() * 4 + 1, torch.randn(100, 2).double() * 5 - 3
    inner = StandardizeContext(Standardize(6), 2)
    transform = Flatten(inner, (2, 3)).double()
    transform.initialize(data, context)
    assert transform.data_dependent
    assert torch.allclose(transform.encode(data, context).value.std(0), torch.ones(2, 3).double())
    assert torch.allclose(inner.standardize.encode(context).value.mean(0), torch.zeros(2).double(), atol=1e-12)


def test_standardize_context_shows_the_standardized_context():
    inner = conditional(2).double()
    transform = StandardizeContext(inner, 2).double()
    x, context = torch.randn(60, 3).double(), torch.randn(60, 2).double() * 5 - 3
    transform.initialize(x, context)
    standard = (context - context.mean(0)) / context.std(0)
    assert torch.allclose(transform.encode(x, context).value, inner.encode(x, standard).value, atol=1e-12)
