"""Sets of small images of whole numbers, split."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from cnf.data import load_digits, load_mnist


class Images(NamedTuple):
    """Images `(N, 1, H, W)` of whole numbers in float, and the labels of each part."""

    train: Tensor
    validation: Tensor
    test: Tensor
    labels: tuple[Tensor, Tensor, Tensor]
    levels: int


def split(images: Tensor, labels: Tensor, levels: int, seed: int) -> Images:
    """A tenth for validation, a tenth for tests."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    tenth = len(images) // 10
    parts = order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth]
    train, validation, test = (images[part].float() for part in parts)
    return Images(train, validation, test, tuple(labels[part] for part in parts), levels)  # type: ignore[arg-type]


def digits(seed: int) -> Images:
    """Scikit-learn's, 8 × 8."""
    return split(*load_digits(), 17, seed)


def pooled(side: int) -> Callable[[int], Images]:
    """MNIST's test images, averaged to fewer pixels."""

    def make(seed: int) -> Images:
        images, labels = load_mnist(None)
        padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2)) if 28 % side else images.float()
        return split(avg_pool2d(padded, padded.shape[-1] // side).floor(), labels, 256, seed)

    return make


IMAGES: dict[str, Callable[[int], Images]] = {"digits": digits, "mnist14": pooled(14), "mnist8": pooled(8)}
