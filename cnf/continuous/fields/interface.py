"""The interface of vector fields `dx/dt = f(t, x, context)`, the networks of an ODE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from cnf.continuous.linearization import FunctionalLinearization, Linearization
from cnf.inputs import require_context


class VectorField(nn.Module, ABC):
    """A field `f(t, x, context)`. Subclasses give `forward`; those with closed forms override `linearize`.

    Attributes:
        context_dim: Length of the context it reads; 0 for none, None where it is not known.
    """

    context_dim: int | None = 0

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The velocity `dx/dt`, `(N, *event)`.

        Args:
            t: A scalar tensor, or `(N,)`, a time for each row.
            x: `(N, *event)`.
            context: `(N, C)` or None.
        """

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """Whether an evaluation with a time for each row, `(N,)`, is possible and costs no more than one with one time.

        Solvers then may give every row steps of its own.
        """
        return True

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Any:
        """What stays the same during a solve, computed once and handed to `linearize`; None if nothing does.

        Args:
            context: `(N, C)` or None.
            trace: Whether exact traces will be asked for.
            probe: `(k, N, *event)`, vectors v of which `vᵀJv` will be asked for.
        """
        return None

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        """The same as `forward`, with what was prepared for the solve."""
        velocity: Tensor = self(t, x, context)
        return velocity

    def linearize(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        """The field at `(t, x)` with its Jacobian; through `torch.func` unless a subclass knows better."""
        return FunctionalLinearization(x, t, lambda t, x: self.velocity(t, x, context, prepared))


def context_of(field: VectorField, context: Tensor | None) -> Tensor | None:
    """The context, which must be there if a field reads one.

    Raises:
        ValueError: There is none.
    """
    return require_context(context, "field", field.context_dim) if field.context_dim else context
