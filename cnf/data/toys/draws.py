"""Random numbers in float64, on the generator's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from cnf.inputs import as_shape


def _device(generator: Generator | None) -> torch.device | None:
    return None if generator is None else generator.device


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    """Uniform numbers between two ends."""
    unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=_device(generator))
    return low + (high - low) * unit


def normal(n: int, generator: Generator | None) -> Tensor:
    """Standard normal points on the plane, `(n, 2)`."""
    return torch.randn(n, 2, generator=generator, dtype=torch.float64, device=_device(generator))


def choice(options: int, n: int, generator: Generator | None) -> Tensor:
    """Draw one of `0, ..., options - 1` for each of `n` points."""
    return torch.randint(options, (n,), generator=generator, device=_device(generator))


def sign(n: int, generator: Generator | None) -> Tensor:
    """Draw `+1` or `-1` for each of `n` points, as a column."""
    return 2.0 * choice(2, n, generator)[:, None] - 1


def points(
    sampler: Callable[[int, Generator | None], Tensor],
    shape: int | Sequence[int],
    generator: Generator | None,
    dtype: torch.dtype,
) -> Tensor:
    """Points of a sampler in a batch shape, `(*shape, 2)`."""
    batch = as_shape(shape)
    return sampler(batch.numel(), generator).to(dtype).reshape(*batch, 2)
