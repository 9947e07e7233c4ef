"""Images in files of their own kinds: CIFAR-10's binary version, folders of pictures, arrays of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from cnf.arguments import Rule, checked
from cnf.data.folders import data_root
from cnf.errors import DataError

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_BYTES = 3 * 32 * 32
PICTURES = (".png", ".jpg", ".jpeg")
Bits = Annotated[int, Rule("from 1 to 8", lambda value: 1 <= value <= 8)]


def load_cifar10(root: str | Path | None = None, *, train: bool = False) -> tuple[Tensor, Tensor]:
    """Load CIFAR-10 from the files of its binary version, which are yours to download.

    Args:
        root: The folder that holds `cifar-10-batches-bin`, or that folder itself; the environment variable `CNF_DATA`
            by default.
        train: Whether to load the 50,000 training images; otherwise the 10,000 test images.

    Returns:
        Images `(N, 3, 32, 32)` in uint8, 256 levels, and labels `(N,)` in int64.

    Raises:
        DataError: A file is missing or damaged; the message says where to download it, and to which path.

    References:
        Krizhevsky 2009, Learning multiple layers of features from tiny images.

    Example:
        >>> images, labels = load_cifar10("~/data")  # doctest: +SKIP
        >>> images.shape  # doctest: +SKIP
        torch.Size([10000, 3, 32, 32])
    """
    folder = data_root(root)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    records = np.concatenate([_cifar_records(folder, name) for name in names])
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


def _cifar_records(folder: Path, name: str) -> np.ndarray:
    paths = [folder / CIFAR_FOLDER / name, folder / name]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise DataError(
            f"expected {paths[0]}, found none: download {CIFAR_URL} and unpack it in {folder}, or name another folder "
            "with --data-root (root=... in Python) or CNF_DATA"
        )
    content = np.fromfile(path, np.uint8)
    if not content.size or content.size % (1 + CIFAR_BYTES) or content.reshape(-1, 1 + CIFAR_BYTES)[:, 0].max() > 9:
        raise DataError(
            f"{path}: expected records of a label from 0 to 9 and {CIFAR_BYTES} pixels, got {content.size} bytes of "
            f"another kind; download {CIFAR_URL} again"
        )
    return content.reshape(-1, 1 + CIFAR_BYTES)


def load_pictures(folder: str | Path) -> tuple[Tensor, Tensor | None]:
    """Load a folder of PNG and JPEG pictures of one size; its subfolders, if it has any, are the classes.

    Args:
        folder: The folder. Pictures are read in the order of their names.

    Returns:
        Images in uint8, grey `(N, 1, H, W)` or in colour `(N, 3, H, W)`, 256 levels, and, of subfolders, the numbers of
        the classes in the order of their names, `(N,)` in int64.

    Raises:
        DataError: No pictures, pictures of different sizes, or a file that is none.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 2), 7).save(pathlib.Path(folder) / "grey.png")
        ...     images, labels = load_pictures(folder)
        >>> images.shape, labels
        (torch.Size([1, 1, 2, 4]), None)
    """
    folder = Path(folder).expanduser()
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    groups = [_pictures_in(place) for place in classes] if classes else [_pictures_in(folder)]
    paths = [path for group in groups for path in group]
    if not paths:
        raise DataError(f"{folder}: expected pictures ({', '.join(PICTURES)}), or a subfolder of them for each class")
    images = _stacked([_read_picture(path) for path in paths], paths)
    labels = [number for number, group in enumerate(groups) for _ in group]
    return images, torch.tensor(labels) if classes else None


def _pictures_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def _read_picture(path: Path) -> np.ndarray:
    """`(H, W)` if it is grey, `(H, W, 3)` if it is in colour."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
    except OSError as error:
        raise DataError(f"{path}: expected a picture, got a file that cannot be read ({error}); remove it") from error


def _stacked(pictures: Sequence[np.ndarray], paths: Sequence[Path]) -> Tensor:
    """Pictures `(N, C, H, W)`; in colour if one of them is."""
    size = pictures[0].shape[:2]
    other = next((i for i, picture in enumerate(pictures) if picture.shape[:2] != size), None)
    if other is not None:
        height, width = pictures[other].shape[:2]
        raise DataError(
            f"{paths[other]} has {height} × {width} pixels, {paths[0]} has {size[0]} × {size[1]}: crop or resize all "
            "pictures to one size"
        )
    if all(picture.ndim == 2 for picture in pictures):
        return torch.from_numpy(np.stack(pictures))[:, None]
    full = [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else p for p in pictures]
    return torch.from_numpy(np.stack(full).transpose(0, 3, 1, 2).copy())


def load_image_array(path: str | Path) -> Tensor:
    """Load images from a `.npy` file of bytes `(N, C, H, W)`, or `(N, H, W)` for grey ones.

    Args:
        path: The file.

    Returns:
        Images `(N, C, H, W)` in uint8.

    Raises:
        DataError: Another file.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "images.npy"
        ...     np.save(path, np.zeros((5, 8, 8), np.uint8))
        ...     print(load_image_array(path).shape)
        torch.Size([5, 1, 8, 8])
    """
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy reads the head of the file as Python, which can fail in any way
        raise DataError(f"{path}: expected an array of bytes, got a file that numpy cannot read ({error})") from error
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim not in (3, 4) or not values.size:
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive"
        raise DataError(f"{path}: expected images as bytes (N, C, H, W) or (N, H, W), got {found}: save them as uint8")
    images = torch.from_numpy(values)
    return images if values.ndim == 4 else images[:, None]


def holds_images(path: str | Path) -> bool:
    """Whether a path is a folder, or a `.npy` file of bytes with more than two axes.

    Example:
        >>> holds_images("table.csv")
        False
    """
    path = Path(path)
    if path.suffix.lower() != ".npy" or not path.is_file():
        return path.is_dir()
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # whoever reads it says what is wrong
        return False
    return isinstance(values, np.ndarray) and values.dtype == np.uint8 and values.ndim in (3, 4)


@checked
def reduce_bits(images: Tensor, bits: Bits) -> Tensor:
    """Bytes with their lowest bits removed: `⌊x / 2^(8 − bits)⌋`, with `2^bits` levels.

    Args:
        images: uint8, of any shape.
        bits: What remains, from 1 to 8.

    Raises:
        DataError: Images that are no bytes.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039, which takes 5 bits.

    Example:
        >>> reduce_bits(torch.tensor([0, 7, 8, 255], dtype=torch.uint8), 5).tolist()
        [0, 0, 1, 31]
    """
    if images.dtype != torch.uint8:
        raise DataError(f"expected bytes (torch.uint8), got {images.dtype}: bits can be removed from bytes only")
    return images >> (8 - bits)
