"""One column given the others, from a joint density, by quadrature."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cnf.arguments import Matrix, Size, checked
from cnf.flows import Flow
from cnf.metrics.rows import log_prob_of_rows

SEARCHES = 2  # grids that find where the mass is, before the one that integrates it
MASS = 1e-4  # of the highest density: what is lower is left out of the next grid


class Cells(NamedTuple):
    """Every cell given the other cells of its row.

    Attributes:
        pit: `F(x_j | x_−j)`, `(N, D)`: uniform in each column if the density is that of the rows.
        log_prob: `log p(x_j | x_−j)` in nats, `(N, D)`.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> cells_given_others(flow, torch.zeros(1, 2), torch.tensor([[-5.0, -5.0], [5.0, 5.0]])).pit
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """

    pit: Tensor
    log_prob: Tensor


@checked
@torch.no_grad()
def cells_given_others(
    flow: Flow, x: Matrix, reference: Matrix, context: Tensor | None = None, *, points: Size = 16
) -> Cells:
    """Distribution of each column given the others, `p(x_j | x_−j) = p(x) / ∫ p(x_1, …, y, …, x_D) dy`.

    Two grids find where a conditional has its mass, and a third one integrates it by the trapezoid rule; these are
    `3 · points · N · D` densities.

    Args:
        flow: A density of vectors.
        x: Rows `(N, D)`.
        reference: Rows that show where each column has its values; a grid begins half of their range beyond them.
        context: Conditions `(N, C)` of a conditional flow.
        points: Points of a grid.

    Returns:
        Two tensors in float64; a row whose density cannot be found has NaN.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> x = torch.tensor([[0.0, 1.0]])
        >>> cells_given_others(flow, x, torch.tensor([[-4.0, -4.0], [4.0, 4.0]])).log_prob
        tensor([[-0.9189, -1.4189]], dtype=torch.float64)
    """
    joint = x.double(), _log_prob(flow, x, context)
    ends = torch.stack((torch.minimum(x.amin(0), reference.amin(0)), torch.maximum(x.amax(0), reference.amax(0))))
    reach = 0.5 * (ends[1] - ends[0])
    ends = torch.stack((ends[0] - reach, ends[1] + reach)).double()
    columns = [_column(flow, j, *joint, context, ends[:, j], points) for j in range(x.shape[1])]
    return Cells(*(torch.stack(parts, 1) for parts in zip(*columns, strict=True)))


def _column(
    flow: Flow, j: int, x: Tensor, log_prob: Tensor, context: Tensor | None, ends: Tensor, points: int
) -> tuple[Tensor, Tensor]:
    """F and the log-density of one column given the others, `(N,)` each."""
    own, steps = x[:, j : j + 1], torch.arange(points, dtype=x.dtype)
    places, values = own, log_prob[:, None]  # of all points so far, in rising order
    low, high = ends.expand(len(x), 2).unbind(1)
    for _ in range(SEARCHES):
        grid = low[:, None] + (steps + 0.5) / points * (high - low)[:, None]
        places, order = torch.cat((places, grid), 1).sort(1)
        values = torch.cat((values, _on_grid(flow, j, x, grid, context)), 1).gather(1, order)
        low, high = _bulk(places, values)
    width = ((high - low) / points)[:, None].clamp(min=1e-300)
    shift = ((own - low[:, None]) / width).remainder(1)  # so that the value is one of the points
    grid = low[:, None] + (steps + shift) * width
    return _integrated(grid - own, width, _on_grid(flow, j, x, grid, context), log_prob)


def _integrated(distance: Tensor, width: Tensor, values: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """F and the log-density from the joint log-densities on an even grid, the value being one of its points.

    By Euler and Maclaurin, the integral up to the value is `h (Σ f + f₀/2) − h²/12 f₀'`, the sum over what lies below.
    """
    top = values.amax(1, keepdim=True)
    density = (values - top).exp()
    total, place = density.sum(1), (distance / width).round()
    below = (density * (place < 0)).sum(1) + 0.5 * (density * (place == 0)).sum(1)
    slope = (density * ((place == 1).int() - (place == -1).int())).sum(1) / 2
    return ((below - slope / 12) / total).clamp(0, 1), own - top[:, 0] - (total * width[:, 0]).log()


def _on_grid(flow: Flow, j: int, x: Tensor, grid: Tensor, context: Tensor | None) -> Tensor:
    """The joint log-densities with other values in column j, `(N, points)`."""
    rows = x[:, None].repeat(1, grid.shape[1], 1)
    rows[:, :, j] = grid
    conditions = None if context is None else context.repeat_interleave(grid.shape[1], 0)
    found = _log_prob(flow, rows.flatten(0, 1), conditions).reshape(grid.shape)
    return found.nan_to_num(nan=-torch.inf)  # far out a solve may fail


def _bulk(places: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of what has a density, one point more on each side."""
    inside = values >= values.amax(1, keepdim=True) + torch.tensor(MASS).log()
    last = places.shape[1] - 1
    first = (inside.int().argmax(1) - 1).clamp(min=0)
    end = (last - inside.flip(1).int().argmax(1) + 1).clamp(max=last)
    return places.gather(1, first[:, None])[:, 0], places.gather(1, end[:, None])[:, 0]


def _log_prob(flow: Flow, x: Tensor, context: Tensor | None) -> Tensor:
    rows = x if context is None else (x, context)
    return log_prob_of_rows(flow, rows).double()
