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

    On a sphere these are great circles, on a torus straight lines that wrap round. With a uniform base and
    `FlowMatching` it is Riemannian flow matching with the geodesic distance as premetric.

    Args:
        manifold: Where the points lie.

    References:
        Chen and Lipman 2024, arXiv 2302.03660.

    Example:
        >>> import torch, cnf
        >>> from cnf.manifolds import Sphere
        >>> path, north, east = GeodesicPath(Sphere(3)), torch.eye(3)[2:], torch.eye(3)[:1]
        >>> point, velocity = path(torch.tensor([[0.5]]), north, east, torch.zeros(1, 3))
        >>> point, velocity.norm()  # half way, at a quarter of a great circle in a unit of time
        (tensor([[0.7071, 0.0000, 0.7071]]), tensor(1.5708))
        >>> flow = cnf.build("sphere_cnf", 3, hidden=8)
        >>> loss = cnf.FlowMatching(path=path)(flow, Sphere(3).sample(64))
    """

    manifold: Manifold

    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        point, velocity = self.manifold.geodesic(base, self.manifold.log(base, data), t)
        return self.manifold.project(point), velocity
