"""The order in which training reads rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from cnf.arguments import Count, Seed, Whole, checked
from cnf.errors import DataError


@checked
class Batches(Sampler[list[int]]):
    """Batches of rows in an order that depends on seed and step only, so that a run can be resumed at any step.

    Each epoch is a new permutation; the rows after its last whole batch are left out of that epoch.

    Args:
        rows: Number of rows.
        batch_size: Rows per step, over all processes together.
        seed: Random seed of the permutations.
        start: First step.
        rank: Number of this process.
        world: Number of processes that share a batch.

    Raises:
        ValueError: `rank` is not below `world`.
        DataError: A batch has fewer rows than there are processes.

    Example:
        >>> batches = iter(Batches(5, 2, seed=1))
        >>> first, second = next(batches), next(batches)
        >>> len(first), len({*first, *second})
        (2, 4)
        >>> next(iter(Batches(5, 2, seed=1, start=1))) == second
        True
    """

    def __init__(
        self, rows: Count, batch_size: Count, *, seed: Seed = 0, start: Whole = 0, rank: Whole = 0, world: Count = 1
    ) -> None:
        self.rows, self.batch_size = rows, min(batch_size, rows)
        self.seed, self.start, self.rank, self.world = seed, start, rank, world
        if rank >= world:
            raise ValueError(f"rank must be below world, got rank {rank} of {world}")
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
