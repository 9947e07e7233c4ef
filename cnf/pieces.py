"""Rows in pieces: drawn in blocks that do not depend on the size of the pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

BLOCK = 2048  # rows that are drawn at once, a multiple of the 16 numbers that torch's generator makes together


def block_sizes(n: int) -> list[int]:
    """Sizes of the blocks of n rows; the last block is never small, because torch draws few numbers in another way.

    Example:
        >>> block_sizes(5000)
        [2048, 2952]
    """
    whole = max(n // BLOCK, 1) - 1
    return [BLOCK] * whole + [n - BLOCK * whole]


def regrouped(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The rows of all blocks in pieces of a size, the last one smaller; no rows are one empty piece.

    Example:
        >>> import torch
        >>> [len(piece) for piece in regrouped([torch.zeros(3, 2), torch.zeros(4, 2)], 5)]
        [5, 2]
    """
    rest: Tensor | None = None
    for block in blocks:
        rest = block if rest is None else torch.cat([rest, block])
        while len(rest) > size:
            yield rest[:size]
            rest = rest[size:]
    assert rest is not None
    yield rest
