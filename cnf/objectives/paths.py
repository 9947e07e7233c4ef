"""Paths of flow matching: the curves from base to data whose velocities a field learns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cnf.arguments import NonNegative, Positive, checked


class Path(ABC):
    """A random curve from a base point at t = 0 to a data point at t = 1.

    To write one, return the point and its derivative in time. The point is the base at t = 0, and the data, or close to
    them, at t = 1. A path with settings is a frozen dataclass.

    Example:
        >>> import torch, cnf
        >>> class SlowAtBothEnds(cnf.Path):
        ...     def __call__(self, t, base, data, noise):
        ...         way = data - base
        ...         return base + t**2 * (3 - 2 * t) * way, 6 * t * (1 - t) * way
        >>> point, velocity = SlowAtBothEnds()(torch.tensor([[0.5]]), torch.zeros(1, 2), torch.ones(1, 2), None)
        >>> point, velocity
        (tensor([[0.5000, 0.5000]]), tensor([[1.5000, 1.5000]]))
        >>> loss = cnf.FlowMatching(path=SlowAtBothEnds())(cnf.build("cnf", 2, hidden=8), torch.randn(64, 2))
    """

    example: ClassVar[str] = "cnf.StraightPath()"  # for messages

    @abstractmethod
    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The point at time t and the velocity that the field should have there.

        Args:
            t: `(N, 1, …)`, as many dimensions as the points.
            base: `(N, *event)`.
            data: `(N, *event)`.
            noise: `(N, *event)`, standard normal.

        Returns:
            Two tensors `(N, *event)`.
        """


@checked
@dataclass(frozen=True)
class StraightPath(Path):
    """`x_t = (1 − t) x₀ + t x₁ + σ ε`, `u = x₁ − x₀`: I-CFM, and with an optimal coupling OT-CFM.

    Args:
        sigma: σ; above 0 it smooths the data by as much.

    References:
        Tong et al. 2024, arXiv 2302.00482; Liu et al. 2023, arXiv 2209.03003.

    Example:
        >>> import torch
        >>> t, base, data = torch.tensor([[0.25]]), torch.zeros(1, 2), torch.tensor([[4.0, 8.0]])
        >>> StraightPath()(t, base, data, torch.zeros(1, 2))
        (tensor([[1., 2.]]), tensor([[4., 8.]]))
    """

    sigma: NonNegative = 0.0

    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        velocity = data - base
        return base + t * velocity + self.sigma * noise, velocity


@checked
@dataclass(frozen=True)
class LipmanPath(Path):
    """`x_t = t x₁ + (1 − (1 − σ) t) x₀`, `u = x₁ − (1 − σ) x₀`, for a standard normal base.

    Args:
        sigma: σ, the standard deviation around each data point at t = 1.

    References:
        Lipman et al. 2023, arXiv 2210.02747.

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1)
        >>> LipmanPath(sigma=0.5)(t=one, base=2 * one, data=4 * one, noise=one)
        (tensor([[5.]]), tensor([[3.]]))
    """

    sigma: NonNegative = 1e-4

    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        velocity = data - (1 - self.sigma) * base
        return base + t * velocity, velocity


@checked
@dataclass(frozen=True)
class VariancePreservingPath(Path):
    """`x_t = cos(πt/2) x₀ + sin(πt/2) x₁ + σ ε`, `u = π/2 (cos(πt/2) x₁ − sin(πt/2) x₀)`.

    Args:
        sigma: σ; above 0 it smooths the data by as much.

    References:
        Albergo and Vanden-Eijnden 2023, arXiv 2209.15571.

    Example:
        >>> import torch
        >>> path, one = VariancePreservingPath(), torch.ones(1, 1)
        >>> point, velocity = path(torch.tensor([[0.5]]), one, one, torch.zeros(1, 1))
        >>> point, velocity.round()  # the base and the data count as much here
        (tensor([[1.4142]]), tensor([[0.]]))
    """

    sigma: NonNegative = 0.0

    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine = (math.pi / 2 * t).cos(), (math.pi / 2 * t).sin()
        point = cosine * base + sine * data + self.sigma * noise
        return point, math.pi / 2 * (cosine * data - sine * base)


@checked
@dataclass(frozen=True)
class BridgePath(Path):
    """A Brownian bridge, `x_t = (1 − t) x₀ + t x₁ + σ √(t(1 − t)) ε`.

    `u = (1 − 2t) / (2 t(1 − t)) (x_t − μ_t) + x₁ − x₀`, where `μ_t` is the mean. With `EntropicCoupling(2 σ²)` it leads
    to the Schrödinger bridge.

    Args:
        sigma: σ.

    References:
        Tong et al. 2024, arXiv 2307.03672.

    Example:
        >>> import torch
        >>> bridge, zero, one = BridgePath(sigma=2.0), torch.zeros(1, 1), torch.ones(1, 1)
        >>> bridge(torch.tensor([[0.5]]), zero, one, noise=one)  # in the middle the noise stands still
        (tensor([[1.5000]]), tensor([[1.]]))
    """

    sigma: Positive = 0.1

    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        spread = (t * (1 - t)).clamp(min=1e-6).sqrt()  # the velocity has no bound at the ends
        drift = data - base
        bend = self.sigma * noise
        return base + t * drift + spread * bend, drift + (1 - 2 * t) / (2 * spread) * bend


PATHS = {
    "straight": StraightPath,
    "lipman": LipmanPath,
    "variance_preserving": VariancePreservingPath,
    "bridge": BridgePath,
}
