"""Rows that were trained on are recognised, whatever the file they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnf.data import sketch
from cnf.data.keys import row_keys
from cnf.data.rows import Rows
from cnf.data.sketch import keys_of


def sketch_of(rows: Rows) -> np.ndarray:
    return sketch.sketch_of(keys_of(rows))


def seen_rows(rows: Rows, known: np.ndarray) -> sketch.Seen:
    return sketch.seen_rows(keys_of(rows), known)


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_recognised_in_any_order_and_precision(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(500, *shape, dtype=torch.float64)
    known = sketch_of(Rows(x.float()))
    mixed = torch.cat([torch.randn(300, *shape, dtype=torch.float64), x[torch.randperm(500)[:120]]])
    seen = seen_rows(Rows(mixed, dtype), known)
    assert seen.exact
    assert seen.rows == 120
    np.testing.assert_array_equal(seen.known, np.arange(420) >= 300)


def test_the_condition_and_the_order_of_columns_are_part_of_a_row() -> None:
    x, context = torch.randn(100, 2), torch.randn(100, 1)
    known = sketch_of(Rows((x, context)))
    assert seen_rows(Rows((x, context)), known).rows == 100
    assert seen_rows(Rows((x, context + 1)), known).rows == 0
    assert seen_rows(Rows((x.flip(1), context)), known).rows == 0


def test_minus_zero_is_zero() -> None:
    assert seen_rows(Rows(torch.tensor([[-0.0, 1.0]])), sketch_of(Rows(torch.tensor([[0.0, 1.0]])))).rows == 1


def test_of_many_rows_a_fair_sample_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "LARGEST", 1_000)
    monkeypatch.setattr(sketch, "PIECE", 7_000)
    x = torch.randn(50_000, 2)
    known = sketch_of(Rows(x))
    assert len(known) == 1_000
    seen = seen_rows(Rows(torch.cat([x[:20_000], torch.randn(20_000, 2)])), known)
    assert not seen.exact
    assert 18_000 < seen.rows < 22_000  # some 800 rows are compared: a standard deviation is 700


def test_hashes_spread_evenly() -> None:
    grid = torch.cartesian_prod(torch.arange(300.0), torch.arange(300.0))
    hashes = row_keys(grid.numpy())
    assert len(np.unique(hashes)) == 90_000
    counts = np.histogram(hashes.astype(float), 64, range=(0, 2.0**64))[0]
    assert abs(counts - 90_000 / 64).max() < 6 * np.sqrt(90_000 / 64)
