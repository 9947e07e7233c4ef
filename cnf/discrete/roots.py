"""Roots of increasing functions of one variable, many at a time, for inverses without a closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnf.errors import ConvergenceError

Increasing = Callable[[Tensor], tuple[Tensor, Tensor]]  # x -> f(x), f'(x), elementwise


@torch.no_grad()
def solve_monotone(
    function: Increasing,
    target: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    tolerance: float | None = None,
    max_steps: int = 200,
) -> Tensor:
    """Solve `f(x) = target` for every element: Newton's step where it stays in the bracket, bisection where not.

    There is no gradient: `attach_gradient` adds it to the root.

    Args:
        function: Increasing `f`, elementwise; returns `f(x)` and `f'(x)`.
        target: What `f` should be, `(N, …)`.
        low: Below the root. A bracket without a root in it is widened.
        high: Above the root.
        tolerance: Largest last step, relative to `1 + |x|`; a few units in the last place of the dtype by default.
        max_steps: Evaluations of `function` before giving up.

    Raises:
        ConvergenceError: The tolerance is not met; it names the rows.
    """
    tolerance = 4 * torch.finfo(target.dtype).eps if tolerance is None else tolerance
    low, high = _widened(function, target, *torch.broadcast_tensors(low, high, target)[:2])
    x, last = (low + high) / 2, high - low
    for _ in range(max_steps):
        value, slope = function(x)
        residual = value - target
        above = residual > 0
        low, high = torch.where(above, low, x), torch.where(above, x, high)
        newton = x - residual / slope
        inside = (newton >= low) & (newton <= high) & ((newton - x).abs() <= last / 2)
        moved = torch.where(residual == 0, x, torch.where(inside, newton, (low + high) / 2))
        last = (moved - x).abs()
        x, done = moved, (last <= tolerance * (1 + moved.abs())) & ~residual.isnan()
        if done.all():
            return x
    raise _failure(f"no root after {max_steps} steps", done)


def attach_gradient(function: Increasing, target: Tensor, root: Tensor) -> Tensor:
    """The root with its gradient in the target and in what `function` depends on, by the implicit function theorem.

    `f(x) = target` gives `dx = (dtarget − ∂f) / f'`; the value stays what it was.
    """
    root = root.detach()
    value, slope = function(root)
    residual = value - target
    return root - (residual - residual.detach()) / slope.detach().clamp(min=torch.finfo(slope.dtype).tiny)


def _widened(function: Increasing, target: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """A bracket that holds the root, each end moved out by doubled widths for as long as it has to be."""
    width = (high - low).clamp(min=1.0)
    for _ in range(100):
        too_high, too_low = function(low)[0] > target, function(high)[0] < target
        if not (too_high | too_low).any():
            return low, high
        low, high = torch.where(too_high, low - width, low), torch.where(too_low, high + width, high)
        width = 2 * width
    raise _failure("no bracket holds the root", ~(too_high | too_low))


def _failure(what: str, done: Tensor) -> ConvergenceError:
    samples = (~done).reshape(len(done), -1).any(1).nonzero().flatten()
    return ConvergenceError(
        what,
        samples.tolist(),
        "look for NaN or huge values in these rows and in the parameters, or loosen the tolerance.",
    )
