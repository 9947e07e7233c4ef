"""Solutions of equations as functions of what is in the equations, with derivatives of every order.

An inverse without a closed form is found by an iteration that is not differentiated. Its derivatives come from the
implicit function theorem: where `F(x; θ) = 0`, `dx = −(∂F/∂x)⁻¹ (∂F/∂θ) dθ`. That is applied at the solution as a
function of θ, not as a constant, so that the result can be differentiated again. The residual that is kept in a graph
with a constant solution, the usual way, has a right first derivative and wrong ones of higher order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp, vjp, vmap

from cnf.errors import ConvergenceError

Self = TypeVar("Self", bound="Equation")
Dims = tuple[int | None, ...]  # which axis of each parameter is one of `vmap`


@dataclass(frozen=True)
class Equation(ABC):
    """An equation `F(x; θ) = 0` with one solution x for given parameters θ, all of them tensors.

    To write one, define `solve`, `residual` and `divide`, and call `solution(equation, *parameters)`.

    Attributes:
        levels: The axes of the parameters over which `vmap` runs, one entry for each `vmap`; set by `batched`.

    Example: The square root, `x² = θ`.
        >>> import torch, cnf
        >>> class Root(cnf.discrete.Equation):
        ...     def solve(self, square):
        ...         return square.sqrt()
        ...
        ...     def residual(self, x, square):
        ...         return x * x - square
        ...
        ...     def divide(self, v, x, square, *, transposed):
        ...         return v / (2 * x)
        >>> square = torch.tensor([4.0, 9.0], requires_grad=True)
        >>> cnf.discrete.solution(Root(), square).sum().backward()
        >>> square.grad
        tensor([0.2500, 0.1667])
    """

    levels: tuple[Dims, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def solve(self, *parameters: Tensor) -> Tensor:
        """x, by any means and without a gradient."""

    @abstractmethod
    def residual(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """`F(x; θ)`."""

    @abstractmethod
    def divide(self, v: Tensor, x: Tensor, *parameters: Tensor, transposed: bool) -> Tensor:
        """`(∂F/∂x)⁻¹ v`, or that of the transposed matrix; differentiable in all of its arguments."""

    def batched(self: Self, dims: Dims) -> Self:
        """The same equation, many times side by side."""
        return replace(self, levels=(*self.levels, dims))

    def mapped(self, function: Callable[..., Any], ahead: int) -> Callable[..., Any]:
        """A function of `ahead` tensors like x, then the parameters, for all equations side by side."""
        for dims in self.levels:
            function = vmap(function, in_dims=(*[0] * ahead, *dims))
        return function


def solution(equation: Equation, *parameters: Tensor) -> Tensor:
    """The x with `F(x; θ) = 0`, differentiable in θ as often as F is: `dx = −(∂F/∂x)⁻¹ (∂F/∂θ) dθ`.

    Args:
        equation: F.
        *parameters: θ.

    Example: See `Equation`.
        >>> import torch, cnf
        >>> cube = cnf.discrete.Monotone(lambda x, c: (x**3 - c, 3 * x**2), lambda c: (0 * c, 1 + c))
        >>> cnf.discrete.solution(cube, torch.tensor([8.0, 27.0])).round(decimals=4)
        tensor([2., 3.])
    """
    x: Tensor = _Solution.apply(equation, *parameters)
    if x.requires_grad:
        x = _Kept.apply(equation, x, equation.residual(x.detach(), *parameters), *parameters)
    return x


def not_converged(what: str, done: Tensor, remedy: str) -> ConvergenceError:
    """The error of an iteration that ends before all rows `(N, …)` are done; it names the others."""
    rows = (~done).reshape(len(done), -1).any(1).nonzero().flatten()
    return ConvergenceError(what, rows.tolist(), f"look for NaN or huge values in these rows{remedy}.")


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(equation: Equation, *parameters: Tensor) -> Tensor:
        with torch.no_grad():
            return equation.solve(*parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.equation, *parameters = inputs
        ctx.save_for_backward(output, *parameters)
        ctx.save_for_forward(output, *parameters)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * len(ctx.saved_tensors)
        x, *parameters = ctx.saved_tensors  # x is this function's output: differentiated again, it moves with θ
        multiplier = ctx.equation.divide(gradient, x, *parameters, transposed=True)
        pull: Callable[[Tensor], tuple[Tensor, ...]] = vjp(partial(ctx.equation.residual, x), *parameters)[1]
        return None, *pull(-multiplier)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        x, *parameters = (forward_ad.unpack_dual(tensor).primal for tensor in ctx.saved_tensors)
        with forward_ad._set_fwd_grad_enabled(True):  # torch turns it off here, and a derivative of this one would be 0
            moves = _filled(tangents, parameters)
            pushed: Tensor = jvp(partial(ctx.equation.residual, x), tuple(parameters), moves)[1]
            divided: Tensor = ctx.equation.divide(-pushed, x, *parameters, transposed=False)
        return divided

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], equation: Equation, *parameters: Tensor) -> tuple[Tensor, int]:
        return solution(equation.batched(in_dims[1:]), *parameters), 0


class _Kept(torch.autograd.Function):
    """The identity on a solution, with a short way for first derivatives: through the residual's own graph.

    Only where the gradient itself is to have a graph does it go through `_Solution`, which evaluates F once more.
    """

    @staticmethod
    def forward(equation: Equation, x: Tensor, residual: Tensor, *parameters: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.equation, x, _, *parameters = inputs
        ctx.save_for_backward(x, *parameters)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        unused = (None,) * len(parameters)
        if torch.is_grad_enabled():
            return None, gradient, None, *unused
        return None, None, -ctx.equation.divide(gradient, x, *parameters, transposed=True), *unused

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: Tensor, *others: Tensor | None) -> Tensor:
        return tangent.view_as(tangent)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], equation: Equation, x: Tensor, *others: Tensor
    ) -> tuple[Tensor, int | None]:
        return x.view_as(x), in_dims[1]


def _filled(tangents: Sequence[Tensor | None], like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """With zeros in the place of what does not move."""
    return tuple(torch.zeros_like(x) if v is None else v for v, x in zip(tangents, like, strict=True))
