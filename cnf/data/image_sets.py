"""Sets of images as whole numbers with labels, and their rows for training."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.arguments import Seed, checked
from cnf.data.folders import data_root
from cnf.data.image_files import holds_images, load_cifar10, load_image_array, load_pictures, reduce_bits
from cnf.data.images import DIGITS_LEVELS, Choice, load_digits, load_mnist
from cnf.data.rows import Batch, Rows
from cnf.errors import DataError

LABEL = "label"
FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist"


class ImageSet(NamedTuple):
    """Images in uint8 `(N, C, H, W)`, labels `(N,)` or None, and the number of values that a pixel can take.

    Example:
        >>> load_images("digits").images.shape  # doctest: +SKIP
        torch.Size([1797, 1, 8, 8])
    """

    images: Tensor
    labels: Tensor | None
    levels: int


def load_images(name: str, root: str | Path | None = None, *, bits: int | None = None) -> ImageSet:
    """Load a built-in set of images, a folder of pictures, or a `.npy` file of bytes `(N, C, H, W)`.

    Args:
        name: A key of `IMAGES`, or a path.
        root: Folder of downloaded sets; the environment variable `CNF_DATA` by default.
        bits: Bits of each byte that are kept, see `reduce_bits`; None for all.

    Raises:
        DataError: Files are missing or damaged, or `bits` is given for pixels that are no bytes.

    Example:
        >>> load_images("digits").levels  # doctest: +SKIP
        17
    """
    if name in IMAGES:
        images, labels, levels = IMAGES[name](root)
    elif Path(name).is_dir():
        images, labels, levels = ImageSet(*load_pictures(name), 256)
    else:
        images, labels, levels = ImageSet(load_image_array(name), None, 256)
    if bits is None:
        return ImageSet(images, labels, levels)
    if levels != 256:
        raise DataError(f"{name} has pixels of {levels} levels, which are no bytes: leave bits out")
    return ImageSet(reduce_bits(images, bits), labels, 2**bits)


def is_image_set(name: str) -> bool:
    """Whether a name is that of a built-in set of images, or a path of images.

    Example:
        >>> is_image_set("digits"), is_image_set("moons")
        (True, False)
    """
    return name in IMAGES or holds_images(name)


def one_hot(labels: Tensor) -> Tensor:
    """Labels from 0 as a context, `(N,)` to `(N, K)` with K the largest label and one.

    Example:
        >>> one_hot(torch.tensor([0, 2]))
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """
    return F.one_hot(labels).float()


@checked
class Flipped(Rows):
    """Images of which half, at random, are mirrored left and right each time they are read.

    Which ones depends on the seed and on which rows are read together, so that a resumed run sees the same.

    Args:
        images: `(N, C, H, W)`.
        context: `(N, K)` or None.
        choice: Numbers of the rows that belong to this part of the data; all by default.
        seed: Random seed.

    Raises:
        DataError: Images of another shape.

    Example:
        >>> rows = Flipped(torch.arange(2).reshape(1, 1, 1, 2).repeat(8, 1, 1, 1))
        >>> rows.read(range(8))[0].flatten(1).unique(dim=0).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """

    def __init__(
        self, images: Tensor, context: Tensor | None = None, *, choice: Choice | None = None, seed: Seed = 0
    ) -> None:
        if images.dim() != 4:
            raise DataError(f"expected images (N, C, H, W), got {tuple(images.shape)}")
        self.seed = seed
        super().__init__(images if context is None else (images, context), choice=choice)

    def read(self, rows: Sequence[int]) -> Batch:
        x, context, numbers = super().read(rows)
        generator = torch.Generator().manual_seed(self.seed + (zlib.crc32(numbers.numpy().tobytes()) << 20))
        flip = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
        return torch.where(flip, x.flip(3), x), context, numbers


def _mnist(root: str | Path | None) -> ImageSet:
    try:
        return ImageSet(*load_mnist(root, train=True), 256)
    except DataError:
        return ImageSet(*load_mnist(root), 256)  # the 10,000 test images alone are a data set too


def _fashion(root: str | Path | None) -> ImageSet:
    folder = data_root(root) / "fashion"
    if not folder.is_dir():
        raise DataError(
            f"expected the folder {folder}, found none: download the files of Fashion-MNIST, which have the names of "
            f"those of MNIST, from {FASHION_URL} into it"
        )
    return _mnist(folder)


IMAGES: dict[str, Callable[[str | Path | None], ImageSet]] = {
    "digits": lambda root: ImageSet(*load_digits(), DIGITS_LEVELS),
    "mnist": _mnist,
    "fashion": _fashion,
    "cifar10": lambda root: ImageSet(*load_cifar10(root, train=True), 256),
}
