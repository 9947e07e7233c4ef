"""Densities of points and curves that are blurred by noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    """Points on the plane, given by radius and angle."""
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def log_gaussian(d: Tensor, std: float) -> Tensor:
    """`log N(d; 0, std²)`, elementwise."""
    return -0.5 * (d / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))


def log_blurred_box(d: Tensor, half: float, std: float) -> Tensor:
    """Log-density at `d` of a uniform variable on `[-half, half]` plus Gaussian noise.

    It is `log (Q(near) - Q(far)) - log (2 half)`, where `Q(a) = exp(-a²/2) erfcx(a/√2) / 2` is the Gaussian
    tail beyond an edge of the box. With one exponential out of the bracket, nothing underflows far away.
    """
    near, far = (d.abs() - half) / std, (d.abs() + half) / std
    ratio = torch.exp(0.5 * (near - far) * (near + far))  # of the two exponentials, at most 1
    tails: Tensor = torch.special.erfcx(near / math.sqrt(2)) - ratio * torch.special.erfcx(far / math.sqrt(2))
    return tails.log() - 0.5 * near**2 - math.log(4 * half)


def log_mixture(x: Tensor, points: Tensor, weights: Tensor, log_kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Log-density `log Σⱼ wⱼ k(x₁ - pⱼ₁) k(x₂ - pⱼ₂)` of weighted points, blurred by the kernel `k`.

    A blurred curve is one of these too: the points are quadrature nodes on it.

    Args:
        x: Where to evaluate, `(N, 2)`.
        points: The centres `p`, `(M, 2)`.
        weights: Their probabilities `w`, `(M,)`.
        log_kernel: The logarithm of `k`, elementwise.

    Returns:
        Log-densities `(N,)`.
    """
    p, log_weights = points.to(x), weights.log().to(x)
    kernels = log_kernel(x[:, :1] - p[:, 0]) + log_kernel(x[:, 1:] - p[:, 1])
    return torch.logsumexp(kernels + log_weights, dim=1)


def quadrature(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre's rule, with 32 nodes in each panel between two edges."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(32))
    half, middle = edges.diff()[:, None] / 2, (edges[1:, None] + edges[:-1, None]) / 2
    return (middle + half * nodes).flatten(), (half * weights).flatten()


def edges(start: float, end: float, panels: int) -> Tensor:
    """Edges of panels of equal width."""
    return torch.linspace(start, end, panels + 1, dtype=torch.float64)
