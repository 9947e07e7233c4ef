"""Compiled steps: the same numbers as plain ones, compiled once for all batch sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnf import CNF, Exact, Hutchinson, KineticEnergy, MLPField, RungeKutta
from cnf.continuous.solvers import Solver
from cnf.transforms import Mapped


def twins(solver: dict, divergence=Exact(), hidden=(8,)) -> list[CNF]:
    """The same CNF with plain and with compiled steps."""
    field = MLPField(2, hidden=hidden)
    solvers: list[Solver] = [RungeKutta(**solver, compile=compile) for compile in (False, True)]
    return [CNF(field, divergence, {"kinetic": KineticEnergy()}, one) for one in solvers]


def trained(cnf: CNF, x: Tensor) -> tuple[Mapped, list[Tensor]]:
    """One encoding with the gradient of its log-determinant, value and cost."""
    torch.manual_seed(0)
    mapped = cnf.encode(x)
    loss = mapped.log_det.sum() + mapped.value.square().sum() + mapped.costs["kinetic"].sum()
    return mapped, list(torch.autograd.grad(loss, list(cnf.parameters())))


def assert_equal(cnfs: list[CNF], x: Tensor) -> None:
    plain, compiled = (trained(cnf, x) for cnf in cnfs)
    assert torch.allclose(plain[0].value, compiled[0].value, atol=1e-6)
    assert torch.allclose(plain[0].log_det, compiled[0].log_det, atol=1e-6)
    for a, b in zip(plain[1], compiled[1], strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_compiled_adaptive_steps_are_plain_ones_and_are_compiled_once():
    cnfs = twins({"method": "bosh3", "rtol": 1e-3, "atol": 1e-3})
    x = torch.randn(40, 2)
    for rows in (40, 30):
        assert_equal(cnfs, x[:rows])
        with torch.no_grad():
            assert torch.allclose(cnfs[0].encode(x[:rows]).log_det, cnfs[1].encode(x[:rows]).log_det, atol=1e-6)
    with torch.compiler.set_stance("fail_on_recompile"):
        for rows in (20, 7, 1):
            assert_equal(cnfs, x[:rows])
            with torch.no_grad():
                assert torch.allclose(cnfs[0].encode(x[:rows]).value, cnfs[1].encode(x[:rows]).value, atol=1e-6)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_compiled_fixed_steps_with_probes(gradient):
    solver = {"method": "euler", "steps": 3, "gradient": gradient}
    assert_equal(twins(solver, Hutchinson(2), (5, 5)), torch.randn(16, 2))


class Autonomous(nn.Module):
    """A field without closed forms, nor a use for the time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 4), nn.SiLU(), nn.Linear(4, 2, bias=False))

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.layers(x)


def test_compiled_steps_of_any_module_take_any_batch_size():
    solvers = [RungeKutta("euler", steps=1, compile=compile) for compile in (False, True)]
    field = Autonomous()
    cnfs = [CNF(field, regularizers={"kinetic": KineticEnergy()}, solver=solver) for solver in solvers]
    for rows in (5, 8):
        assert_equal(cnfs, torch.randn(rows, 2))


def test_a_field_that_cannot_be_captured_is_named():
    class Branching(nn.Module):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return x if x.sum().item() > 0 else -x

    cnf = CNF(Branching(), solver=RungeKutta("euler", steps=2, compile=True))
    with pytest.raises(RuntimeError, match="captures in one graph.*compile=False"):
        cnf.encode(torch.randn(4, 2))
