"""Rows and the order of batches."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from cnf.data import DataError
from cnf.data.batches import Batches
from cnf.data.rows import Rows


def take(batches: Batches, n: int) -> list[list[int]]:
    return list(itertools.islice(iter(batches), n))


def test_an_epoch_visits_every_row_once_and_the_next_in_another_order() -> None:
    batches = Batches(12, 4)
    first, second = take(batches, 6)[:3], take(batches, 6)[3:]
    assert sorted(itertools.chain(*first)) == list(range(12)) == sorted(itertools.chain(*second))
    assert first != second


def test_the_order_can_be_taken_up_at_any_step() -> None:
    assert take(Batches(10, 3, seed=5), 9)[4:] == take(Batches(10, 3, seed=5, start=4), 5)


def test_processes_share_each_batch() -> None:
    whole = take(Batches(20, 6), 7)
    shares = [take(Batches(20, 6, rank=rank, world=2), 7) for rank in range(2)]
    assert [left + right for left, right in zip(*shares, strict=True)] == whole


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    assert sorted(take(Batches(5, 100), 1)[0]) == list(range(5))


def test_rows_are_read_by_number_in_the_asked_dtype(tmp_path: Path) -> None:
    values = np.arange(20.0).reshape(10, 2)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    x, context, numbers = Rows((mapped, values[:, :1]), torch.float64).read([7, 1])
    assert x.dtype == torch.float64
    assert x.tolist() == [[14.0, 15.0], [2.0, 3.0]]
    assert context is not None
    assert context.tolist() == [[14.0], [2.0]]
    assert numbers.tolist() == [7, 1]


def test_a_choice_of_rows_keeps_their_numbers() -> None:
    rows = Rows(torch.arange(10.0).unsqueeze(1), choice=np.array([8, 3, 5]))
    x, _, numbers = rows.read([2, 0])
    assert len(rows) == 3
    assert x.flatten().tolist() == [5.0, 8.0]
    assert numbers.tolist() == [5, 8]


def test_nan_in_a_memory_map_is_found_when_it_is_read(tmp_path: Path) -> None:
    values = np.zeros((100, 2))
    values[42] = np.inf
    np.save(tmp_path / "x.npy", values)
    rows = Rows(np.load(tmp_path / "x.npy", mmap_mode="r"))
    rows.read(range(42))
    with pytest.raises(DataError, match=r"in 1 of 60 rows read, first in rows \[42\]"):
        rows.read(range(40, 100))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (torch.zeros(0, 2), DataError, "no rows"),
        ((torch.zeros(3, 2), torch.zeros(4, 1)), DataError, r"lengths \[3, 4\]"),
        ([[1.0, 2.0]], TypeError, "tensor, an array"),
    ],
)
def test_data_that_has_no_rows(data: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Rows(data)


def test_rows_leave_the_graph_of_what_made_them() -> None:
    made = torch.ones(4, 2, requires_grad=True) * 2  # as samples of a trainable base
    assert not Rows(made).read([0, 3])[0].requires_grad


def test_more_processes_than_rows() -> None:
    with pytest.raises(DataError, match="cannot be shared by 4 processes"):
        Batches(3, 3, world=4)
