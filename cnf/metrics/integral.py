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
    """Integral `∫ p(x) dx` over a box by the midpoint rule.

    It is 1 for a density inside the box that is solved accurately. Densities of more than two dimensions are not
    integrated.

    Args:
        flow: A density in one or two dimensions.
        low: Lower corner of the box.
        high: Upper corner of the box.
        points: Points along each side.
        batch_size: Points evaluated together.

    Raises:
        ValueError: More than two dimensions, or corners that do not span a box.

    Example:
        >>> import cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(1))
        >>> round(normalization(flow, [-6], [6]), 6), round(normalization(flow, [0], [6]), 6)
        (1.0, 0.5)
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
