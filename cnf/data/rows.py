"""Rows of any kind of data as a dataset, and the order in which training sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from cnf.arguments import Count, Seed, Whole, checked
from cnf.errors import DataError

Batch = tuple[Tensor, Tensor | None, Tensor]  # x, context, the numbers of the rows


class Rows(Dataset[Any]):
    """A tensor, an array, a memory map or a map-style dataset, with or without context, read by lists of rows.

    Args:
        data: `(N, *event)` as a tensor or array (a memory-mapped `.npy` stays on disk), a pair of such for data and
            context, or a `torch.utils.data.Dataset` whose items are `x` or `(x, context)`.
        dtype: What the rows are converted to.
        choice: Numbers of the rows that belong to this part of the data; all by default.

    Raises:
        DataError: No rows, data and context of unequal length, or values in memory that are NaN or infinite.
        TypeError: A kind of data that has no rows.
    """

    def __init__(self, data: Any, dtype: torch.dtype = torch.float32, *, choice: np.ndarray | None = None) -> None:
        self.dtype = dtype
        self.items: Dataset[Any] | None = data if isinstance(data, Dataset) else None
        self.parts: tuple[Any, ...] = () if self.items is not None else data if isinstance(data, tuple) else (data,)
        for part in self.parts:
            if not isinstance(part, (Tensor, np.ndarray)) or part.ndim < 1:
                raise TypeError(
                    f"data must be a tensor, an array, a pair of them or a Dataset, got {type(part).__name__}"
                )
        lengths = {len(part) for part in self.parts or (self.items,)}
        if len(self.parts) > 2 or len(lengths) != 1:
            raise DataError(f"data must be x or (x, context) with as many rows each, got lengths {sorted(lengths)}")
        self.choice = np.arange(lengths.pop()) if choice is None else choice
        self.length = len(self.choice)
        if not self.length:
            raise DataError("there are no rows: expected at least one")
        if self.parts and not any(isinstance(part, np.memmap) for part in self.parts):
            self.read(range(self.length))  # finds NaN before training does

    def __len__(self) -> int:
        return self.length

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        return self.read(rows)

    def read(self, rows: Sequence[int]) -> Batch:
        """The given rows as `(x, context, rows)`.

        Raises:
            DataError: NaN or infinite values among them.
        """
        chosen = self.choice[np.asarray(rows, dtype=np.int64)]
        numbers = torch.from_numpy(chosen)
        if self.items is not None:
            gathered = default_collate([self.items[int(row)] for row in chosen])
            parts = gathered if isinstance(gathered, (tuple, list)) else (gathered,)
        else:
            parts = [part[numbers if isinstance(part, Tensor) else chosen] for part in self.parts]
        tensors = [
            torch.as_tensor(np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part) for part in parts
        ]
        x, *rest = (tensor.detach().to(self.dtype) for tensor in tensors)  # samples of a base may carry a graph
        context = rest[0] if rest else None
        for name, values in (("x", x), ("context", context)):
            _check_finite(name, values, numbers)
        return x, context, numbers


def as_rows(data: Any, dtype: torch.dtype = torch.float32) -> Rows:
    """Data of any kind as `Rows`."""
    return data if isinstance(data, Rows) else Rows(data, dtype)


def _check_finite(name: str, values: Tensor | None, numbers: Tensor) -> None:
    if values is None or values.isfinite().all():
        return
    bad = numbers[(~values.isfinite()).flatten(1).any(1)]
    raise DataError(
        f"{name} has NaN or infinite values in {len(bad)} of {len(numbers)} rows read, first in rows "
        f"{bad[:5].tolist()}: remove or impute them"
    )


@checked
class Batches(Sampler[list[int]]):
    """Batches of rows in an order that depends on the seed and the step alone, so that a run can be taken up anywhere.

    Each epoch is a new permutation; what is left of it after the last whole batch waits for another epoch.

    Args:
        rows: Number of rows.
        batch_size: Rows a step, over all processes together.
        seed: Of the permutations.
        start: Step to begin with.
        rank: Which process this is.
        world: How many processes share a batch.
    """

    def __init__(
        self, rows: Count, batch_size: Count, *, seed: Seed = 0, start: Whole = 0, rank: Whole = 0, world: Count = 1
    ) -> None:
        self.rows, self.batch_size = rows, min(batch_size, rows)
        self.seed, self.start, self.rank, self.world = seed, start, rank, world
        if self.batch_size < world:
            raise DataError(f"a batch of {self.batch_size} rows cannot be shared by {world} processes")

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return self.rows // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        step, share = self.start, self.batch_size // self.world
        while True:
            epoch, position = divmod(step, self.per_epoch)
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.rows, generator=generator)
            for first in range(position * self.batch_size, self.per_epoch * self.batch_size, self.batch_size):
                begin = first + self.rank * share
                yield order[begin : begin + share].tolist()
                step += 1
