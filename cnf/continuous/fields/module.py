"""Any module as a field."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from cnf.arguments import checked
from cnf.continuous.fields.interface import VectorField


@checked
class ModuleField(VectorField):
    """A field made from any `nn.Module` with arguments `(t, x, context)`.

    Each row of the result must depend on that row of x only. An exact trace takes one forward-mode product per
    dimension. `CNF` wraps modules in this class automatically.

    Args:
        module: Maps a time, scalar or `(N,)`, points `(N, *event)` and a context `(N, C)` or None to velocities
            `(N, *event)`.

    Raises:
        TypeError: The module cannot be called with `(t, x, context)`.
        ValueError: In a call, the velocities have another shape than the points.

    Example:
        >>> import torch
        >>> class Decay(torch.nn.Module):
        ...     def forward(self, t, x, context=None):
        ...         return -x
        >>> ModuleField(Decay()).linearize(torch.tensor(0.5), torch.randn(3, 2)).trace()
        tensor([-2., -2., -2.])
    """

    context_dim = None

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        _require_arguments(module)
        self.module = module

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        velocity: Tensor = self.module(t, x, context)
        if velocity.shape != x.shape:
            raise ValueError(
                f"a field must return the shape of x, {tuple(x.shape)}; "
                f"{type(self.module).__name__} returned {tuple(velocity.shape)}"
            )
        return velocity

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """Whether it accepts a time for each row; tested on a few rows, since some modules accept one time only."""
        number = next(n for n in (7, 11, 13, 17, 19) if n not in x.shape[1:])
        rows = torch.arange(number, device=x.device) % len(x)
        x, context = x.detach()[rows], None if context is None else context.detach()[rows]
        times = torch.linspace(0.1, 0.9, number, dtype=x.dtype, device=x.device)
        try:
            with torch.no_grad():
                each = self(times, x, context)[[0, -1]]
                one = torch.stack([self(times[i], x, context)[i] for i in (0, -1)])
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        return torch.allclose(each, one, rtol=1e-3, atol=1e-5, equal_nan=True)


@checked
def as_field(field: nn.Module) -> VectorField:
    """A field as it is, any other module as a `ModuleField`."""
    return field if isinstance(field, VectorField) else ModuleField(field)


def _require_arguments(module: nn.Module) -> None:
    """Refuse a module whose `forward` does not take three arguments, where its signature is known."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise TypeError(
            f"a field must take (t, x, context), but {type(module).__name__}.forward takes {signature}: "
            "cnf.from_velocity adapts other arguments"
        ) from error
