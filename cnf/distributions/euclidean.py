"""Base densities on ℝᴰ: normal densities, their mixtures, and the uniform density on a box."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Finite, Numbers, Positives, Reals, Shape, above, checked
from cnf.distributions.interface import BaseDensity, drawn_components, log_spread, spread

LOG_2PI = math.log(2 * math.pi)


def normal_log_prob(z: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """`log N(z; loc, exp(log_scale)²)`, elementwise."""
    standard = (z - loc) * (-log_scale).exp()
    return -(0.5 * (standard.square() + LOG_2PI) + log_scale)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """`log N(z; 0, I) = −½ ‖z‖² − ½ D log 2π` in nats.

    Args:
        z: Points, `(N, *event)`.

    Returns:
        `(N,)`.

    Example:
        >>> import torch
        >>> standard_normal_log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """
    return -0.5 * (z.square() + LOG_2PI).flatten(1).sum(1)


class StandardNormal(BaseDensity):
    """The standard normal density `N(0, I)`: `log p(z) = −½ ‖z‖² − ½ D log 2π`.

    Args:
        event_shape: Shape of one sample; an int n means vectors `(n,)`.

    Example:
        >>> import torch, cnf
        >>> base = cnf.StandardNormal(2)
        >>> base.log_prob(torch.zeros(1, 2)), base.sample(5).shape
        (tensor([-1.8379]), torch.Size([5, 2]))
    """

    def log_prob(self, z: Tensor) -> Tensor:
        return standard_normal_log_prob(z)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        return self.noise(n, generator)


@checked
class DiagonalNormal(BaseDensity):
    """The normal density `N(loc, diag(scale²))`, with trainable `loc` and `log_scale`.

    Args:
        event_shape: Shape of one sample; an int n means vectors `(n,)`.
        loc: Initial mean, broadcast to `event_shape`.
        scale: Initial standard deviation, positive, broadcast to `event_shape`.

    Raises:
        ValueError: `loc` or `scale` does not broadcast to `event_shape`, or `scale` is not positive.

    Example:
        >>> import torch, cnf
        >>> base = cnf.DiagonalNormal(2, loc=torch.tensor([1.0, 2.0]), scale=0.5)
        >>> base.log_prob(torch.tensor([[1.0, 2.0]])).detach()
        tensor([-0.4516])
    """

    def __init__(self, event_shape: Shape, *, loc: Reals = 0.0, scale: Positives = 1.0) -> None:
        super().__init__(event_shape)
        self.loc = nn.Parameter(spread("loc", loc, self.event_shape))
        self.log_scale = nn.Parameter(log_spread("scale", scale, self.event_shape))
        self._like = self.loc.detach().new_zeros(())  # samples follow the dtype of loc

    def log_prob(self, z: Tensor) -> Tensor:
        return normal_log_prob(z, self.loc, self.log_scale).flatten(1).sum(1)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        return self.loc + self.log_scale.exp() * self.noise(n, generator)


@checked
class GaussianMixture(BaseDensity):
    """The mixture `Σ_k w_k N(loc_k, diag(scale_k²))`, with trainable weights, means and scales.

    Samples are differentiable in the means and scales of their components, but not in the weights.

    Args:
        loc: Initial means, `(K, *event)`.
        scale: Initial standard deviations, positive, broadcast to `(K, *event)`.
        weights: Initial weights, `(K,)`, positive; they are normalised. Equal by default.

    Raises:
        ValueError: `scale` or `weights` has a wrong shape or is not positive.

    Example:
        >>> import torch, cnf
        >>> base = cnf.GaussianMixture(torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), scale=0.5)
        >>> base.event_shape, base.sample((5,)).shape
        (torch.Size([2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        loc: Numbers,
        *,
        scale: Positives = 1.0,
        weights: Annotated[Tensor, above(0)] | None = None,
    ) -> None:
        super().__init__(loc.shape[1:])
        weights = torch.ones(len(loc)) if weights is None else weights
        self.loc = nn.Parameter(loc.clone())
        self.log_scale = nn.Parameter(log_spread("scale", scale, loc.shape).to(loc))
        self.logits = nn.Parameter(log_spread("weights", weights.to(loc), loc.shape[:1]))
        self._like = loc.new_zeros(())  # samples follow the dtype of loc

    def log_prob(self, z: Tensor) -> Tensor:
        components = normal_log_prob(z.unsqueeze(1), self.loc, self.log_scale).flatten(2).sum(2)
        return torch.logsumexp(components + self.logits.log_softmax(0), 1)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        component = drawn_components(self.logits, n, generator)
        return self.loc[component] + self.log_scale[component].exp() * self.noise(n, generator)


@checked
class Uniform(BaseDensity):
    """The uniform density on `[low, high]ᴰ`: `log p = −D log(high − low)` inside, −∞ outside.

    Args:
        event_shape: Shape of one sample; an int n means vectors `(n,)`.
        low: Lower end of every element.
        high: Upper end of every element.

    Raises:
        ValueError: `low` is not below `high`.

    Example:
        >>> import torch, cnf
        >>> cnf.Uniform(2, high=2.0).log_prob(torch.tensor([[1.0, 1.0], [3.0, 1.0]]))
        tensor([-1.3863,    -inf])
    """

    def __init__(self, event_shape: Shape, *, low: Finite = 0.0, high: Finite = 1.0) -> None:
        super().__init__(event_shape)
        if not low < high or math.isinf(high - low):
            raise ValueError(f"a uniform density needs low < high, got low={low}, high={high}")
        self.low, self.high = low, high

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.interval(self.low, self.high), len(self.event_shape))

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).flatten(1).all(1)
        volume = self.event_shape.numel() * math.log(self.high - self.low)
        return z.new_full((len(z),), -volume).masked_fill(~inside, -math.inf)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        unit = torch.rand((n, *self.event_shape), generator=generator, dtype=self.dtype, device=self.device)
        return self.low + (self.high - self.low) * unit
