"""Transforms: invertible maps between data and base, with their log-determinants."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Sizes, checked
from cnf.starts import time_is_up


class Mapped(NamedTuple):
    """What a transform returns.

    Attributes:
        value: The image of the input, `(N, *event)`.
        log_det: `log |det ∂value/∂input|` in nats, `(N,)`.
        costs: Path integrals by name, each `(N,)`; empty for discrete layers.
    """

    value: Tensor
    log_det: Tensor
    costs: Mapping[str, Tensor] = {}


def _mapping(method: Callable[..., Any]) -> Callable[..., Mapped]:
    """The method with what it returns as a `Mapped`, checked."""

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

    Both see `(N, *event)` and, where the map is conditional, a context `(N, C)`; each returns its own
    log-determinant, so `decode(encode(x))` has log-determinants that sum to zero. They return a `Mapped`, or a pair
    `(value, log_det)`, which becomes one.

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

    data_dependent: bool = False  # has an `initialize` of its own
    continuous: bool = False  # has a `path`
    context_dim: int | None = 0  # length of the context it reads; None: not known
    domain: constraints.Constraint = constraints.real  # where the data may lie: each element, or vectors on a manifold

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("encode", "decode"):
            if name in vars(cls):
                setattr(cls, name, _mapping(vars(cls)[name]))

    @property
    def exact(self) -> bool:
        """Whether log-determinants are exact; False where one in it is estimated, with noise or by a cut-off series,
        or where decode is not the inverse of encode but has learned to be."""
        return all(part.exact for part in self.modules() if isinstance(part, Transform) and part is not self)

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        """The shape of one sample of the data, given that at the base end; the same unless dimensions are added."""
        return base_shape

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
        """The value of `decode` alone, for transforms that can leave out the cost of the log-determinant."""
        return self.decode(z, context).value

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:  # noqa: B027
        """Take the data-dependent start from `x`; transforms without one do nothing."""

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        """The states at `times` between base (0) and data (1), `(len(times), N, *event)`; continuous only.

        Raises:
            TypeError: The transform is discrete, so there is nothing between its two ends.
        """
        raise TypeError(
            f"{type(self).__name__} has no path: a trajectory needs a continuous transform (a CNF) in the flow"
        )

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        """The field in it, with base points `z` and data `x` brought to the two ends of its path.

        Raises:
            TypeError: The transform is discrete.
            ValueError: It holds several continuous transforms, of which none has a path of its own.
        """
        raise TypeError(f"{type(self).__name__} is discrete: flow matching needs a flow with a CNF")


class ContinuousPart(NamedTuple):
    """The continuous transform inside another one, between two points that correspond to its ends.

    Attributes:
        velocity: Its field, `(t, x, context)` to `dx/dt`.
        base: `(N, *event)` at t = 0.
        data: `(N, *event)` at t = 1.
        context: As the field reads it, `(N, C)` or None.
    """

    velocity: Callable[..., Tensor]
    base: Tensor
    data: Tensor
    context: Tensor | None


@checked
class Compose(Transform):
    """Several transforms in a row, `encode = f_k ∘ … ∘ f_1`; log-determinants and costs add up.

    Conditional and unconditional transforms mix: a context goes to those whose `context_dim` is not 0.

    Args:
        transforms: In the order of `encode`: the first one sees the data.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.data_dependent = any(transform.data_dependent for transform in transforms)
        self.continuous = any(transform.continuous for transform in transforms)
        dims = [transform.context_dim for transform in transforms]
        self.context_dim = None if None in dims else max((dim for dim in dims if dim), default=0)
        self.domain = transforms[0].domain if transforms else constraints.real

    @property
    def _members(self) -> list[Transform]:
        return cast("list[Transform]", list(self.transforms))

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        for transform in reversed(self._members):
            base_shape = transform.data_shape(base_shape)
        return base_shape

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        mapped = Mapped(x, x.new_zeros(x.shape[0]))
        for transform in self._members:
            mapped = _then(mapped, transform.encode(mapped.value, _read_by(transform, context)))
        return mapped

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        mapped = Mapped(z, z.new_zeros(z.shape[0]))
        for transform in reversed(self._members):
            mapped = _then(mapped, transform.decode(mapped.value, _read_by(transform, context)))
        return mapped

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for transform in reversed(self._members):
            z = transform.push(z, _read_by(transform, context))
        return z

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Initialize the members one after another, each on what the ones before it make of `x`."""
        waiting = sum(transform.data_dependent for transform in self._members)
        for transform in self._members:
            transform.initialize(x, _read_by(transform, context))
            waiting -= transform.data_dependent
            if not waiting or time_is_up():
                return
            x = transform.encode(x, _read_by(transform, context)).value

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        places = [place for place, transform in enumerate(self._members) if transform.continuous]
        if len(places) > 1:
            raise ValueError(
                f"this flow has {len(places)} CNFs in a row: flow matching trains one field, build it with one"
            )
        if not places:
            return super().continuous_part(z, x, context)
        before, inner, after = self._members[: places[0]], self._members[places[0]], self._members[places[0] + 1 :]
        for transform in before:
            x = transform.encode(x, _read_by(transform, context)).value
        for transform in reversed(after):
            z = transform.push(z, _read_by(transform, context))
        return inner.continuous_part(z, x, _read_by(inner, context))

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        """The path of the continuous members, each taking an equal share of [0, 1]; the discrete ones
        act on every state, so that all of them are in the units of the data."""
        shares = sum(transform.continuous for transform in self._members)
        if not shares:
            return super().path(z, times, context)
        states, passed = z.expand(len(times), *z.shape), 0
        for transform in reversed(self._members):
            if transform.continuous:
                local, read = (times * shares - passed).clamp(0, 1), _read_by(transform, context)
                moved = transform.path(states[times.argmax()], local, read)
                waiting = [transform.path(state, local[:1] * 0, read)[0] for state in states[local == 0]]
                states, passed = torch.cat([torch.stack(waiting), moved[local > 0]]) if waiting else moved, passed + 1
            else:
                states = torch.stack([transform.push(state, _read_by(transform, context)) for state in states])
        return states


def _read_by(transform: Transform, context: Tensor | None) -> Tensor | None:
    """The context, for a transform that reads one."""
    return None if transform.context_dim == 0 else context


def _then(first: Mapped, second: Mapped) -> Mapped:
    costs = dict(first.costs)
    for name, cost in second.costs.items():
        costs[name] = costs[name] + cost if name in costs else cost
    return Mapped(second.value, first.log_det + second.log_det, costs)


@checked
class Inverse(Transform):
    """A transform with its two directions exchanged (an IAF is the inverse of a MAF).

    A data-dependent start cannot be taken through it, for the data are on the other side: initialize `transform` first.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.context_dim = transform.context_dim

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        if self.transform.data_shape(base_shape) != base_shape:
            raise TypeError(f"{type(self.transform).__name__} adds dimensions, so it cannot stand the other way round")
        return base_shape

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self.transform.decode(x, context)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self.transform.encode(z, context)


@checked
class Flatten(Transform):
    """A transform of vectors, applied to events of any shape.

    Args:
        transform: Acts on `(N, D)`.
        event_shape: The shape whose `D` elements are put in a row.
    """

    def __init__(self, transform: Transform, event_shape: Sizes) -> None:
        super().__init__()
        self.transform = transform
        self.event_shape = tuple(event_shape)
        self.continuous, self.data_dependent = transform.continuous, transform.data_dependent
        self.context_dim, self.domain = transform.context_dim, transform.domain

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self._shaped(self.transform.encode(x.flatten(1), context))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self._shaped(self.transform.decode(z.flatten(1), context))

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.transform.push(z.flatten(1), context).unflatten(1, self.event_shape)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        self.transform.initialize(x.flatten(1), context)

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        return self.transform.path(z.flatten(1), times, context).unflatten(2, self.event_shape)

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        return self.transform.continuous_part(z.flatten(1), x.flatten(1), context)

    def _shaped(self, mapped: Mapped) -> Mapped:
        return mapped._replace(value=mapped.value.unflatten(1, self.event_shape))
