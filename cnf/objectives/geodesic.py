"""Riemannian flow matching: paths along geodesics, pairs by the least squared length of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cnf.arguments import checked
from cnf.manifolds.manifold import Manifold
from cnf.objectives.paths import Path


@checked
@dataclass(frozen=True)
class GeodesicPath(Path):
    """`x_t = exp_{x₀}(t v)`, `v = log_{x₀} x₁`: from a base point to a data point with constant speed.

    Great circles on a sphere, straight lines that wrap round a torus. With a uniform base and `FlowMatching` it is
    Riemannian flow matching with the geodesic distance as premetric.

    Args:
        manifold: Where the points lie.

    References:
        Chen and Lipman 2024, arXiv 2302.03660.

    Example:
        >>> import torch, cnf
        >>> from cnf.manifolds import Sphere
        >>> flow = cnf.build("sphere_cnf", 3)
        >>> loss = cnf.FlowMatching(path=cnf.GeodesicPath(Sphere(3)))(flow, Sphere(3).sample(64))
    """

    manifold: Manifold

    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        point, velocity = self.manifold.geodesic(base, self.manifold.log(base, data), t)
        return self.manifold.project(point), velocity
