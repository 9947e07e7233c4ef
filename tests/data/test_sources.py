"""One door to all data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cnf.data import DataError
from cnf.data.rows import Rows
from cnf.data.sources import open_source


def all_of(rows: Rows) -> np.ndarray:
    return rows.read(range(len(rows)))[0].numpy()


def test_a_table_is_split_without_overlap_or_loss(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(53, 3))
    np.save(tmp_path / "t.npy", values)
    source = open_source(str(tmp_path / "t.npy"))
    together = np.concatenate([all_of(part) for part in (source.train, source.validation, source.test)])
    np.testing.assert_array_equal(np.sort(together, 0), np.sort(values.astype(np.float32), 0))
    assert [len(part) for part in (source.train, source.validation, source.test)] == [43, 5, 5]
    assert isinstance(source.train.parts[0], np.memmap)


def test_context_columns_leave_the_data(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    np.savetxt(tmp_path / "t.csv", values, delimiter=",", header="a,b,c", comments="")
    source = open_source(str(tmp_path / "t.csv"), context=["b"])
    assert (source.columns, source.context, source.event_shape) == (("a", "c"), ("b",), (2,))
    x, context, rows = source.test.read([0])
    assert context is not None
    np.testing.assert_allclose(np.insert(x.numpy(), 1, context.numpy(), 1), values[rows.numpy()], rtol=1e-6)


def test_toys_are_drawn_by_the_seed() -> None:
    first, same, other = (open_source("moons", seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(all_of(first.test), all_of(same.test))
    assert not np.array_equal(all_of(first.test), all_of(other.test))
    assert first.toy is not None


def test_digits_are_images_in_the_unit_interval() -> None:
    pytest.importorskip("sklearn")
    source = open_source("digits")
    x = all_of(source.train)
    assert source.event_shape == (1, 8, 8)
    assert source.levels == 17
    assert x.min() >= 0
    assert x.max() < 1


def test_images_for_training_have_new_noise_in_every_batch_and_those_that_judge_do_not() -> None:
    pytest.importorskip("sklearn")
    source = open_source("digits")
    for rows, fresh in ((source.train, True), (source.validation, False), (source.test, False)):
        alone, together = rows.read([3])[0], rows.read([3, 5])[0][:1]
        assert torch.equal((alone * 17).floor(), (together * 17).floor())
        assert torch.equal(alone, together) != fresh


def test_mnist(data_root: Path) -> None:
    source = open_source("mnist", root=data_root)
    assert source.event_shape == (1, 28, 28)
    assert len(source.train) >= 8000


def test_a_constant_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"{i},7" for i in range(20)))
    with pytest.raises(DataError, match="'b'"):
        open_source(str(tmp_path / "t.csv"))


def test_too_few_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    np.save(tmp_path / "t.npy", np.arange(8.0).reshape(4, 2))
    with pytest.raises(DataError, match="at least 10 rows, got 4"):
        open_source(str(tmp_path / "t.npy"))
