"""Transforms around another one: they change what it is given, or exchange its directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnf.arguments import Shape, Sizes, checked
from cnf.inputs import require_context
from cnf.transforms.interface import ContinuousPart, Mapped, Transform, context_for


@checked
class Wrapper(Transform):
    """A transform that changes what another one is given, and passes on everything else that a `Transform` promises.

    A subclass overrides the hooks that it needs. `enter` and `leave` act on points at both ends, data and base alike:
    the log-determinant must not change by them.

    Args:
        transform: The inner transform.

    Example:
        >>> import torch, cnf
        >>> class Reversed(Wrapper):
        ...     def enter(self, x):
        ...         return x.flip(1)
        ...
        ...     def leave(self, value, x):
        ...         return value.flip(1)
        >>> scale = cnf.discrete.Affine(2, scale=torch.tensor([1.0, 10.0]))
        >>> Reversed(scale).decode(torch.ones(1, 2)).value
        tensor([[10.,  1.]])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.data_dependent, self.continuous = transform.data_dependent, transform.continuous
        self.context_dim = transform.context_dim
        self.domain, self.codomain = transform.domain, transform.codomain

    def enter(self, x: Tensor) -> Tensor:
        """What the inner transform sees of points `(N, *event)`."""
        return x

    def leave(self, value: Tensor, x: Tensor) -> Tensor:
        """The outer points, from the inner transform's `value` and the `x` that entered."""
        return value

    def enter_context(self, context: Tensor | None) -> Tensor | None:
        """What the inner transform sees of the context."""
        return context

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        return self._shape(self.transform.data_shape, base_shape)

    def base_shape(self, data_shape: torch.Size) -> torch.Size:
        return self._shape(self.transform.base_shape, data_shape)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        mapped = self.transform.encode(self.enter(x), self._context(context))
        return mapped._replace(value=self.leave(mapped.value, x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        mapped = self.transform.decode(self.enter(z), self._context(context))
        return mapped._replace(value=self.leave(mapped.value, z))

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.leave(self.transform.push(self.enter(z), self._context(context)), z)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        self.transform.initialize(self.enter(x), self._context(context))

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        states = self.transform.path(self.enter(z), times, self._context(context))
        return torch.stack([self.leave(state, z) for state in states])

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        return self.transform.continuous_part(self.enter(z), self.enter(x), self._context(context))

    def _shape(self, inner: Callable[[torch.Size], torch.Size], shape: torch.Size) -> torch.Size:
        """The outer shape at the other end: one point of zeros shows what the hooks do to shapes."""
        like = next(self.parameters(), torch.zeros(()))
        points = like.new_zeros(1, *shape)
        return self.leave(like.new_zeros(1, *inner(self.enter(points).shape[1:])), points).shape[1:]

    def _context(self, context: Tensor | None) -> Tensor | None:
        return context_for(self.transform, self.enter_context(context))


@checked
class Embedded(Wrapper):
    """A conditional transform that reads features of its context, by a network that is trained along.

    Args:
        transform: Its contexts are the features.
        net: From contexts `(N, *context_shape)` to features `(N, F)`.
        context_shape: Shape of one context; the transform is given it flattened, `(N, C)`.

    Example: A condition of 4 × 4 pixels.
        >>> import torch, cnf
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> layer = cnf.transforms.Embedded(cnf.discrete.Regression(2, 3), net, (1, 4, 4))
        >>> layer.context_dim, layer.encode(torch.zeros(5, 2), torch.zeros(5, 16)).value.shape
        (16, torch.Size([5, 2]))
    """

    def __init__(self, transform: Transform, net: nn.Module, context_shape: Shape) -> None:
        super().__init__(transform)
        self.net = net
        self.context_shape = torch.Size([context_shape] if isinstance(context_shape, int) else context_shape)
        self.context_dim = self.context_shape.numel()

    def enter_context(self, context: Tensor | None) -> Tensor:
        features: Tensor = self.net(
            require_context(context, "transform", self.context_dim).unflatten(1, self.context_shape)
        )
        return features


@checked
class Flatten(Wrapper):
    """A transform of vectors, applied to events of any shape.

    If the transform adds dimensions (`Augment`), its base points are vectors and stay vectors.

    Args:
        transform: Acts on `(N, D)`.
        event_shape: The shape of an event of D elements.

    Example:
        >>> import torch, cnf
        >>> images = cnf.transforms.Flatten(cnf.CNF(cnf.MLPField(12)), (3, 2, 2))
        >>> images.encode(torch.zeros(5, 3, 2, 2)).value.shape
        torch.Size([5, 3, 2, 2])
    """

    def __init__(self, transform: Transform, event_shape: Sizes) -> None:
        super().__init__(transform)
        self.event_shape = torch.Size(event_shape)

    def extra_repr(self) -> str:
        return f"event_shape={tuple(self.event_shape)}"

    def enter(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def leave(self, value: Tensor, x: Tensor) -> Tensor:
        return value.unflatten(1, self.event_shape) if value.shape[1] == self.event_shape.numel() else value


@checked
class Inverse(Transform):
    """A transform with its two directions exchanged (an IAF is the inverse of a MAF).

    A data-dependent start cannot be taken through it, because the data are at the other end: initialize `transform`
    before. The path of a continuous one runs backwards: its field is `−f(1 − t, x)`.

    Args:
        transform: The transform to turn round; it must not add dimensions.

    Example:
        >>> import torch, cnf
        >>> scale = cnf.discrete.Affine(2, scale=4.0)
        >>> scale.encode(torch.ones(1, 2)).value, cnf.Inverse(scale).encode(torch.ones(1, 2)).value
        (tensor([[0.2500, 0.2500]]), tensor([[4., 4.]]))
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.continuous, self.context_dim = transform.continuous, transform.context_dim
        self.domain, self.codomain = transform.codomain, transform.domain

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        shape = self.transform.base_shape(base_shape)
        if self.transform.data_shape(shape) != base_shape:
            raise TypeError(f"{type(self.transform).__name__} adds dimensions, so it has no Inverse: take it as it is")
        return shape

    def base_shape(self, data_shape: torch.Size) -> torch.Size:
        return self.transform.data_shape(data_shape)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self.transform.decode(x, context)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self.transform.encode(z, context)

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        start = self.transform.encode(z, context).value
        return self.transform.path(start, (1 - times).flip(0), context).flip(0)

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        inner = self.transform.continuous_part(x, z, context)

        def velocity(t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return -inner.velocity(1 - t, x, context)

        return inner._replace(velocity=velocity, base=inner.data, data=inner.base)
