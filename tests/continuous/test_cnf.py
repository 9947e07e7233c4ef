"""The continuous flow: exact densities of linear fields, neighbours, normalisation, reconfiguration, paths."""

from __future__ import annotations

import math

import pytest
import torch
from instances import FIELDS, TIGHT, conditional, randomized
from scipy.linalg import expm
from torch import Tensor, nn

from cnf import (
    CNF,
    Compose,
    Exact,
    Flow,
    Hutchinson,
    KineticEnergy,
    MLPField,
    RungeKutta,
    StandardNormal,
    Torchdiffeq,
    build,
    count_evaluations,
    reconfigure,
)

FINE = {"rtol": 1e-9, "atol": 1e-9}


class Linear(nn.Module):
    """`dx/dt = A(t) x + b + C context`, `A(t) = A (1 + w cos 5t)`, as a user writes it."""

    def __init__(self, dim: int, wave: float = 0.0, context_dim: int = 0) -> None:
        super().__init__()
        self.matrix = nn.Parameter(0.5 * torch.randn(dim, dim, dtype=torch.float64))
        self.offset = nn.Parameter(torch.randn(dim, dtype=torch.float64))
        self.conditional = nn.Parameter(torch.randn(context_dim, dim, dtype=torch.float64))
        self.wave = wave

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        shift = self.offset if context is None else self.offset + context @ self.conditional
        return x @ self.matrix.mT * (1 + self.wave * torch.cos(5 * t)).reshape(-1, 1) + shift

    def exact_log_prob(self, x: Tensor, shift: Tensor) -> Tensor:
        """`log N((x − m); 0, E Eᵀ)` with `[E m; 0 1] = exp [A b; 0 0]`, for constant A."""
        dim = len(self.matrix)
        rows = []
        for point, b in zip(x, shift, strict=True):
            augmented = torch.zeros(dim + 1, dim + 1, dtype=torch.float64)
            augmented[:dim, :dim], augmented[:dim, dim] = self.matrix.detach(), b.detach()
            flow = torch.as_tensor(expm(augmented.numpy()))
            normal = torch.distributions.MultivariateNormal(flow[:dim, dim], flow[:dim, :dim] @ flow[:dim, :dim].mT)
            rows.append(normal.log_prob(point))
        return torch.stack(rows)


@pytest.mark.parametrize("solver", [RungeKutta(**FINE), RungeKutta("tsit5", **FINE), Torchdiffeq(**FINE)], ids=repr)
@pytest.mark.parametrize("context_dim", [0, 2])
def test_the_density_of_a_linear_field_is_that_of_the_matrix_exponential(solver, context_dim):
    field = Linear(4, context_dim=context_dim)
    flow = Flow(CNF(field, solver=solver), StandardNormal(4)).double()
    context = torch.randn(6, context_dim, dtype=torch.float64)
    read = context if context_dim else None
    x = flow.sample(6, read) + 0.1
    log_prob = flow.log_prob(x, read)
    expected = field.exact_log_prob(x, field.offset + context @ field.conditional)
    assert torch.allclose(log_prob, expected, rtol=0, atol=1e-7)


def test_samples_of_a_linear_field_go_through_the_matrix_exponential():
    field = Linear(3)
    with torch.no_grad():
        field.offset.zero_()
    z = torch.randn(5, 3).double()
    x = CNF(field, solver=RungeKutta(**FINE)).decode(z).value
    assert torch.allclose(x, z @ torch.as_tensor(expm(field.matrix.detach().numpy())).mT, rtol=0, atol=1e-8)


def test_a_field_that_changes_with_time_is_integrated_over_time():
    field = Linear(3, wave=0.8)
    factor = 1 + 0.8 * math.sin(5) / 5
    expected = factor * field.matrix.trace()
    for mapped, sign in ((CNF(field, solver=TIGHT).decode(torch.randn(4, 3).double()), 1),
                         (CNF(field, solver=TIGHT).encode(torch.randn(4, 3).double()), -1)):  # fmt: skip
        assert torch.allclose(mapped.log_det, sign * expected.expand(4), atol=1e-7)


@pytest.mark.parametrize("tolerance", [1e-5, 1e-7])
@pytest.mark.parametrize("seed", range(4))
def test_a_row_keeps_its_density_among_far_and_stiff_neighbours(tolerance, seed):
    torch.manual_seed(seed)
    field = randomized(MLPField(2, hidden=(32, 32)), 1.3)
    flow = Flow(CNF(field, solver=RungeKutta(rtol=tolerance, atol=tolerance)), StandardNormal(2)).double()
    x, far = torch.randn(5, 2).double(), 30 * torch.randn(20, 2).double()
    with torch.no_grad():
        alone = flow.log_prob(x)
        with count_evaluations() as count:
            together = flow.log_prob(torch.cat([far, x, 0.1 * far]))[20:25]
    assert count.accepted > 4
    assert (alone - together).abs().max() < 10 * tolerance


def test_one_bad_row_in_ten_thousand_still_sets_the_step():
    """The mean over the batch, which other packages control, would not see it."""

    class Sine(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return torch.sin(x)

    cnf = CNF(Sine(), solver=RungeKutta())
    x = torch.zeros(10_000, 1)
    x[7] = 2.0
    expected = 2 * torch.atan(torch.tan(torch.tensor(1.0)) / math.e)
    assert (cnf.encode(x).value[7] - expected).abs() < 3e-5


def test_the_density_of_a_random_cnf_integrates_to_one_ever_better():
    x = torch.linspace(-15, 15, 4001, dtype=torch.float64)
    field = randomized(MLPField(1, hidden=(32, 32)), 2.0).double()
    gaps = []
    for tolerance in (1e-2, 1e-4, 1e-6, 1e-8):
        flow = Flow(CNF(field, solver=RungeKutta(rtol=tolerance, atol=tolerance)), StandardNormal(1)).double()
        with torch.no_grad():
            mass = flow.log_prob(x[:, None]).exp().sum() * (x[1] - x[0])
        gaps.append(abs(mass.item() - 1))
    assert all(gap < tolerance for gap, tolerance in zip(gaps, (1e-2, 1e-4, 1e-6, 1e-8), strict=True))
    assert all(finer < coarser / 10 for coarser, finer in zip(gaps, gaps[1:], strict=False))


def test_a_two_dimensional_density_integrates_to_one():
    flow = Flow(CNF(randomized(MLPField(2, hidden=(16, 16)), 1.3)), StandardNormal(2))
    axis = torch.linspace(-9, 9, 121)
    with torch.no_grad():
        mass = flow.log_prob(torch.cartesian_prod(axis, axis)).double().exp().sum() * (axis[1] - axis[0]).double() ** 2
    assert abs(mass - 1) < 1e-3


def test_sampling_and_the_density_agree():
    flow = Flow(
        CNF(randomized(MLPField(1, hidden=(16, 16)), 1.5), solver=RungeKutta(rtol=1e-4, atol=1e-4)), StandardNormal(1)
    )
    x = flow.sample(20_000)[:, 0]
    edges = torch.linspace(-12, 12, 4001)
    density = flow.log_prob(edges[:, None]).exp().detach()
    expected = torch.cumsum(density, 0) * (edges[1] - edges[0])
    empirical = torch.searchsorted(x.sort().values, edges) / len(x)
    assert (empirical - expected).abs().max() < 1.95 / len(x) ** 0.5  # Kolmogorov-Smirnov at 0.1 %


def test_push_and_move_carry_no_log_determinant():
    cnf, z = conditional(0), torch.randn(4, 3)
    assert cnf.move(z, 0.0, 1.0).state[1:] == ((), ())
    assert torch.allclose(cnf.push(z), cnf.decode(z).value, atol=1e-5)


def test_a_path_begins_at_the_base_ends_at_the_data_and_can_be_entered_anywhere():
    cnf, z, context = conditional(2).double(), torch.randn(4, 3).double(), torch.randn(4, 2).double()
    path = cnf.path(z, torch.tensor([0.0, 0.3, 0.3, 1.0]), context)
    assert torch.equal(path[0], z)
    assert torch.equal(path[1], path[2])
    assert torch.allclose(path[3], cnf.decode(z, context).value, atol=1e-6)
    assert torch.allclose(cnf.move(path[1], 0.3, 1.0, context).state.x, path[3], atol=1e-6)
    velocity = (cnf.move(z, 0.0, 0.301, context).state.x - cnf.move(z, 0.0, 0.299, context).state.x) / 0.002
    assert torch.allclose(velocity, cnf.field(torch.tensor(0.3).double(), path[1], context), atol=1e-4)


# reconfigure


def test_reconfigure_shares_parameters_and_leaves_the_original_alone():
    flow = build("ffjord", 3, divergence=Hutchinson(), solver=RungeKutta("rk4", steps=2), blocks=2)
    before = [(cnf.divergence, cnf.solver, cnf.regularizers) for cnf in cnfs_of(flow)]
    twin = reconfigure(flow, divergence=Exact(), solver=TIGHT, regularizers={"kinetic": KineticEnergy()})
    assert [(cnf.divergence, cnf.solver, cnf.regularizers) for cnf in cnfs_of(flow)] == before
    assert all(cnf.divergence == Exact() and cnf.solver == TIGHT for cnf in cnfs_of(twin))
    assert all(cnf.regularizers == {"kinetic": KineticEnergy()} for cnf in cnfs_of(twin))
    assert all(a is b for a, b in zip(flow.parameters(), twin.parameters(), strict=True))
    assert all(a is b for a, b in zip(flow.buffers(), twin.buffers(), strict=True))


def cnfs_of(module: nn.Module) -> list[CNF]:
    return [part for part in module.modules() if isinstance(part, CNF)]


def test_training_the_original_trains_the_reconfigured_copy():
    flow, x = build("cnf", 2), torch.randn(8, 2)
    flow.initialize(x)
    twin = reconfigure(flow, solver=RungeKutta("rk4", steps=8))
    before = twin.log_prob(x)
    optimizer = torch.optim.SGD(flow.parameters(), lr=0.1)
    (-flow.log_prob(x).mean()).backward()
    optimizer.step()
    assert not torch.allclose(twin.log_prob(x), before, atol=1e-4)
    assert torch.allclose(twin.log_prob(x), flow.log_prob(x), atol=1e-4)


def test_what_is_not_given_is_kept():
    cnf = CNF(FIELDS["planar"].make(0), Hutchinson(2), {"kinetic": KineticEnergy()}, TIGHT)
    twin = reconfigure(cnf, divergence=Exact())
    assert (twin.solver, twin.regularizers) == (TIGHT, {"kinetic": KineticEnergy()})
    assert reconfigure(cnf, regularizers={}).regularizers == {}
    assert reconfigure(cnf).divergence == Hutchinson(2)


def test_a_generator_is_shared_by_the_copy():
    generator = torch.Generator()
    flow = build("ffjord", 3, divergence=Hutchinson(generator=generator))
    assert cnfs_of(reconfigure(flow, solver=TIGHT))[0].divergence.generator is generator


def test_there_must_be_a_cnf_to_reconfigure():
    with pytest.raises(ValueError, match="Compose holds no CNF"):
        reconfigure(Compose([]), solver=TIGHT)


def test_hutchinson_and_exact_share_the_map():
    cnf, x = conditional(0).double(), torch.randn(5, 3).double()
    exact, estimate = cnf.encode(x), reconfigure(cnf, divergence=Hutchinson()).encode(x)
    assert torch.allclose(exact.value, estimate.value, atol=1e-6)
    assert not torch.allclose(exact.log_det, estimate.log_det, atol=1e-3)


def test_a_field_without_closed_forms_is_evaluated_once_an_evaluation():
    calls = []

    class Counted(torch.nn.Module):
        def forward(self, t, x, context=None):
            calls.append(len(x))
            return x.sin()

    flow = Flow(CNF(Counted(), divergence=Hutchinson(), solver=RungeKutta("rk4", steps=3)), StandardNormal(2))
    flow.log_prob(torch.zeros(5, 2))
    assert len(calls) == 12
