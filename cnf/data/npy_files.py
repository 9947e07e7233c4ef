"""Tables in `.npy` files, as memory maps where the file holds float32 or float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnf.data.kinds import NUMERIC
from cnf.data.table import Table, check_finite, default_columns, positions, shortened, take
from cnf.errors import DataError


def read_npy(path: Path, only: Sequence[str] | None) -> Table:
    """Read a `.npy` file; see `cnf.data.load_table`."""
    values = open_npy(path)
    columns = default_columns(values.shape[1])
    wanted = positions(path, columns, only)
    table = Table(take(values, wanted), tuple(columns[i] for i in wanted), path.stem)
    check_finite(path, table, lambda rows: f"rows {shortened(rows)} (counted from 0)")
    return table


def open_npy(path: Path) -> np.ndarray:
    """An array `(N, D)` of float32 or float64; a memory map if the file has one of these types.

    Raises:
        DataError: The file holds something else, or is damaged.
    """
    try:
        values: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy reads the head of the file as Python, which can fail in any way
        raise DataError(
            f"{path}: expected an array of numbers, got a file that numpy cannot map "
            f"({type(error).__name__}: {str(error)[:200]}); "
            "write one array to it with numpy.save, with a dtype of numbers and not of objects, or download it again"
        ) from error
    if values.dtype.kind not in NUMERIC:
        remedy = "save the numbers alone, as array.astype('float32')"
        if values.dtype.kind == "c":
            remedy = "save real and imaginary parts as columns, as array.view(array.real.dtype)"
        raise DataError(f"{path}: expected an array of real numbers, got {values.dtype}; {remedy}")
    if values.ndim not in (1, 2) or values.size == 0:
        raise DataError(
            f"{path}: expected an array of shape (rows, columns), got {values.shape}; "
            "reshape it to one row per sample, none empty"
        )
    values = values if values.ndim == 2 else values[:, None]
    return values if values.dtype in (np.float32, np.float64) else _as_doubles(path, values)


def _as_doubles(path: Path, values: np.ndarray) -> np.ndarray:
    try:
        return values.astype(np.float64)
    except MemoryError as error:
        raise DataError(
            f"{path}: {values.shape} numbers of {values.dtype} do not fit in memory as float64; "
            "save them as float32 or float64, which stay on disk"
        ) from error
