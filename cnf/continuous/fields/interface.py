"""The interface of vector fields `dx/dt = f(t, x, context)`, the networks of an ODE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp

from cnf.continuous.linearization import FunctionalLinearization, Linearization, with_plain_attention
from cnf.inputs import require_context

Function = Callable[[Tensor, Tensor], Tensor]  # (t, x) to f(t, x)
Rate = Callable[[Tensor, Tensor, Tensor], Tensor]  # (t, x, v) to ∂f/∂t + (∂f/∂x) v


class VectorField(nn.Module, ABC):
    """A vector field `dx/dt = f(t, x, context)`.

    To write one, define `forward`. If it has closed-form derivatives, override `linearize` too.

    Attributes:
        context_dim: Length of the context; 0 for none, None if it is not known.
        dim: Length of the vectors x; None if x are no vectors or their length is not known.

    Example: A linear field `dx/dt = A x`; without its own `linearize`, `torch.func` computes the trace.
        >>> import torch, cnf
        >>> class Linear(cnf.VectorField):
        ...     def __init__(self, dim):
        ...         super().__init__()
        ...         self.matrix = torch.nn.Parameter(torch.eye(dim))
        ...     def forward(self, t, x, context=None):
        ...         return x @ self.matrix.T
        >>> flow = cnf.Flow(cnf.CNF(Linear(2)), cnf.StandardNormal(2))
        >>> round(flow.log_prob(torch.zeros(1, 2)).item(), 2)  # N(0, e² I): −log 2π − 2
        -3.84
    """

    context_dim: int | None = 0
    dim: int | None = None

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The velocity `dx/dt`, `(N, *event)`.

        Args:
            t: A scalar tensor, or `(N,)`, a time for each row.
            x: `(N, *event)`.
            context: `(N, C)` or None.
        """

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """Whether it can be evaluated with a time for each row, `(N,)`, at no extra cost.

        If so, a solver may use different steps for different rows.
        """
        return True

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Any:
        """Compute what is constant during a solve, to be passed to `linearize`; None if there is nothing.

        Args:
            context: `(N, C)` or None.
            trace: Whether exact traces will be needed.
            probe: `(k, N, *event)`, the vectors v for which `vᵀJv` will be needed.
        """
        return None

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        """The same as `forward`, with the result of `prepare`."""
        velocity: Tensor = self(t, x, context)
        return velocity

    def linearize(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        """The velocity and Jacobian at `(t, x)`, by `torch.func`; a closed form is a `cnf.Linearization` of its own."""
        return FunctionalLinearization(x, lambda x: self.velocity(t, x, context, prepared))

    def at(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        """The result of `linearize` with derivatives along the trajectory; divergences and regularizers read it."""
        at = self.linearize(t, x, context, prepared)
        at.trajectory = partial(self.derivative, t=t, x=x, context=context, prepared=prepared)
        return at

    def along(self, t: Tensor, x: Tensor, v: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        """`∂f/∂t + (∂f/∂x) v`, the rate of change of f if x moves with velocity v; in forward mode or closed form."""
        return _rate(with_plain_attention(lambda t, x: self.velocity(t, x, context, prepared)), t, x, v)

    def derivative(
        self,
        order: int,
        t: Tensor,
        x: Tensor,
        context: Tensor | None = None,
        prepared: Any = None,
        *,
        velocity: Tensor | None = None,
    ) -> Tensor:
        """`d^K x/dt^K` along the trajectory through `(t, x)`, K = `order`, `(N, *event)`.

        By nested forward mode, `g_1 = f`, `g_{k+1} = ∂g_k/∂t + (∂g_k/∂x) f`; each order doubles the cost.

        Args:
            order: K, at least 1.
            t: A scalar tensor, or `(N,)`.
            x: `(N, *event)`.
            context: `(N, C)` or None.
            prepared: The result of `prepare`, or None.
            velocity: `f(t, x)`, if it is known.
        """
        velocity = self.velocity(t, x, context, prepared) if velocity is None else velocity
        if order == 1:
            return velocity
        derive: Rate = lambda t, x, v: self.along(t, x, v, context, prepared)  # noqa: E731
        for _ in range(order - 2):
            derive = _next(derive, with_plain_attention(lambda t, x: self.velocity(t, x, context, prepared)))
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():  # without it torch has no second forward derivative of silu
            derivative = derive(t, x, velocity)
        return derivative if wanted else derivative.detach()


def context_of(field: VectorField, context: Tensor | None) -> Tensor | None:
    """The context, checked: a field with `context_dim > 0` needs one.

    Raises:
        ValueError: The context is missing.
    """
    return require_context(context, "field", field.context_dim) if field.context_dim else context


def _rate(g: Function, t: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """`∂g/∂t + (∂g/∂x) v`, in forward mode, which takes no expanded tensors."""
    rate: Tensor = jvp(g, (t, x.contiguous()), (torch.ones_like(t), v.contiguous()))[1]
    return rate


def _next(rate: Rate, f: Function) -> Rate:
    """From the rate of `g_k` that of `g_{k+1}`, the derivative of `g_k` along the trajectory."""
    return lambda t, x, v: _rate(lambda t, x: rate(t, x, f(t, x)), t, x, v)
