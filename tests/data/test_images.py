"""Images: bytes in are pixels out, damaged files are named, and dequantised pixels are uniform in their cells."""

from __future__ import annotations

import gzip
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cnf.data import DataError
from cnf.data.images import DIGITS_LEVELS, Dequantized, dequantize, load_digits, load_mnist, read_idx

FORMATS = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}


def idx(values: np.ndarray, code: int = 0x08) -> bytes:
    """The format, written number by number."""
    head = struct.pack(">BBBB", 0, 0, code, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + struct.pack(f">{values.size}{FORMATS[code]}", *values.ravel().tolist())


def write_mnist(folder: Path, part: str, images: np.ndarray, labels: np.ndarray, *, zipped: bool) -> None:
    for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
        path = folder / f"{part}-{kind}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))


@pytest.mark.parametrize("code", FORMATS)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_round_trip(tmp_path: Path, code: int, zipped: bool) -> None:
    values = np.arange(24).reshape(2, 3, 4) - (0 if code == 0x08 else 12)
    path = tmp_path / "some.idx"
    path.write_bytes(gzip.compress(idx(values, code)) if zipped else idx(values, code))
    read = read_idx(path)
    assert read.dtype.isnative
    assert (read.dtype.kind, read.dtype.itemsize) == (
        "uiiiff"[list(FORMATS).index(code)],
        struct.calcsize(FORMATS[code]),
    )
    np.testing.assert_array_equal(read, values)
    read += 1  # not a view of the file's bytes


WHOLE = idx(np.zeros((2, 3), dtype=int))
BAD_IDX = {
    "empty": (b"", "expected an IDX file, .* got an empty file"),
    "png": (b"\x89PNG\r\n", "expected an IDX file, .* got 89 50 4e 47"),
    "unknown type": (
        b"\0\0\x0a\x01" + bytes(8),
        r"expected an IDX file, .* a type \(08, 09, 0b, 0c, 0d, 0e\) .* got 00 00 0a 01",
    ),
    "head alone": (WHOLE[:7], "expected the sizes of 2 dimensions, got a file truncated after 7 bytes"),
    "too short": (WHOLE[:-1], r"expected 18 bytes for the shape \(2, 3\), got 17; the file is truncated, download"),
    "too long": (WHOLE + b"\0", r"expected 18 bytes for the shape \(2, 3\), got more; the file is damaged"),
    "huge": (
        b"\0\0\x0e\x02" + b"\xff" * 8,
        r"expected 147573952520956936212 bytes for the shape \(4294967295, 4294967295\), got 12; .* truncated",
    ),
    "cut gzip": (gzip.compress(WHOLE)[:-10], "expected a complete gzip file, got a truncated or damaged one"),
    "no dimensions": (b"\0\0\x08\0a", r"expected an IDX file.*dimensions \(1 to 32\), got 00 00 08 00"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(1021), "expected an IDX file.*got 00 00 08 ff"),
    "an empty dimension": (
        b"\0\0\x08\2" + b"\xff" * 4 + bytes(4),
        r"expected sizes above 0, got the shape \(4294967295, 0\)",
    ),
    "petabytes": (
        b"\0\0\x08\2" + b"\xff" * 8 + bytes(9),
        "expected 18446744065119617037 bytes.*got 21; the file is truncated",
    ),
    "changed gzip": (gzip.compress(b"\0\0\x08\1\0\0\0\3abc")[:-8] + b"\xff" * 8, "expected a complete gzip file"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_bad_idx_is_named(tmp_path: Path, case: str) -> None:
    content, message = BAD_IDX[case]
    path = tmp_path / "some.idx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"some.idx: {message}"):
        read_idx(path)


def test_missing_idx(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.idx: expected a file, found none"):
        read_idx(tmp_path / "none.idx")


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_layout(tmp_path: Path, zipped: bool) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("t10k", 3), ("train", 5)):
        images, labels = rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)
        write_mnist(tmp_path, part, images, labels, zipped=zipped)
        read_images, read_labels = load_mnist(tmp_path, train=part == "train")
        assert torch.equal(read_images, torch.tensor(images[:, None], dtype=torch.uint8))
        assert torch.equal(read_labels, torch.tensor(labels))


def test_mnist_missing_or_mismatched(tmp_path: Path) -> None:
    first = re.escape(str(tmp_path / "t10k-images-idx3-ubyte"))
    with pytest.raises(DataError, match=f"expected {first}.gz or {first}, found neither; download"):
        load_mnist(tmp_path)
    write_mnist(tmp_path, "t10k", np.zeros((3, 28, 28), int), np.zeros(2, int), zipped=False)
    with pytest.raises(DataError, match=r"in the t10k files, got uint8 \(3, 28, 28\) and labels \(2,\)"):
        load_mnist(tmp_path)


def test_mnist_itself(data_root: Path) -> None:
    images, labels = load_mnist(data_root)
    assert images.shape == (10_000, 1, 28, 28)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert torch.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.min() == 0
    assert images.max() == 255
    assert images.double().mean() / 255 == pytest.approx(0.1325, abs=1e-4)


def test_dequantised_rows_are_their_levels_and_noise_of_their_company() -> None:
    images = torch.randint(0, 5, (40, 1, 3, 3), dtype=torch.uint8)
    choice = np.arange(0, 40, 2)
    rows = Dequantized(images, 5, choice=choice, seed=3)
    (x, _, numbers), again, other = rows.read([4, 1, 7]), rows.read([4, 1, 7])[0], rows.read([4, 1, 8])[0]
    assert numbers.tolist() == [8, 2, 14]
    assert torch.equal((x * 5).floor().to(torch.uint8), images[numbers])
    assert torch.equal(x, again)
    assert not (x[:2] == other[:2]).any()
    assert not (x == Dequantized(images, 5, choice=choice, seed=4).read([4, 1, 7])[0]).any()


def test_the_noise_of_dequantised_rows_is_uniform_over_many_epochs() -> None:
    rows = Dequantized(torch.zeros(64, 1, 1, 1, dtype=torch.uint8), 2)
    noise = torch.cat([2 * rows.read(torch.randperm(64)[:4].tolist())[0] for _ in range(2000)]).flatten()
    counts = torch.histc(noise, 10, 0, 1)
    assert (counts - 800).abs().max() < 6 * 800**0.5


@pytest.mark.parametrize(
    ("images", "message"), [(torch.rand(3, 1, 2, 2), "whole numbers"), (torch.full((3, 1), 9), "0 to 4")]
)
def test_dequantised_rows_must_be_levels(images: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dequantized(images, 5)


def test_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = load_digits()
    assert images.dtype == torch.uint8
    assert int(images.max()) == DIGITS_LEVELS - 1
    np.testing.assert_array_equal(images.flatten(1), datasets.load_digits().data)
    np.testing.assert_array_equal(labels, datasets.load_digits().target)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=re.escape('scikit-learn, found none: pip install "cnf[experiments]"')):
        load_digits()


# Dequantisation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantize_fills_each_cell_uniformly(levels: int) -> None:
    n = 20_000
    x = torch.arange(levels).repeat_interleave(n)
    y = dequantize(x, levels, generator=torch.Generator().manual_seed(0))
    assert y.dtype == torch.float32
    assert y.min() >= 0
    assert y.max() < 1
    u = (y.double() * levels - x).reshape(levels, n)
    assert u.min() > -1e-5
    assert u.max() < 1 + 1e-5
    # Mean 1/2, variance 1/12 (fourth central moment 1/80), and independence of neighbours, within 5 deviations.
    assert (u.mean(1) - 1 / 2).abs().max() < 5 * (1 / 12 / n) ** 0.5
    assert (u.var(1) - 1 / 12).abs().max() < 5 * ((1 / 80 - 1 / 144) / n) ** 0.5
    neighbours = ((u[:, 1:] - 0.5) * (u[:, :-1] - 0.5)).mean(1)
    assert neighbours.abs().max() < 5 / 12 / (n - 1) ** 0.5


def test_dequantize_never_reaches_one_nor_leaves_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 1 - torch.finfo(torch.float32).eps / 2  # what torch.rand can return at most
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, largest))
    for levels in (2, 3, 17, 32, 100, 256, 65_536):
        assert dequantize(torch.tensor([levels - 1]), levels).item() < 1
    x = torch.arange(256, dtype=torch.uint8)
    assert torch.equal((dequantize(x) * 256).floor(), x.float())


def test_dequantize_is_reproducible_and_leaves_the_global_noise_alone() -> None:
    x = torch.full((4, 1, 5, 5), 9, dtype=torch.uint8)
    state = torch.get_rng_state()
    first, second = (dequantize(x, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert first.unique().numel() == x.numel()
    assert (x == 9).all()
    assert not torch.equal(dequantize(x), dequantize(x))
    assert dequantize(x[:0]).shape == (0, 1, 5, 5)


def test_dequantize_checks_its_input() -> None:
    with pytest.raises(DataError, match="expected whole numbers from 0 to 255, got torch.float32; give the whole"):
        dequantize(torch.rand(3))
    with pytest.raises(DataError, match="expected whole numbers from 0 to 16, got 0 to 17; set levels"):
        dequantize(torch.tensor([0, 17]), 17)
    with pytest.raises(DataError, match="expected whole numbers from 0 to 255, got -1 to 2"):
        dequantize(torch.tensor([-1, 2]))
