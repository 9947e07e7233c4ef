"""Hashes of the rows that a model was trained on, of bounded size, by which these rows are recognised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from cnf.data.keys import row_keys
from cnf.data.rows import Rows

LARGEST = 2**18  # hashes that are kept, 2 MB
PIECE = 65_536  # rows read together


class Seen(NamedTuple):
    """How many rows are equal to rows of a sketch; where `exact`, `known[i]` tells whether row i is one of them."""

    rows: int
    exact: bool
    known: np.ndarray


def sketch_of(keys: Iterable[np.ndarray]) -> np.ndarray:
    """The smallest of the distinct hashes of rows, see `keys_of`, at most `LARGEST` of them, in rising order.

    Of more rows than that it is a random sample: whether a row is in it depends on its hash only.
    """
    smallest = np.empty(0, dtype=np.uint64)
    for hashes in keys:
        smallest = np.union1d(smallest, hashes)[:LARGEST]
    return smallest


def seen_rows(keys: Iterable[np.ndarray], sketch: np.ndarray) -> Seen:
    """How many rows are equal, by their hashes, to rows that a sketch is of."""
    hashes = np.concatenate(list(keys))
    known = np.isin(hashes, sketch)
    if len(sketch) < LARGEST:
        return Seen(int(known.sum()), True, known)
    compared = int((hashes <= sketch[-1]).sum())  # the hashes of other rows would not have been kept
    share = known.sum() / compared if compared else 0.0
    return Seen(round(share * len(hashes)), False, known)


def keys_of(rows: Rows) -> Iterator[np.ndarray]:
    """The hashes of rows in float32, some rows at a time."""
    for numbers in torch.arange(len(rows)).split(PIECE):
        x, context, _ = rows.read(numbers.tolist())
        parts = [part.flatten(1).float().numpy() for part in (x, context) if part is not None]
        yield row_keys(np.concatenate(parts, 1))
