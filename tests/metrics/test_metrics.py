"""Numbers to report."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import cnf
from cnf.errors import FailedRowsWarning
from cnf.metrics import bits_per_dim, log_prob_of_rows, mean_and_error, normalization


def test_bits_per_dim_of_the_uniform_density_is_that_of_fair_levels() -> None:
    torch.testing.assert_close(bits_per_dim(torch.zeros(2), 784), torch.full((2,), 8.0))
    torch.testing.assert_close(bits_per_dim(torch.zeros(1), 64, levels=16), torch.full((1,), 4.0))


def test_a_density_twice_as_high_saves_a_bit() -> None:
    half = torch.tensor([10 * math.log(2.0)])
    torch.testing.assert_close(bits_per_dim(half, 10), torch.tensor([7.0]))


@pytest.mark.parametrize(("dims", "levels"), [(-3, 256), (0, 256), (4, 1), (4, 0), (4, -2)])
def test_bits_need_a_dimension_and_two_levels(dims: int, levels: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        bits_per_dim(torch.zeros(2), dims, levels=levels)
    with pytest.raises(TypeError, match="dims must be"):
        bits_per_dim(torch.zeros(2), 2.5)


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="a mean needs at least one value, got none"):
        mean_and_error(torch.zeros(0))
    assert mean_and_error(torch.tensor([2, 4])).mean == 3


def test_mean_and_error_cover_the_mean_at_the_nominal_rate() -> None:
    draws = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = sum(abs(estimate.mean) < 1.96 * estimate.standard_error for estimate in map(mean_and_error, draws))
    assert 0.92 < inside / 2000 < 0.97


def test_normalization_of_a_known_density() -> None:
    torch.manual_seed(0)
    base = cnf.StandardNormal(2)
    flow = cnf.Flow(cnf.Compose([]), base)
    assert normalization(flow, (-8, -8), (8, 8)) == pytest.approx(1, abs=1e-5)
    assert normalization(flow, (0, -8), (8, 8)) == pytest.approx(0.5, abs=1e-5)


def test_normalization_wants_a_box() -> None:
    flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(3))
    with pytest.raises(ValueError, match="1 or 2 dimensions"):
        normalization(flow, (0, 0, 0), (1, 1, 1))


def test_rows_in_pieces_have_the_same_log_density() -> None:
    torch.manual_seed(0)
    flow = cnf.build("cnf", 2, context_dim=1, hidden=(8, 8)).double()
    x, context = torch.randn(25, 2).double(), torch.randn(25, 1).double()
    whole = flow.log_prob(x, context).detach()
    torch.testing.assert_close(log_prob_of_rows(flow, (x, context), batch_size=7), whole, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="batch_size must be a whole number from 1"):
        log_prob_of_rows(flow, (x, context), batch_size=0)


class Cliff(torch.nn.Module):
    """A field that explodes for rows beyond 5, where the solver has to give up."""

    def forward(self, t: torch.Tensor, x: torch.Tensor, context: None = None) -> torch.Tensor:
        return torch.where(x > 5, x.square().exp(), -x)


def test_rows_that_cannot_be_solved_are_named_by_their_numbers_in_the_data() -> None:
    x = torch.zeros(20, 2)
    x[[13, 17]] = 8.0
    flow = cnf.Flow(cnf.CNF(Cliff()), cnf.StandardNormal(2))
    with pytest.raises(cnf.SolverError, match=r"Samples: 13 \(1 in all\)") as caught:
        log_prob_of_rows(flow, x, batch_size=4, on_failure="raise")
    assert caught.value.samples == [13]
    with pytest.warns(FailedRowsWarning, match=r"2 of 20 rows .*row 13: .* at t = 1; row 17: .* at t = 1"):
        log_prob = log_prob_of_rows(flow, x, batch_size=4)
    assert log_prob.isnan().nonzero().flatten().tolist() == [13, 17]
    torch.testing.assert_close(log_prob[:13], flow.log_prob(x[:13]))


def test_memory_does_not_grow_with_the_rows_of_a_memory_map(tmp_path: Path) -> None:
    rows = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(400_000, 8))
    rows[:] = np.random.default_rng(0).standard_normal((1, 8), dtype=np.float32)
    flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(8))
    tracemalloc.start()  # sees numpy's memory, which is what rows are read into
    log_prob = log_prob_of_rows(flow, np.load(tmp_path / "x.npy", mmap_mode="r"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert log_prob.unique().numel() == 1
    assert peak < rows.nbytes / 2


def test_densities_of_rows_pay_for_no_path_costs():
    class Forbidden(cnf.Regularizer):
        def __call__(self, linearization, probe):
            raise AssertionError("a cost was computed")

    flow = cnf.Flow(
        cnf.CNF(cnf.MLPField(2, hidden=(4,)), regularizers={"forbidden": Forbidden()}), cnf.StandardNormal(2)
    )
    log_prob = log_prob_of_rows(flow, torch.zeros(3, 2))
    assert torch.equal(log_prob, cnf.reconfigure(flow, regularizers={}).log_prob(torch.zeros(3, 2)).detach())
