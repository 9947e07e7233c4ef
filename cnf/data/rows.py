"""Rows of any kind of data as a dataset."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from cnf.data.kinds import array_of, length_of, sorted_out
from cnf.errors import DataError

Batch = tuple[Tensor, Tensor | None, Tensor]  # x, context, the numbers of the rows
WHOLE = 2**26  # bytes of data up to which a fingerprint is of all rows
SOME, FEW = 1_024, 32  # rows it is of otherwise, of arrays and of datasets


class Rows(Dataset[Any]):
    """The rows of a tensor, an array, a memory map or a map-style dataset, with or without context.

    `cnf.fit` and `cnf.metrics` make these from whatever they are given. For a data set of one's own, see `cnf.data`.

    Args:
        data: `(N, *event)` as a tensor or array (a memory-mapped `.npy` stays on disk), a pair of these for data and
            context, or a `torch.utils.data.Dataset` whose items are `x` or `(x, context)`.
        dtype: Type that the rows are converted to.
        choice: Numbers of the rows that belong to this part of the data; all by default.
        columns: Names of the columns of the data, for messages.
        context_columns: Names of those of the context.

    Attributes:
        checked: Whether the columns have been checked, see `cnf.data.columns.check_rows`.

    Raises:
        DataError: No rows, data and context of unequal length, complex, masked or non-numeric values, or values in
            memory that are NaN or infinite.
        TypeError: A kind of data that has no rows; the message says how to convert it.

    Example:
        >>> import torch
        >>> rows = Rows((torch.arange(6.0).reshape(3, 2), torch.tensor([[0.0], [1.0], [2.0]])))
        >>> x, context, numbers = rows.read([2, 0])
        >>> x.tolist(), context.tolist(), numbers.tolist()
        ([[4.0, 5.0], [0.0, 1.0]], [[2.0], [0.0]], [2, 0])
    """

    def __init__(
        self,
        data: Any,
        dtype: torch.dtype = torch.float32,
        *,
        choice: np.ndarray | None = None,
        columns: Sequence[str] = (),
        context_columns: Sequence[str] = (),
    ) -> None:
        self.dtype, self.columns, self.context_columns = dtype, tuple(columns), tuple(context_columns)
        self.checked = False
        self.items, self.parts = sorted_out(data)
        lengths = {len(part) for part in self.parts} if self.items is None else {length_of(self.items)}
        if len(lengths) != 1:
            raise DataError(f"data must be x or (x, context) with as many rows each, got lengths {sorted(lengths)}")
        self.choice = np.arange(lengths.pop()) if choice is None else choice
        self.length = len(self.choice)
        if not self.length:
            raise DataError("there are no rows: expected at least one")
        if self.parts and not any(isinstance(part, np.memmap) for part in self.parts):
            self.read(range(self.length))  # finds NaN before training does

    def __len__(self) -> int:
        return self.length

    @property
    def given(self) -> int:
        """Number of rows of all parts of the data."""
        return len(self.parts[0]) if self.items is None else length_of(self.items)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        return self.read(rows)

    def read(self, rows: Sequence[int]) -> Batch:
        """The given rows as `(x, context, rows)`.

        Raises:
            DataError: NaN or infinite values among them.
        """
        chosen = self.choice[np.asarray(rows, dtype=np.int64)]
        numbers = torch.from_numpy(chosen)
        x, *context = self._given(chosen)
        return (
            self._converted("x", x, numbers),
            self._converted("context", context[0], numbers) if context else None,
            numbers,
        )

    def raw(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray] | None:
        """As `read`, but in the type that was given; None for a `Dataset`, whose items may change between reads."""
        if self.items is not None:
            return None
        chosen = self.choice[rows]
        x, *context = (_array(part) for part in self._given(chosen))
        return x, context[0] if context else None, chosen

    def _given(self, chosen: np.ndarray) -> Sequence[Tensor]:
        if self.items is not None:
            return self._items(chosen)
        numbers = torch.from_numpy(chosen)
        return [part[numbers] if isinstance(part, Tensor) else array_of(part[chosen]) for part in self.parts]

    def _items(self, chosen: np.ndarray) -> Sequence[Tensor]:
        """Items of the dataset, put together; each is x, or x and context."""
        assert self.items is not None
        items = [self.items[int(row)] for row in chosen]
        try:
            gathered = default_collate(items)
        except (TypeError, RuntimeError) as error:
            raise TypeError(f"items of a dataset must be numbers of one shape, x or (x, context): {error}") from error
        parts = gathered if isinstance(gathered, (tuple, list)) else (gathered,)
        if not 1 <= len(parts) <= 2 or not all(isinstance(part, Tensor) and not part.is_complex() for part in parts):
            raise TypeError(
                f"items of a dataset must be x or (x, context) of real numbers, got {type(items[0]).__name__}"
            )
        return parts

    def _converted(self, name: str, part: Tensor, numbers: Tensor) -> Tensor:
        values = part.detach().to(self.dtype)  # samples of a base may carry a graph
        bad = ~values.isfinite()
        if bad.any():
            rows = numbers[bad.flatten(1).any(1).cpu()]
            raise DataError(_reason(self._label(name, bad), part, values, rows, len(numbers), bool(self.columns)))
        return values

    def _label(self, name: str, bad: Tensor) -> str:
        """The columns that are not finite, by their names or numbers; of events with several axes the data as such."""
        if bad.dim() != 2:
            return name
        names = self.columns if name == "x" else self.context_columns
        places = bad.any(0).nonzero()[:5, 0].tolist()
        return ", ".join(repr(names[i]) if names else f"column {i} of {name}" for i in places)

    def fingerprint(self) -> str:
        """A checksum of the rows as they are read: of all rows if they are few, otherwise of evenly spread ones.

        For a dataset whose items change between reads (augmentation), of the number and shape of its items only.
        """
        x, context, _ = self.read([0])
        shapes = [
            self.length,
            tuple(x.shape[1:]),
            None if context is None else tuple(context.shape[1:]),
            str(self.dtype),
        ]
        digest = hashlib.sha256(repr(shapes).encode())
        if self.items is not None:
            digest.update(self._sameness(_spread(self.length, FEW)))
            return digest.hexdigest()
        size = x.element_size() * self.length * (x.numel() + (0 if context is None else context.numel()))
        rows = range(self.length) if size <= WHOLE else _spread(self.length, SOME)
        for first in range(0, len(rows), SOME):
            digest.update(self._bytes(rows[first : first + SOME]))
        return digest.hexdigest()

    def _sameness(self, rows: Sequence[int]) -> bytes:
        once, again = self._bytes(rows), self._bytes(rows)
        return once if once == again else b""

    def _bytes(self, rows: Sequence[int]) -> bytes:
        parts = [part for part in self.read(rows)[:2] if part is not None]
        return b"".join(part.cpu().contiguous().view(torch.uint8).numpy().tobytes() for part in parts)


def _array(part: Tensor) -> np.ndarray[Any, Any]:
    part = part.detach().cpu()
    return (part.float() if part.dtype is torch.bfloat16 else part).numpy()  # numpy knows no bfloat16


def as_rows(data: Any, dtype: torch.dtype = torch.float32) -> Rows:
    """Data of any kind as `Rows` that are read in a dtype."""
    if not isinstance(data, Rows):
        return Rows(data, dtype)
    rows = copy.copy(data)
    rows.dtype = dtype
    return rows


def row_weights(rows: Rows, weights: Any) -> Tensor:
    """Weights with mean 1, in float64, by the numbers that rows have in their batches.

    Args:
        rows: N of them.
        weights: `(N,)`, not negative and finite, not all 0.

    Raises:
        DataError: Any other weights.
        TypeError: No numbers.
    """
    try:
        given = torch.as_tensor(weights).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"weights must be numbers, one a row, got {type(weights).__name__}: {error}") from error
    if given.shape != (len(rows),) or given.is_complex():
        raise DataError(
            f"weights must be one real number a row, ({len(rows)},), got {tuple(given.shape)} of {given.dtype}"
        )
    given = given.double()
    bad = (~(given.isfinite() & (given >= 0))).nonzero().flatten()
    if len(bad):
        raise DataError(
            f"weights must be finite and not negative, {len(bad)} are not, first in rows {bad[:5].tolist()}"
        )
    if not given.any():
        raise DataError("weights must not all be 0")
    placed = torch.zeros(int(rows.choice.max()) + 1, dtype=torch.float64)
    placed[torch.from_numpy(rows.choice)] = given / given.mean()
    return placed


def _spread(length: int, number: int) -> list[int]:
    """Rows from the first to the last, evenly spread."""
    return sorted(set(np.linspace(0, length - 1, number).astype(np.int64).tolist()))


def _reason(name: str, part: Tensor, values: Tensor, bad: Tensor, read: int, named: bool) -> str:
    """Why values are not finite: they were given so, or they overflow in the type that they are read in."""
    if part.isfinite().all():
        dtype, largest = str(values.dtype).removeprefix("torch."), torch.finfo(values.dtype).max
        return (
            f"{name} overflows {dtype}, which ends at {largest:.3g}, in {len(bad)} of {read} rows read, first in rows "
            f"{bad[:5].tolist()}, with values up to {part.double().abs().max().item():.3g}: divide it by a power of ten"
            + ("" if named else ", or use flow.double()")
        )
    return (
        f"{name} has NaN or infinite values in {len(bad)} of {read} rows read, first in rows "
        f"{bad[:5].tolist()}: remove or impute them"
    )
