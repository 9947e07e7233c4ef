"""Fixed points of contractions, as functions of what is in the contractions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnf.arguments import Count, Positive, checked
from cnf.discrete.implicit import Equation, not_converged, solution
from cnf.networks.lipschitz import Contraction
from cnf.tracing import BATCH, require_visible


@checked
@dataclass(frozen=True)
class FixedPoint:
    """The inverse of `x + g(x)` by `x ← z − g(x)`, whose error is multiplied by at most `Lip(g)` in each iteration.

    Args:
        tolerance: Largest `|x + g(x) − z|`, relative to `1 + |z|`; `eps^(3/4)` of the dtype by default (2e-12 in
            float64, 6e-6 in float32). The error of x is at most this over `1 − Lip(g)`.
        max_iterations: Iterations before giving up; with `Lip(g) = 0.97`, 2e-12 takes 890.

    Example:
        >>> import torch, cnf
        >>> x = cnf.discrete.FixedPoint().solve(lambda x: 0.5 * x.sin(), torch.tensor([[1.0]]))
        >>> (x + 0.5 * x.sin()).round(decimals=4)
        tensor([[1.]])
    """

    tolerance: Positive | None = None
    max_iterations: Count = 1000

    @torch.no_grad()
    def solve(self, function: Callable[[Tensor], Tensor], target: Tensor, *, margin: float = 1.0) -> Tensor:
        """The x with `x + function(x) = target`, `(N, D)`.

        Args:
            function: A contraction of each row.
            target: `(N, D)`.
            margin: The 1 of `1 + |z|`; 0 for a relative tolerance.

        Raises:
            ConvergenceError: The tolerance is not met; it names the rows.
        """
        require_visible(target, what="an inverse by iteration", remedy=BATCH)
        relative = self.tolerance or torch.finfo(target.dtype).eps ** (3 / 4)
        allowed = relative * (margin + target.abs().amax(-1))
        x = target
        for _ in range(self.max_iterations):
            moved = target - function(x)
            off = (moved - x).abs().amax(-1)
            x = moved
            if (off <= allowed).all():
                return x
        done = off <= allowed
        what = f"no fixed point after {self.max_iterations} iterations, off by {off[~done].max().item():.1e}"
        raise not_converged(what, done, ", lower lipschitz, or loosen the tolerance")


@dataclass(frozen=True)
class Undone(Equation):
    """`x + g(x) = z`, of z and the tensors of g."""

    iteration: FixedPoint

    def solve(self, *parameters: Tensor) -> Tensor:
        moved = self.mapped(lambda x, _, *tensors: Contraction.of(tensors)(x), 1)
        target = self.mapped(lambda z, *_: z, 0)(*parameters)
        return self.iteration.solve(lambda x: moved(x, *parameters), target)

    def residual(self, x: Tensor, *parameters: Tensor) -> Tensor:
        off: Tensor = self.mapped(lambda x, z, *tensors: x + Contraction.of(tensors)(x) - z, 1)(x, *parameters)
        return off

    def divide(self, v: Tensor, x: Tensor, *parameters: Tensor, transposed: bool) -> Tensor:
        levels = tuple((0, 0, *dims[1:]) for dims in self.levels)
        return solution(_Divided(self.iteration, transposed, levels=levels), v, x, *parameters[1:])


@dataclass(frozen=True)
class _Divided(Equation):
    """`y + J y = v`, J the Jacobian of g at x or its transpose, of v, x and the tensors of g."""

    iteration: FixedPoint
    transposed: bool

    def solve(self, *parameters: Tensor) -> Tensor:
        target = self.mapped(lambda v, *_: v, 0)(*parameters)
        if self.levels:
            product = self.mapped(lambda y, _, *at: self._product(*at)(y), 1)
            return self.iteration.solve(lambda y: product(y, *parameters), target, margin=0.0)
        return self.iteration.solve(self._product(*parameters[1:]), target, margin=0.0)

    def residual(self, x: Tensor, *parameters: Tensor) -> Tensor:
        off: Tensor = self.mapped(lambda y, v, *at: y + self._product(*at)(y) - v, 1)(x, *parameters)
        return off

    def divide(self, v: Tensor, x: Tensor, *parameters: Tensor, transposed: bool) -> Tensor:
        levels = tuple((0, *dims[1:]) for dims in self.levels)
        other = _Divided(self.iteration, self.transposed != transposed, levels=levels)
        return solution(other, v, *parameters[1:])

    def _product(self, x: Tensor, *tensors: Tensor) -> Callable[[Tensor], Tensor]:
        """J or its transpose, as a function."""
        jacobian = Contraction.of(tensors).linearize(x)[1]
        return jacobian.multiply_transposed if self.transposed else jacobian.multiply
