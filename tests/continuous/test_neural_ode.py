"""Neural ODEs: features of linear fields, zeros, and what more dimensions are for."""

from __future__ import annotations

import pytest
import torch
from instances import randomized
from scipy.linalg import expm
from torch import Tensor, nn

from cnf import ConvField, MLPField, NeuralODE, RungeKutta, count_evaluations, reconfigure

FINE = RungeKutta(rtol=1e-9, atol=1e-9)


class Linear(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(dim, dim, dtype=torch.float64))

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x @ self.matrix.mT if context is None else x @ self.matrix.mT + context


@pytest.mark.parametrize("extra", [0, 2])
@torch.no_grad()
def test_features_of_a_linear_field_are_those_of_the_matrix_exponential(extra):
    field, x = Linear(3 + extra), torch.randn(5, 3, dtype=torch.float64)
    network = NeuralODE(field, extra, FINE)
    start = torch.cat([x, torch.zeros(5, extra).double()], 1)
    maps = [torch.as_tensor(expm(t * field.matrix.numpy())) for t in (0.0, 0.3, 1.0)]
    path = network.path(x, [0.0, 0.3, 1.0])
    assert path.shape == (3, 5, 3 + extra)
    assert all(torch.allclose(at, start @ map.mT, atol=1e-7) for at, map in zip(path, maps, strict=True))
    assert torch.allclose(network(x), start @ maps[2].mT, atol=1e-7)


@torch.no_grad()
def test_a_context_moves_the_features():
    field, x, context = Linear(3), torch.randn(5, 2).double(), torch.randn(5, 3).double()
    network = NeuralODE(field, 1, FINE)
    matrix = field.matrix
    start = torch.cat([x, torch.zeros(5, 1).double()], 1)
    fixed = -torch.linalg.solve(matrix, context.mT).mT
    expected = fixed + (start - fixed) @ torch.as_tensor(expm(matrix.numpy())).mT
    assert torch.allclose(network(x, context), expected, atol=1e-6)
    assert torch.allclose(network.path(x, [1.0], context)[0], expected, atol=1e-6)


def test_images_get_channels():
    network, x = NeuralODE(ConvField((5, 4, 4), hidden=(6,)), extra=2), torch.randn(3, 3, 4, 4)
    assert network(x).shape == (3, 5, 4, 4)
    assert torch.equal(network.path(x, [0.0])[0], torch.cat([x, torch.zeros(3, 2, 4, 4)], 1))


def test_gradients_reach_the_field_and_the_data():
    network, x = NeuralODE(randomized(MLPField(3, hidden=8)), extra=1), torch.randn(4, 2, requires_grad=True)
    network(x).square().sum().backward()
    assert (x.grad != 0).all()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def trained(extra: int) -> tuple[NeuralODE, Tensor]:
    """A network taught to turn the line round, `x → −x`, and what is left of its error."""
    torch.manual_seed(0)
    network = NeuralODE(MLPField(1 + extra, hidden=(16, 16)), extra, RungeKutta("rk4", steps=6))
    x = torch.linspace(-1, 1, 41)[:, None]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        loss = (network(x)[:, :1] + x).square().mean()
        loss.backward()
        optimizer.step()
    return network, loss.detach()


def test_one_dimension_more_turns_a_line_round_and_without_it_order_is_kept():
    x = torch.linspace(-1, 1, 41)[:, None]
    plain, left = trained(0)
    assert (plain(x)[:, 0].diff() > 0).all()
    assert left > 0.3  # the best increasing map is constant: mean x² = 0.35
    augmented, left = trained(1)
    assert left < 0.01
    assert (augmented(x)[:, 0].diff() < 0).all()


@torch.no_grad()
def test_no_field_of_a_line_changes_its_order():
    x = torch.linspace(-2, 2, 60, dtype=torch.float64)[:, None]
    for _ in range(5):
        network = NeuralODE(randomized(MLPField(1, hidden=(16, 16)), 3.0), solver=FINE).double()
        assert (network.path(x, [0.25, 1.0]).diff(dim=1) > 0).all()


def test_the_solver_can_be_exchanged_and_counted():
    network, x = NeuralODE(MLPField(2, hidden=8)), torch.randn(4, 2)
    with count_evaluations() as count:
        reconfigure(network, solver=RungeKutta("rk4", steps=3))(x)
    assert (count.evaluations, count.solves) == (12, 1)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="extra must be .* from 0 to .*, got -1"):
        NeuralODE(MLPField(2), -1)
    with pytest.raises(ValueError, match=r"x must be rows \(N, D\).*got \(2,\)"):
        NeuralODE(MLPField(2))(torch.zeros(2))
    with pytest.raises(ValueError, match="times must be an increasing sequence"):
        NeuralODE(MLPField(2)).path(torch.randn(3, 2), [1.0, 0.0])
