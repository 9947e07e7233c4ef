"""Roots of increasing functions of one variable, many at a time, for inverses without a closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnf.discrete.implicit import Equation, not_converged
from cnf.tracing import BATCH, require_visible

REMEDY = " and in the parameters, or loosen the tolerance"
Increasing = Callable[..., tuple[Tensor, Tensor]]  # x (and parameters) -> f(x), f'(x), elementwise


@dataclass(frozen=True)
class Monotone(Equation):
    """An equation `f(x; θ) = 0` for every element, f increasing in x; `solution(Monotone(…), *parameters)` is its root.

    Args:
        function: f, elementwise; `f(x, *parameters)` returns the value and the slope `∂f/∂x`.
        bracket: From the parameters, a point below and one above the root; they are moved out where that is wrong.

    Example:
        >>> import torch, cnf
        >>> def function(x, c):
        ...     return x + x.tanh() - c, 2 - x.tanh() ** 2
        >>> shifted = cnf.discrete.Monotone(function, lambda c: (c - 1, c + 1))
        >>> x = cnf.discrete.solution(shifted, torch.tensor([1.0]))
        >>> (x + x.tanh()).round(decimals=4)
        tensor([1.])
    """

    function: Increasing
    bracket: Callable[..., tuple[Tensor, Tensor]]

    def solve(self, *parameters: Tensor) -> Tensor:
        low, high = self.mapped(self.bracket, 0)(*parameters)
        function = self._function
        return solve_monotone(lambda x: function(x, *parameters), torch.zeros_like(low), low, high)

    def residual(self, x: Tensor, *parameters: Tensor) -> Tensor:
        return self._function(x, *parameters)[0]

    def divide(self, v: Tensor, x: Tensor, *parameters: Tensor, transposed: bool) -> Tensor:
        slope = self._function(x, *parameters)[1]
        return v / slope.clamp(min=torch.finfo(slope.dtype).tiny)

    @property
    def _function(self) -> Increasing:
        return self.mapped(self.function, 1)


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
    """Solve `f(x) = target` for every element, by Newton's step where it stays in the bracket, else by bisection.

    It has no gradient; `Monotone` has one.

    Args:
        function: Increasing `f`, elementwise; returns `f(x)` and `f'(x)`.
        target: What `f` should be, `(N, …)`.
        low: Below the root. A bracket without a root in it is widened.
        high: Above the root.
        tolerance: Largest last step, relative to `1 + |x|`; a few units in the last place of the dtype by default.
        max_steps: Evaluations of `function` before giving up.

    Raises:
        ConvergenceError: The tolerance is not met; it names the rows.

    Example:
        >>> import torch, cnf
        >>> target = torch.tensor([8.0, 27.0])
        >>> cnf.discrete.solve_monotone(lambda x: (x**3, 3 * x**2), target, torch.zeros(2), target).round(decimals=4)
        tensor([2., 3.])
    """
    require_visible(target, what="an inverse by iteration", remedy=BATCH)
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
    raise not_converged(f"no root after {max_steps} steps", done, REMEDY)


def _widened(function: Increasing, target: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """A bracket that holds the root, each end moved out by doubled widths for as long as it has to be."""
    width = (high - low).clamp(min=1.0)
    for _ in range(100):
        too_high, too_low = function(low)[0] > target, function(high)[0] < target
        if not (too_high | too_low).any():
            return low, high
        low, high = torch.where(too_high, low - width, low), torch.where(too_low, high + width, high)
        width = 2 * width
    raise not_converged("no bracket holds the root", ~(too_high | too_low), REMEDY)
