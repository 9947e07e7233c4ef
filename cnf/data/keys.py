"""A number of 64 bits for each row of a table, by which equal rows are found."""

from __future__ import annotations

import numpy as np

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of the golden ratio: odd, with bits like noise
SHIFT = np.uint64(29)


def row_keys(values: np.ndarray) -> np.ndarray:
    """A number for each row of `(N, D)`, equal for equal rows and, but for one chance in 2⁶⁴, for no others.

    Keys can be compared within one type of numbers: those of float32 differ from those of float64.
    """
    keys = np.full(len(values), values.shape[1], dtype=np.uint64)
    for column in values.T:
        cells = np.ascontiguousarray(column) + np.float32(0)  # −0 becomes 0, whole numbers become floats
        keys = (keys ^ cells.view(f"u{cells.itemsize}")) * MULTIPLIER
        keys ^= keys >> SHIFT
    return keys
