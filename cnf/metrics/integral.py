"""The integral of a density."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cnf.arguments import Ambient, Count, Finite, checked
from cnf.flows import Flow


@checked
@torch.no_grad()
def normalization(
    flow: Flow, low: Sequence[Finite], high: Sequence[Finite], *, points: Ambient = 200, batch_size: Count = 4096
) -> float:
    """`∫ p(x) dx` over a box by the midpoint rule: 1 for a density that lies within it and is solved well.

    Args:
        flow: A density in one or two dimensions.
        low: Lower corner.
        high: Upper corner.
        points: Points along each side.
        batch_size: Points at a time.

    Raises:
        ValueError: More than two dimensions, or corners that are no box.
    """
    dims = flow.event_shape.numel()
    if dims > 2 or not len(low) == len(high) == dims or not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(
            f"a grid needs 1 or 2 dimensions and corners low < high of that length, "
            f"got {dims} dimensions, low={tuple(low)}, high={tuple(high)}"
        )
    like = {"dtype": flow.base.dtype, "device": flow.base.device}
    steps = [(b - a) / points for a, b in zip(low, high, strict=True)]
    axes = [a + step * (torch.arange(points, **like) + 0.5) for a, step in zip(low, steps, strict=True)]  # type: ignore[call-overload]
    grid = torch.cartesian_prod(*axes).reshape(-1, *flow.event_shape)
    total = sum(flow.log_prob(part).double().exp().sum().item() for part in grid.split(batch_size))
    return total * math.prod(steps)
