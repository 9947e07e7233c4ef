"""What every transform promises: an invertible map between data and base, with its log-determinants."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import constraints


class Mapped(NamedTuple):
    """What a transform returns.

    Attributes:
        value: The image of the input, `(N, *event)`.
        log_det: `log |det ∂value/∂input|` in nats, `(N,)`.
        costs: Path integrals by name, each `(N,)`; empty for discrete layers.

    Example:
        >>> import torch
        >>> value, log_det, costs = Mapped(torch.ones(1, 2), torch.zeros(1))
    """

    value: Tensor
    log_det: Tensor
    costs: Mapping[str, Tensor] = {}


def _mapping(method: Callable[..., Any]) -> Callable[..., Mapped]:
    """The method, with its result checked and made a `Mapped`."""

    @functools.wraps(method)
    def mapping(self: Transform, x: Tensor, context: Tensor | None = None) -> Mapped:
        result = method(self, x, context)
        mapped = Mapped(*result) if type(result) is tuple and len(result) in (2, 3) else result
        name = f"{method.__name__} of {type(self).__name__}"
        if not isinstance(mapped, Mapped):
            raise TypeError(f"{name} must return cnf.Mapped or (value, log_det), got {type(result).__name__}")
        if not isinstance(mapped.log_det, Tensor) or mapped.log_det.shape != (len(x),):
            came = tuple(mapped.log_det.shape) if isinstance(mapped.log_det, Tensor) else mapped.log_det
            raise ValueError(f"{name} must return a log_det for each row, of shape ({len(x)},), got {came}")
        return mapped

    return mapping


class Transform(nn.Module, ABC):
    """An invertible map. `encode` leads from data to base, `decode` from base to data.

    To write one:

    1. Derive a class. If the map reads a context, set `self.context_dim` to its length C. If points are not arbitrary
       real numbers, set `domain` (where the data lie) and `codomain` (where the base points lie).
    2. Define `encode(x, context=None)` and `decode(z, context=None)`. Both take `(N, *event)` and a context `(N, C)` or
       None, and return `(value, log_det)`. `log_det` is `(N,)`, that of their own direction: the two have opposite
       signs.
    3. Where the defaults do not fit, define more: `push` if sampling can do without the log-determinant; `initialize`,
       with `data_dependent = True`, if the map starts from data; `data_shape` and `base_shape` if the shape of an event
       changes; `exact` if the log-determinant is estimated.

    Attributes:
        data_dependent: Whether it has an `initialize` of its own.
        continuous: Whether it has a `path`.
        context_dim: Length C of the context; 0 for none, None if it is not known.
        domain: Where the data lie, a constraint of torch on each element, or on vectors for a manifold.
        codomain: The same for base points.

    Example:
        >>> import math, torch, cnf
        >>> class Scale(cnf.Transform):
        ...     def encode(self, x, context=None):
        ...         return x / 2, -x.new_full((len(x),), x[0].numel()) * math.log(2)
        ...
        ...     def decode(self, z, context=None):
        ...         return 2 * z, z.new_full((len(z),), z[0].numel()) * math.log(2)
        >>> Scale().encode(torch.ones(1, 3)).log_det
        tensor([-2.0794])
    """

    data_dependent: bool = False
    continuous: bool = False
    context_dim: int | None = 0
    domain: constraints.Constraint = constraints.real
    codomain: constraints.Constraint = constraints.real

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("encode", "decode"):
            if name in vars(cls):
                setattr(cls, name, _mapping(vars(cls)[name]))

    @property
    def exact(self) -> bool:
        """Whether all log-determinants in it are exact and `decode` is the inverse of `encode`.

        False if one is estimated, with noise or by a series that is cut off, or if an inverse is only learned.
        """
        return all(part.exact for part in self.modules() if isinstance(part, Transform) and part is not self)

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        """The shape of one sample of the data, given that of a base point; the same unless it changes."""
        return base_shape

    def base_shape(self, data_shape: torch.Size) -> torch.Size:
        """The shape of one base point, given that of a sample of the data; the opposite of `data_shape`."""
        return data_shape

    @abstractmethod
    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """Map data to base."""

    @abstractmethod
    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        """Map base to data."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """The same as `encode`, so that hooks, DDP and `torch.compile` see it."""
        return self.encode(x, context)

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The value of `decode` alone; transforms that can save the log-determinant define their own."""
        return self.decode(z, context).value

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:  # noqa: B027
        """Set data-dependent parameters from data `x`; transforms without such parameters do nothing."""

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        """The states at `times` between base (0) and data (1), `(len(times), N, *event)`; continuous transforms only.

        Raises:
            TypeError: The transform is discrete.
        """
        raise TypeError(
            f"{type(self).__name__} has no path: a trajectory needs a continuous transform (a CNF) in the flow"
        )

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        """The field in it, with base points `z` and data `x` mapped to the two ends of its path.

        Raises:
            TypeError: The transform is discrete.
            ValueError: It holds several continuous transforms.
        """
        raise TypeError(f"{type(self).__name__} is discrete: flow matching needs a flow with a CNF")


class ContinuousPart(NamedTuple):
    """The continuous transform inside another one, and points at the two ends of its path.

    Attributes:
        velocity: Its field, `(t, x, context)` to `dx/dt`.
        base: Points at t = 0, `(N, *event)`.
        data: Points at t = 1, `(N, *event)`.
        context: The context as the field reads it, `(N, C)` or None.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2)
        >>> part = flow.transform.continuous_part(torch.zeros(3, 2), torch.ones(3, 2))
        >>> part.velocity(torch.tensor(0.5), part.base).shape
        torch.Size([3, 2])
    """

    velocity: Callable[..., Tensor]
    base: Tensor
    data: Tensor
    context: Tensor | None


def context_for(transform: Transform, context: Tensor | None) -> Tensor | None:
    """The context if the transform reads one, else None."""
    return None if transform.context_dim == 0 else context
