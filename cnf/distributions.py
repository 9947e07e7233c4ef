"""Base densities: the simple end of a flow, as modules so that they move, save and train with it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.distributions import constraints

LOG_2PI = math.log(2 * math.pi)


class BaseDensity(nn.Module, ABC):
    """A density with exact `log_prob` and reparametrised samples.

    Args:
        event_shape: Shape of one sample; an int is a vector of that length.
    """

    _like: Tensor

    def __init__(self, event_shape: int | Sequence[int]) -> None:
        super().__init__()
        self.event_shape = as_event_shape(event_shape)
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # carries dtype and device

    @property
    def support(self) -> constraints.Constraint:
        """Where the density is positive, as a torch constraint."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of its samples."""
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """Where its samples are drawn."""
        return self._like.device

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density in nats: `(N, *event)` to `(N,)`."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `(n, *event)`, differentiable in the parameters where the density has any."""

    def _noise(self, n: int, generator: torch.Generator | None) -> Tensor:
        shape = (n, *self.event_shape)
        return torch.randn(shape, generator=generator, dtype=self.dtype, device=self.device)


def as_event_shape(event_shape: int | Sequence[int]) -> torch.Size:
    """An int as a vector's shape, a sequence as itself.

    Raises:
        ValueError: A dimension is not a positive integer.
    """
    sizes = tuple(event_shape) if isinstance(event_shape, Iterable) else (event_shape,)
    if not sizes or not all(isinstance(size, Integral) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ValueError(f"event_shape must be a positive int or a tuple of them, got {event_shape!r}")
    return torch.Size([int(size) for size in sizes])


class StandardNormal(BaseDensity):
    """`N(0, I)`: `log p(z) = −½ ‖z‖² − ½ D log 2π`."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + LOG_2PI).flatten(1).sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self._noise(n, generator)


class DiagonalNormal(BaseDensity):
    """`N(loc, diag(scale²))` with trainable `loc` and `log_scale`.

    Args:
        event_shape: Shape of one sample.
        loc: Initial mean, broadcast to the event.
        scale: Initial standard deviation, positive, broadcast to the event.
    """

    def __init__(
        self, event_shape: int | Sequence[int], *, loc: Tensor | float = 0.0, scale: Tensor | float = 1.0
    ) -> None:
        super().__init__(event_shape)
        zeros = torch.zeros(self.event_shape)
        self.loc = nn.Parameter(zeros + loc)
        self.log_scale = nn.Parameter((zeros + scale).log())
        self._like = self.loc.detach().new_zeros(())  # samples follow the dtype of loc

    def log_prob(self, z: Tensor) -> Tensor:
        standard = (z - self.loc) * (-self.log_scale).exp()
        return -(0.5 * (standard.square() + LOG_2PI) + self.log_scale).flatten(1).sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.loc + self.log_scale.exp() * self._noise(n, generator)


class GaussianMixture(BaseDensity):
    """`Σ_k w_k N(loc_k, diag(scale_k²))` with trainable weights, means and scales.

    Samples are differentiable in the means and scales of the component each of them came from, not in the weights.

    Args:
        loc: Means `(K, *event)`.
        scale: Standard deviations, broadcast to `loc`.
        weights: `(K,)`, positive, normalised here; equal by default.
    """

    def __init__(self, loc: Tensor, *, scale: Tensor | float = 1.0, weights: Tensor | None = None) -> None:
        super().__init__(loc.shape[1:])
        weights = torch.ones(len(loc)) if weights is None else weights
        self.loc = nn.Parameter(loc.clone())
        self.log_scale = nn.Parameter((torch.zeros_like(loc) + scale).log())
        self.logits = nn.Parameter(weights.to(loc).log())
        self._like = loc.new_zeros(())  # samples follow the dtype of loc

    def log_prob(self, z: Tensor) -> Tensor:
        standard = (z.unsqueeze(1) - self.loc) * (-self.log_scale).exp()
        components = -(0.5 * (standard.square() + LOG_2PI) + self.log_scale).flatten(2).sum(2)
        return torch.logsumexp(components + self.logits.log_softmax(0), 1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        weights = self.logits.softmax(0)
        component = torch.multinomial(weights, max(n, 1), replacement=True, generator=generator)[:n]
        return self.loc[component] + self.log_scale[component].exp() * self._noise(n, generator)


class Uniform(BaseDensity):
    """Uniform on the box `[low, high]`: `log p = −Σ log(high − low)` inside, −∞ outside."""

    def __init__(self, event_shape: int | Sequence[int], *, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(event_shape)
        if not low < high:
            raise ValueError(f"a uniform density needs low < high, got low={low}, high={high}")
        self.low, self.high = low, high

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.interval(self.low, self.high), len(self.event_shape))

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).flatten(1).all(1)
        volume = self.event_shape.numel() * math.log(self.high - self.low)
        return z.new_full((len(z),), -volume).masked_fill(~inside, -math.inf)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        unit = torch.rand((n, *self.event_shape), generator=generator, dtype=self.dtype, device=self.device)
        return self.low + (self.high - self.low) * unit
