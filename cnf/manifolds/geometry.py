"""The sphere, the simplex and the torus, with their geodesics, tangent spaces and volumes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Size, checked
from cnf.continuous.fields import VectorField
from cnf.distributions.interface import require_ambient
from cnf.distributions.simplex import log_ratio_basis, require_simplex
from cnf.distributions.sphere import UnitVectors, frame, log_area, require_unit
from cnf.distributions.torus import ANGLES, require_angles
from cnf.manifolds.fields import SphereField, TorusField
from cnf.manifolds.manifold import Manifold
from cnf.manifolds.volumes import size_of_det


@checked
@dataclass(frozen=True)
class Sphere(Manifold):
    """The unit sphere, `{x ∈ ℝⁿ : ‖x‖ = 1}`, of dimension n − 1.

    Attributes:
        n: Length of the vectors, at least 2.

    Raises:
        ValueError: n is below 2.

    Example:
        >>> sphere = Sphere(3)
        >>> sphere.dimension, round(sphere.volume, 4), sphere.sample(5).shape
        (2, 12.5664, torch.Size([5, 3]))
    """

    n: Size

    def __post_init__(self) -> None:
        require_ambient(self.n, "a sphere")

    @property
    def dimension(self) -> int:
        return self.n - 1

    @property
    def ambient_dimension(self) -> int:
        return self.n

    @property
    def volume(self) -> float:
        return math.exp(log_area(self.n))

    @property
    def domain(self) -> constraints.Constraint:
        return UnitVectors()

    def check(self, x: Tensor) -> None:
        require_unit(x, self.n)

    def project(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)

    def tangent(self, x: Tensor) -> Tensor:
        return frame(x)[..., :-1]

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v - (x * v).sum(-1, keepdim=True) * x

    def tangent_field(self, field: nn.Module) -> SphereField:
        return SphereField(self.n, field)

    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        return size_of_det(self.tangent(x).mT @ vectors)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        angle = v.norm(dim=-1, keepdim=True)
        return angle.cos() * x + torch.sinc(angle / math.pi) * v

    def geodesic(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = v.norm(dim=-1, keepdim=True)
        return self.exp(x, t * v), (t * angle).cos() * v - angle * (t * angle).sin() * x

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Manifold.log`; opposite points have no unique shortest geodesic, and one of them is chosen."""
        direction = self.to_tangent(x, self.to_tangent(x, y - x))  # once more for what rounding leaves along x
        length = direction.norm(dim=-1, keepdim=True)
        opposite = (length < torch.finfo(x.dtype).eps ** 0.5) & ((x * y).sum(-1, keepdim=True) < 0)
        direction = torch.where(opposite, self.tangent(x)[..., 0], direction / length.clamp_min(1e-30))
        return self.distance(x, y).unsqueeze(-1) * direction

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))  # exact for near and for opposite points

    def _sample(self, n: int, options: dict[str, Any]) -> Tensor:
        return self.project(torch.randn(n, self.n, **options))


@checked
@dataclass(frozen=True)
class Simplex(Manifold):
    """The probability simplex, `{x ∈ ℝⁿ : xᵢ ≥ 0, Σ xᵢ = 1}`, of dimension n − 1, with straight lines as geodesics.

    It has a boundary, which `exp` can cross, so a `CNF` cannot use it.

    Attributes:
        n: Length of the vectors, at least 2.

    Raises:
        ValueError: n is below 2.

    Example:
        >>> Simplex(3).dimension, Simplex(3).sample(5).shape
        (2, torch.Size([5, 3]))
    """

    n: Size

    def __post_init__(self) -> None:
        require_ambient(self.n, "a simplex")

    @property
    def dimension(self) -> int:
        return self.n - 1

    @property
    def ambient_dimension(self) -> int:
        return self.n

    @property
    def volume(self) -> float:
        return math.exp(0.5 * math.log(self.n) - math.lgamma(self.n))

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.simplex

    def check(self, x: Tensor) -> None:
        require_simplex(x, self.n)

    def project(self, x: Tensor) -> Tensor:
        """See `Manifold.project`; non-negative vectors are divided by their sum."""
        return x / x.sum(-1, keepdim=True)

    def tangent(self, x: Tensor) -> Tensor:
        """See `Manifold.tangent`; small elements of x occur in few basis vectors, so that their precision is kept."""
        return log_ratio_basis(self.n).to(x).flip(0)[x.argsort(-1).argsort(-1)]

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v - v.mean(-1, keepdim=True)

    def tangent_field(self, field: nn.Module) -> VectorField:
        raise TypeError(f"a continuous flow needs a manifold without boundary, such as Sphere or Torus; got {self!r}")

    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        """See `Manifold.spanned`: `√n` times the determinant without the row of the largest element.

        That row is minus the sum of the others. Without it, no precision is lost in the rows of small elements.
        """
        largest, others = x.argmax(-1, keepdim=True), torch.arange(self.n - 1, device=x.device)
        rows = others + (others >= largest)
        kept = vectors.gather(-2, rows.unsqueeze(-1).expand(*rows.shape, self.n - 1))
        return self.n**0.5 * size_of_det(kept)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x).norm(dim=-1)

    def _sample(self, n: int, options: dict[str, Any]) -> Tensor:
        unit = torch.rand(n, self.n, **options)
        return self.project(-torch.log1p(-unit))


@checked
@dataclass(frozen=True)
class Torus(Manifold):
    """The flat torus, a product of d unit circles; a point is its d angles in radians, in [0, 2π).

    The angles are the coordinates, so the ambient dimension is d too. The angles 0 and 2π are the same point.

    Attributes:
        d: Number of angles.

    Example:
        >>> import torch
        >>> Torus(1).distance(torch.tensor([0.1]), torch.tensor([6.2])).round(decimals=4)
        tensor(0.1832)
    """

    d: Size

    @property
    def dimension(self) -> int:
        return self.d

    @property
    def ambient_dimension(self) -> int:
        return self.d

    @property
    def volume(self) -> float:
        return (2 * math.pi) ** self.d

    @property
    def domain(self) -> constraints.Constraint:
        return ANGLES

    def check(self, x: Tensor) -> None:
        if x.shape[-1:] != (self.d,):
            raise ValueError(f"points on the torus must have shape (…, {self.d}), got {tuple(x.shape)}")
        require_angles(x)

    def project(self, x: Tensor) -> Tensor:
        return x.remainder(2 * math.pi)

    def tangent(self, x: Tensor) -> Tensor:
        return torch.eye(self.d, dtype=x.dtype, device=x.device).expand(*x.shape, self.d)

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v

    def tangent_field(self, field: nn.Module) -> TorusField:
        return TorusField(self.d, field)

    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        return size_of_det(vectors)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.project(x + v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x + math.pi).remainder(2 * math.pi) - math.pi

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return self.log(x, y).norm(dim=-1)

    def _sample(self, n: int, options: dict[str, Any]) -> Tensor:
        return 2 * math.pi * torch.rand(n, self.d, **options)
