"""Files of images: bytes in are pixels out, and an error says where to get what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnf.data import DataError, load_cifar10, load_image_array, load_images, load_pictures, reduce_bits


def write_cifar(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    records = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(len(images), -1)], 1)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(records.tobytes())


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


def test_cifar_records(tmp_path: Path, colours: np.ndarray) -> None:
    labels = np.arange(6)
    for i in range(5):
        write_cifar(tmp_path / "cifar-10-batches-bin", f"data_batch_{i + 1}.bin", colours + i, labels)
    write_cifar(tmp_path / "cifar-10-batches-bin", "test_batch.bin", colours, labels)
    images, read = load_cifar10(tmp_path)
    np.testing.assert_array_equal(images, colours)
    np.testing.assert_array_equal(read, labels)
    images, read = load_cifar10(tmp_path, train=True)
    np.testing.assert_array_equal(images, np.concatenate([colours + i for i in range(5)]))
    np.testing.assert_array_equal(load_images("cifar10", tmp_path).images, images)


def test_cifar_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test_batch.bin, found none: download https://.*cifar-10-binary.tar.gz"):
        load_cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(bytes(100))
    with pytest.raises(DataError, match="got 100 bytes of another kind; download"):
        load_cifar10(tmp_path)


def test_fashion_is_told_where_to_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected the folder .*fashion, found none: download .* from https://"):
        load_images("fashion", tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_folder_of_grey_pictures(tmp_path: Path, suffix: str) -> None:
    values = [np.full((4, 6), 40 * i, np.uint8) for i in range(3)]
    for i, value in enumerate(values):
        Image.fromarray(value).save(tmp_path / f"{i}{suffix}")
    images, labels = load_pictures(tmp_path)
    assert labels is None
    assert images.shape == (3, 1, 4, 6)
    np.testing.assert_allclose(images[:, 0], np.stack(values), atol=1)


def test_subfolders_are_classes_and_one_picture_in_colour_makes_all_so(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "dog" / "a.png")
    Image.fromarray(np.full((2, 3), 9, np.uint8)).save(tmp_path / "cat" / "b.png")
    images, labels = load_pictures(tmp_path)
    assert labels is not None
    assert labels.tolist() == [0, 1]
    assert images[0].unique().tolist() == [9]
    assert images[1].amax((1, 2)).tolist() == [200, 0, 0]


def test_pictures_of_two_sizes_and_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected pictures"):
        load_pictures(tmp_path)
    for i in (3, 4):
        Image.new("L", (i, 3)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="4.png has 3 × 4 pixels, .*3.png has 3 × 3: crop or resize"):
        load_pictures(tmp_path)
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="0.png: expected a picture"):
        load_pictures(tmp_path)


def test_arrays_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 2, 4, 5), np.uint8))
    assert load_image_array(path).shape == (3, 2, 4, 5)
    np.save(path, np.zeros((3, 4, 5), np.float32))
    with pytest.raises(DataError, match=r"got float32 \(3, 4, 5\): save them as uint8"):
        load_image_array(path)


@pytest.mark.parametrize("bits", range(1, 9))
def test_bits_are_kept_from_the_top(bits: int) -> None:
    images = torch.arange(256).to(torch.uint8)
    assert torch.equal(reduce_bits(images, bits).long(), images.long() // 2 ** (8 - bits))


def test_only_bytes_lose_bits() -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(DataError, match="17 levels, which are no bytes"):
        load_images("digits", bits=5)
