"""Which kinds of data have rows, and advice for those that have none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cnf.errors import DataError

NUMERIC = "fiub"  # kinds of numpy: floats, whole numbers with and without sign, truth values
TABLES = ("pandas", "polars", "pyarrow")

Part = Tensor | np.ndarray[Any, Any]


def sorted_out(data: Any) -> tuple[Dataset[Any] | None, tuple[Part, ...]]:
    """A dataset and no arrays, or no dataset and the arrays x, or x and context.

    Raises:
        TypeError: Data that have no rows.
        DataError: Values that are not real numbers.
    """
    if isinstance(data, TensorDataset):
        data = data.tensors
    elif isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return data, ()
    parts = data if isinstance(data, tuple) else (data,)
    for part in parts:
        _check_kind(part)
        _check_values(part)
    if not 1 <= len(parts) <= 2:
        raise DataError(f"data must be x or (x, context), got a tuple of {len(parts)}")
    return None, parts


def length_of(items: Dataset[Any]) -> int:
    """Number of items of a dataset."""
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(
            f"{type(items).__name__} has no length, so its rows have no numbers: give it a method __len__"
        ) from error


def array_of(part: np.ndarray[Any, Any]) -> Tensor:
    """An array as a tensor; torch takes neither another machine's order of bytes nor more than eight of them."""
    foreign = not part.dtype.isnative or part.dtype.itemsize > 8
    return torch.from_numpy(np.ascontiguousarray(part, dtype=np.float64 if foreign else part.dtype))


def _check_kind(part: Any) -> None:
    if isinstance(part, (Tensor, np.ndarray)) and part.ndim:
        return
    shape = " without dimensions" if isinstance(part, (Tensor, np.ndarray)) else ""
    raise TypeError(
        f"data must be a tensor, an array, a pair (x, context) of them or a map-style Dataset, got "
        f"{type(part).__name__}{shape}: {_remedy(part)}"
    )


def _remedy(part: Any) -> str:
    if isinstance(part, DataLoader):
        return "give its dataset, loader.dataset; batch_size and workers are settings of cnf.FitConfig"
    if isinstance(part, IterableDataset):
        return "its rows have no numbers, which a repeatable order needs; collect them, torch.stack(list(dataset))"
    if type(part).__module__.partition(".")[0] in TABLES:
        return "give its numbers, table.to_numpy()"
    if isinstance(part, Mapping):
        return "give x or (x, context)"
    if isinstance(part, (str, Path)):
        return "read it first, for example np.load(path, mmap_mode='r') or np.loadtxt(path, delimiter=',')"
    if isinstance(part, list) and any(isinstance(item, (Tensor, np.ndarray)) for item in part):
        return "give (x, context) as a tuple, or torch.stack(rows)"
    if isinstance(part, Iterator):
        return "collect its rows, torch.stack(list(rows))"
    if isinstance(part, Iterable):
        return "give torch.tensor(data)"
    return "(N, *event), one row for each sample"


def _check_values(part: Part) -> None:
    """Refuse values that are missing, complex, sparse or not numeric."""
    if isinstance(part, np.ma.MaskedArray):
        raise DataError(
            "data must not be a masked array, for a flow needs all values: "
            "drop their rows, x[~x.mask.any(1)].data, or fill them, x.filled(value)"
        )
    if part.dtype in COMPLEX if isinstance(part, Tensor) else part.dtype.kind == "c":
        raise DataError(
            f"data must be real, got {part.dtype}: give the real and imaginary parts as columns, such as "
            "torch.view_as_real(x).flatten(1)"
        )
    if isinstance(part, Tensor):
        if part.layout is not torch.strided or part.is_quantized or part.is_meta:
            raise DataError(f"data must be a dense tensor, got {part.layout} on {part.device}: give x.to_dense()")
    elif part.dtype.kind not in NUMERIC:
        raise DataError(f"data must be numbers, got an array of {part.dtype}: give numeric columns, x.astype(float)")


COMPLEX = (torch.complex32, torch.complex64, torch.complex128)
