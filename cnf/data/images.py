"""Images of whole numbers: IDX files (MNIST and the like), the digits of scikit-learn, and dequantisation."""

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

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
DIGITS_LEVELS = 17  # scikit-learn's digits count the ink in 4×4 squares: 0 to 16
IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
MOST_DIMENSIONS = 32  # more are damage, and more than numpy 1 can hold
PIECE = 2**24  # bytes read together


@checked
def dequantize(images: Tensor, levels: Ambient = 256, *, generator: torch.Generator | None = None) -> Tensor:
    """Make whole numbers continuous by uniform noise: `y = (x + u) / L` with `u ~ U[0, 1)`.

    A density of y bounds the probability of x from below: `log P(x) ≥ E_u log p(y) − D log L`.

    Args:
        images: Whole numbers x in `[0, L)`, of any shape.
        levels: L, the number of values that a pixel can take; 256 for bytes.
        generator: Source of the noise; the global one of torch by default.

    Returns:
        y in float32 in `[0, 1)`, in the shape of `images`.

    Raises:
        DataError: The images are not whole numbers, or one is outside `[0, L)`.

    References:
        Uria et al. 2013, arXiv 1306.0186; Theis et al. 2016, arXiv 1511.01844.

    Example:
        >>> import torch
        >>> y = dequantize(torch.tensor([0, 3, 255]))
        >>> y.dtype, (256 * y).int().tolist()
        (torch.float32, [0, 3, 255])
    """
    if images.is_floating_point() or images.is_complex():
        raise DataError(
            f"expected whole numbers from 0 to {levels - 1}, got {images.dtype}; give the whole "
            "numbers, for example as torch.uint8 (data that are continuous already need no noise)"
        )
    x = images.to(torch.float32)
    if x.numel() and not (x.min() >= 0 and x.max() < levels):
        raise DataError(
            f"expected whole numbers from 0 to {levels - 1}, got {x.min():g} to {x.max():g}; "
            "set levels to the number of values a pixel can take"
        )
    noise = torch.rand(x.shape, generator=generator, device=x.device)
    # Near `levels`, x + u is rounded to multiples of up to levels * eps: without the limit some y would be 1.
    return (x + noise.clamp(max=1 - levels * torch.finfo(torch.float32).eps)) / levels


Choice = Annotated[np.ndarray, Rule("of whole numbers", lambda rows: rows.ndim == 1 and rows.dtype.kind in "iu")]


@checked
class Dequantized(Rows):
    """Rows of whole numbers that get new uniform noise in each epoch, `(x + u) / L`; see `dequantize`.

    The noise depends on the seed and on which rows are read together, so that each epoch has other noise, and a run
    that is resumed has the same noise as without the interruption.

    Args:
        images: Whole numbers in `[0, L)`, `(N, *event)`.
        levels: L, the number of values that a pixel can take.
        choice: Numbers of the rows that belong to this part of the data; all by default.
        seed: Random seed of the noise.

    Raises:
        DataError: The images are not whole numbers, or one is outside `[0, L)`.

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
    """Load MNIST, or a set in the same layout, from its IDX files, compressed (`.gz`) or not.

    The files, such as `t10k-images-idx3-ubyte.gz`, are yours to download.

    Args:
        root: The folder of the files; the environment variable `CNF_DATA` by default.
        train: Whether to load the training images; otherwise the test images.

    Returns:
        Images `(N, 1, 28, 28)` in uint8, 256 levels, and labels `(N,)` in int64.

    Raises:
        DataError: A file is missing, damaged, or of another shape.

    References:
        LeCun et al. 1998, Proceedings of the IEEE 86.

    Example:
        >>> images, labels = load_mnist("~/data")  # doctest: +SKIP
        >>> images.shape  # doctest: +SKIP
        torch.Size([10000, 1, 28, 28])
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
    """Load the handwritten digits of scikit-learn, which need no download.

    Returns:
        Images `(1797, 1, 8, 8)` in uint8, 17 levels, and labels `(1797,)` in int64.

    Raises:
        DataError: scikit-learn is not installed.

    References:
        Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Repository.

    Example:
        >>> images, labels = load_digits()  # doctest: +SKIP
        >>> images.shape, int(images.max())  # doctest: +SKIP
        (torch.Size([1797, 1, 8, 8]), 16)
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError('expected the package scikit-learn, found none: pip install "cnf[experiments]"') from error
    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images.astype(np.uint8))
    return images[:, None], torch.from_numpy(digits.target.astype(np.int64))


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file, compressed by gzip or not.

    The format: four bytes `0, 0, type, D`, then D sizes (big-endian, four bytes each), then the numbers, the last index
    running fastest.

    Args:
        path: The file.

    Returns:
        An array of the file's shape and type, in the byte order of the machine.

    Raises:
        DataError: The file is missing, is not an IDX file, or is shorter or longer than its sizes say.

    References:
        LeCun, Cortes, Burges, The MNIST database of handwritten digits.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "three.idx"
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 10, 20, 30]))
        ...     print(read_idx(path))
        [10 20 30]
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
    """The file, decompressed if it is compressed, whatever its name."""
    with open(path, "rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if zipped else open(path, "rb")


def _read_idx(path: Path, file: BinaryIO) -> np.ndarray:
    """Read no more than the sizes say: a small gzip file may hold many gigabytes."""
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
    """The next bytes, piece by piece: one read of the whole size would allocate it, however short the file is."""
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
        f"expected {folder / name}.gz or {folder / name}, found neither; download the files of MNIST from {MNIST_URL} "
        "into this folder, or name another with --data-root (root=... in Python) or CNF_DATA"
    )
