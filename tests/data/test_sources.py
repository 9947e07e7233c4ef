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


def test_digits_are_images_of_whole_numbers() -> None:
    pytest.importorskip("sklearn")
    source = open_source("digits")
    x = all_of(source.train)
    assert source.event_shape == (1, 8, 8)
    assert (source.levels, source.context_dim) == (17, 0)
    assert np.array_equal(np.unique(x), np.arange(17))


def test_labels_are_a_context_of_one_number_for_each_class() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    source = open_source("digits", context=["label"])
    _, context, rows = source.test.read(range(50))
    assert context is not None
    assert source.context_dim == 10
    assert np.array_equal(context.argmax(1), datasets.load_digits().target[rows.numpy()])
    assert torch.equal(context.sum(1), torch.ones(50))


def test_images_have_no_other_context(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    np.save(tmp_path / "grey.npy", np.zeros((12, 4, 4), np.uint8))
    with pytest.raises(DataError, match="label is the only context of images"):
        open_source("digits", context=["size"])
    with pytest.raises(DataError, match="these images have no labels"):
        open_source(str(tmp_path / "grey.npy"), context=["label"])


def test_bits_and_flips_of_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 6), dtype=np.uint8)
    np.save(tmp_path / "colours.npy", images)
    source = open_source(str(tmp_path / "colours.npy"), bits=3, flips=True)
    assert (source.levels, source.event_shape) == (8, (3, 4, 6))
    x, _, rows = source.train.read(range(32))
    whole = torch.from_numpy(images[rows.numpy()] // 32).float()
    kept, mirrored = (
        torch.tensor([torch.equal(a, b) for a, b in zip(x, y, strict=True)]) for y in (whole, whole.flip(3))
    )
    assert (kept ^ mirrored).all()
    assert 4 < kept.sum() < 28
    assert torch.equal(x, source.train.read(range(32))[0])
    assert torch.equal(source.test.read([0])[0][0], torch.from_numpy(images[source.test.choice[0]] // 32).float())


def test_bits_and_flips_are_for_images() -> None:
    with pytest.raises(DataError, match="bits and flips are for images"):
        open_source("moons", flips=True)


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
