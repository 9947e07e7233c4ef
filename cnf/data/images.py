"""Images as integer levels: IDX files (MNIST and its kin), scikit-learn's digits, and dequantisation."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from cnf.arguments import Ambient, Rule, Seed, checked
from cnf.data.folders import data_root
from cnf.data.rows import Batch, Rows
from cnf.errors import DataError

__all__ = ["DIGITS_LEVELS", "Dequantized", "dequantize", "load_digits", "load_mnist", "read_idx"]

DIGITS_LEVELS = 17  # scikit-learn's digits count the ink in 4×4 squares: 0 to 16
IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
MOST_DIMENSIONS = 32  # more are damage, and more than numpy 1 can hold
PIECE = 2**24  # bytes read together


@checked
def dequantize(images: Tensor, levels: Ambient = 256, *, generator: torch.Generator | None = None) -> Tensor:
    """Makes integer levels continuous: `y = (x + u) / levels` with `u` uniform on `[0, 1)`.

    A density of `y` bounds the probability of `x` from below: `log P(x) ≥ E_u log p(y) − D log levels`.

    Args:
        images: Integers `x` in `[0, levels)`, any shape.
        levels: How many values a pixel can take; 256 for bytes.
        generator: Source of the noise; by default the global one.

    Returns:
        float32 in `[0, 1)`, the shape of `images`; a floor of `levels · y` gives `x` back, up to rounding.

    Raises:
        DataError: The images are not integers, or one lies outside of `[0, levels)`.

    References:
        B. Uria, I. Murray, H. Larochelle, 2013, arXiv:1306.0186; L. Theis, A. van den Oord, M. Bethge, 2015,
        arXiv:1511.01844.
    """
    if images.is_floating_point() or images.is_complex():
        raise DataError(
            f"expected integer levels from 0 to {levels - 1}, got {images.dtype}; pass the levels "
            "as the file has them, as torch.uint8 (numbers that are continuous already need no noise)"
        )
    x = images.to(torch.float32)
    if x.numel() and not (x.min() >= 0 and x.max() < levels):
        raise DataError(
            f"expected integer levels from 0 to {levels - 1}, got {x.min():g} to {x.max():g}; "
            "set levels to the number of values a pixel can take"
        )
    noise = torch.rand(x.shape, generator=generator, device=x.device)
    # Near `levels`, x + u is rounded to multiples of up to levels * eps: without the limit some y would be 1.
    return (x + noise.clamp(max=1 - levels * torch.finfo(torch.float32).eps)) / levels


Choice = Annotated[np.ndarray, Rule("of whole numbers", lambda rows: rows.ndim == 1 and rows.dtype.kind in "iu")]


@checked
class Dequantized(Rows):
    """Rows of integer levels, dequantised when they are read; the noise depends on which rows are read together.

    Each epoch of a training has batches of its own, and so its own noise, which cannot be learned by heart. The same
    rows in the same order always get the same noise, so a run that is resumed repeats it to the bit.

    Args:
        images: Integers in `[0, levels)`, `(N, *event)`.
        levels: How many values a pixel can take.
        choice: Numbers of the rows that belong to this part of the data; all by default.
        seed: Of the noise.

    Raises:
        DataError: The images are not integers, or one lies outside of `[0, levels)`.

    Example:
        >>> import torch
        >>> rows = Dequantized(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), levels=4)
        >>> bool(rows.read([0])[0].max() < 1 / 4)
        True
        >>> torch.equal(rows.read([0])[0], rows.read([0, 1])[0][:1])
        False
    """

    def __init__(self, images: Tensor, levels: Ambient = 256, *, choice: Choice | None = None, seed: Seed = 0) -> None:
        self.levels, self.seed = levels, seed
        super().__init__(images, choice=choice)

    def read(self, rows: Sequence[int]) -> Batch:
        numbers = torch.from_numpy(self.choice[np.asarray(rows, dtype=np.int64)])
        generator = torch.Generator().manual_seed(self.seed + (zlib.crc32(numbers.numpy().tobytes()) << 20))
        x = dequantize(self.parts[0][numbers], self.levels, generator=generator)
        return x.to(self.dtype), None, numbers


def load_mnist(root: str | Path | None = None, *, train: bool = False) -> tuple[Tensor, Tensor]:
    """Loads MNIST, or a set in its layout, from its IDX files, compressed (`.gz`) or not.

    Args:
        root: The folder of the files; by default the environment variable `CNF_DATA`.
        train: The training images in place of the test images.

    Returns:
        Images `(N, 1, 28, 28)` uint8 of 256 levels, and labels `(N,)` int64.

    Raises:
        DataError: A file is missing, damaged, or of other shapes.

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, 1998, Proceedings of the IEEE 86(11).
    """
    folder, part = data_root(root), "train" if train else "t10k"
    images = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    if images.shape != (len(labels), 28, 28) or images.dtype != np.uint8:
        raise DataError(
            f"{folder}: expected bytes (N, 28, 28) and N labels in the {part} files, got "
            f"{images.dtype} {images.shape} and labels {labels.shape}; download both again from one source"
        )
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64))


def load_digits() -> tuple[Tensor, Tensor]:
    """Loads scikit-learn's handwritten digits, a set that needs no download.

    Returns:
        Images `(1797, 1, 8, 8)` uint8 of `DIGITS_LEVELS` = 17 levels, and labels `(1797,)` int64.

    Raises:
        DataError: scikit-learn is not installed.

    References:
        E. Alpaydin, C. Kaynak, 1998, Optical Recognition of Handwritten Digits, UCI Repository.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError('expected the package scikit-learn, found none: pip install "cnf[experiments]"') from error
    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images.astype(np.uint8))
    return images[:, None], torch.from_numpy(digits.target.astype(np.int64))


def read_idx(path: str | Path) -> np.ndarray:
    """Reads an IDX file, compressed by gzip or not.

    Four bytes `0, 0, type, D` are followed by `D` sizes (big-endian, four bytes each) and the numbers, the
    last index fastest.

    Args:
        path: The file.

    Returns:
        An array of the file's shape, of its type in the machine's byte order.

    Raises:
        DataError: The file is missing, is no IDX file, or is shorter or longer than its sizes say.

    References:
        Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; check the path")
    try:
        with _opened(path) as file:
            return _read_idx(path, file)
    except (EOFError, OSError, zlib.error, struct.error) as error:
        raise DataError(
            f"{path}: expected a complete gzip file, got a truncated or damaged one ({error}); download it again"
        ) from error


def _opened(path: Path) -> BinaryIO:
    """The file, decompressed if it is gzip's, whatever the name says."""
    with open(path, "rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if zipped else open(path, "rb")


def _read_idx(path: Path, file: BinaryIO) -> np.ndarray:
    """Never reads more than the sizes say: a small gzip file may hold many gigabytes."""
    head = file.read(4)
    dtype, dims = _idx_head(path, head)
    sizes = file.read(4 * dims)
    if len(sizes) < 4 * dims:
        raise DataError(
            f"{path}: expected the sizes of {dims} dimensions, got a file truncated after {len(head + sizes)} "
            "bytes; download it again"
        )
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if 0 in shape:
        raise DataError(f"{path}: expected sizes above 0, got the shape {shape}; download it again")
    size = math.prod(shape) * dtype.itemsize
    content = _at_most(file, size + 1)
    if len(content) != size:
        start = 4 + 4 * dims
        raise DataError(
            f"{path}: expected {start + size} bytes for the shape {shape}, got "
            f"{start + len(content) if len(content) < size else 'more'}; the file is "
            f"{'truncated' if len(content) < size else 'damaged'}, download it again"
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _at_most(file: BinaryIO, size: int) -> bytes:
    """The next bytes, piece by piece: one read of the whole size would take the memory before it looks at the file."""
    pieces, left = [], size
    while left and (piece := file.read(min(left, PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _idx_head(path: Path, head: bytes) -> tuple[np.dtype[Any], int]:
    """The type of the numbers and how many dimensions they have."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_DTYPES or not 1 <= head[3] <= MOST_DIMENSIONS:
        codes = ", ".join(f"{code:02x}" for code in IDX_DTYPES)
        raise DataError(
            f"{path}: expected an IDX file, bytes 00 00, a type ({codes}) and the number of dimensions (1 to "
            f"{MOST_DIMENSIONS}), got {head.hex(' ') or 'an empty file'}; give a file of that format"
        )
    return np.dtype(IDX_DTYPES[head[2]]), head[3]


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(
        f"expected {folder / name}.gz or {folder / name}, found neither; download the files of MNIST "
        "into this folder, or name another with --data-root (root=... in Python) or CNF_DATA"
    )
