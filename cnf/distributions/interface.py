"""The interface of base densities, and the checks they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Numbers, Shape, above, checked, conform
from cnf.inputs import as_shape
from cnf.tracing import rows_with

OFF = 1e-5  # how far from a manifold rounding may leave a point, of float32 too


@checked
class BaseDensity(nn.Module, ABC):
    """A base density with an exact `log_prob` and samples that are differentiable in its parameters.

    To write one, define `log_prob` and `draw`. Override `support` if the density is not positive everywhere.

    Args:
        event_shape: Shape of one sample; an int n means vectors `(n,)`.

    Raises:
        ValueError: A dimension is not a positive integer.

    Example: The logistic density.
        >>> import torch, cnf
        >>> class Logistic(cnf.distributions.BaseDensity):
        ...     def log_prob(self, z):
        ...         both = torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)
        ...         return both.flatten(1).sum(1)
        ...
        ...     def draw(self, n, generator):
        ...         u = torch.rand((n, *self.event_shape), generator=generator, dtype=self.dtype, device=self.device)
        ...         return torch.logit(u, eps=1e-6)
        >>> base = Logistic(2)
        >>> base.log_prob(torch.zeros(1, 2)), base.sample((4, 3)).shape
        (tensor([-2.7726]), torch.Size([4, 3, 2]))
    """

    _like: Tensor

    def __init__(self, event_shape: Shape) -> None:
        super().__init__()
        self.event_shape = as_event_shape(event_shape)
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # carries dtype and device

    @property
    def support(self) -> constraints.Constraint:
        """The set where the density is positive, as a torch constraint."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its samples."""
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """The device of its samples."""
        return self._like.device

    def extra_repr(self) -> str:
        return f"event_shape={tuple(self.event_shape)}"

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density in nats: `(N, *event)` to `(N,)`."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw n samples, `(n, *event)`, differentiable in the parameters if possible.

        Args:
            n: Number of samples.
            generator: Source of random numbers; the global one if None.
        """

    @torch.no_grad()
    def sample(self, shape: int | Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples `(*shape, *event)` without gradients; see `rsample`."""
        return self.rsample(shape, generator=generator)

    def rsample(self, shape: int | Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples `(*shape, *event)`, differentiable in the parameters if possible.

        Args:
            shape: Number of samples, or a batch shape.
            generator: Source of random numbers; by default the global one.

        Raises:
            TypeError: `shape` has entries that are no integers.
            ValueError: `shape` has negative entries.
        """
        batch = as_shape(shape)
        return self.draw(batch.numel(), generator).reshape(batch + self.event_shape)

    def noise(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Standard normal numbers `(n, *event)` in the dtype and on the device of the density."""
        shape = (n, *self.event_shape)
        return torch.randn(shape, generator=generator, dtype=self.dtype, device=self.device)


def drawn_components(logits: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw the components of n samples of a mixture, `(n,)`."""
    return torch.multinomial(logits.softmax(0), max(n, 1), replacement=True, generator=generator)[:n]


@checked
def as_event_shape(event_shape: Shape) -> torch.Size:
    """An event shape as a `torch.Size`; an int n means vectors `(n,)`.

    Args:
        event_shape: n, or a sequence of positive integers.

    Raises:
        ValueError: A dimension is not a positive integer.

    Example:
        >>> as_event_shape(3), as_event_shape((1, 28, 28))
        (torch.Size([3]), torch.Size([1, 28, 28]))
    """
    return torch.Size([event_shape] if isinstance(event_shape, int) else event_shape)


def spread(name: str, value: Tensor | float, shape: Sequence[int]) -> Tensor:
    """A number, or a tensor that broadcasts, as a tensor of this shape.

    Args:
        name: Of the argument, for the message.
        value: In floating point, or converted to the default type.
        shape: What it is spread over.

    Raises:
        ValueError: It does not broadcast, or is too large for its type.
    """
    known = isinstance(value, Tensor) and value.is_floating_point()
    tensor = torch.as_tensor(value, dtype=None if known else torch.get_default_dtype())
    pairs = zip(reversed(tensor.shape), reversed(shape), strict=False)
    if tensor.dim() > len(shape) or any(own not in (1, other) for own, other in pairs):
        raise ValueError(f"{name} must have shape {tuple(shape)} or broadcast to it, got {tuple(tensor.shape)}")
    return conform(name, Numbers, tensor).expand(tuple(shape)).clone()


def log_spread(name: str, value: Tensor | float, shape: Sequence[int]) -> Tensor:
    """The logarithm of a positive number, or of positive numbers, as a tensor of this shape; see `spread`."""
    return conform(name, Annotated[Tensor, above(0)], spread(name, value, shape)).log()


def require_near(far: Tensor, place: str, remedy: str) -> None:
    """Check that points are on a manifold.

    Args:
        far: Distance of each point from the manifold, of any shape.
        place: The manifold, in words.
        remedy: How to correct the points, in words.

    Raises:
        ValueError: A distance is larger than rounding explains, or NaN.
    """
    rows = rows_with(~(far.flatten() <= OFF))
    if rows:
        raise ValueError(
            f"{len(rows)} of {far.numel()} points are not on {place}: the farthest is {far.max().item():.3g} off, "
            f"first in rows {rows[:5]}: {remedy}"
        )


def require_ambient(n: int, place: str) -> int:
    """The ambient dimension n of a manifold of dimension n − 1, checked.

    Raises:
        ValueError: n is not an int of at least 2.
    """
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 2:
        raise ValueError(f"{place} needs vectors of length n >= 2 (n = 1 leaves no dimension), got n={n!r}")
    return int(n)
