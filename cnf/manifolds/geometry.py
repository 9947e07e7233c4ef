"""Manifolds: what a flow needs to know of the space its points live in, and how a map changes volume there.

Points and tangent vectors are vectors of length n, the ambient dimension. All methods act on the last axis, so that
any batch shape goes through. Volumes are Riemannian: the length, area, … that the surrounding space measures.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Size, checked
from cnf.discrete import log_abs_det
from cnf.distributions.interface import require_ambient
from cnf.distributions.simplex import log_ratio_basis, require_simplex
from cnf.distributions.sphere import UnitVectors, frame, log_area, require_unit
from cnf.distributions.torus import ANGLES, require_angles


class Manifold(ABC):
    """A space of dimension m whose points are vectors of length n."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """m, the dimension of its tangent spaces."""

    @property
    @abstractmethod
    def ambient_dimension(self) -> int:
        """n, the length of the vectors."""

    @property
    @abstractmethod
    def volume(self) -> float:
        """The Riemannian volume of the whole; minus its logarithm is the uniform log-density."""

    @property
    @abstractmethod
    def domain(self) -> constraints.Constraint:
        """Where points lie, as a torch constraint on vectors or, where that says it all, on their elements."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Refuse points off the manifold.

        Raises:
            ValueError: A point is further off than rounding explains; the message says how far. Or vectors of
                another length.
        """

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Vectors near the manifold to points on it, `(…, n)`."""

    @abstractmethod
    def tangent(self, x: Tensor) -> Tensor:
        """An orthonormal basis of the tangent space at each point, in columns: `(…, n)` to `(…, n, m)`."""

    @abstractmethod
    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """The part of `v` in the tangent space at `x`, `(…, n)`."""

    @abstractmethod
    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        """The volume `|det(T_xᵀ V)|` that m tangent vectors at `x` span: `(…, n)` and, in columns, `(…, n, m)`."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from `x` with the tangent vector `v` as velocity is after time 1."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest tangent vector at `x` that `exp` takes to `y`."""

    def geodesic(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The point and the velocity after time `t`, `(…, 1)`, on the geodesic from `x` with velocity `v` there."""
        return self.exp(x, t * v), v.expand_as(t * v)

    @abstractmethod
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The length of the shortest geodesic between `x` and `y`, `(…)`."""

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw n points, uniform in the Riemannian volume."""
        return self._sample(n, {"generator": generator, "dtype": dtype, "device": device})

    @abstractmethod
    def _sample(self, n: int, options: dict[str, Any]) -> Tensor:
        """Draw n points with the `options` of torch's generators of noise."""


@checked
@dataclass(frozen=True)
class Sphere(Manifold):
    """The vectors of length one in `ℝⁿ`, of dimension n − 1.

    Attributes:
        n: Length of the vectors, at least 2.
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

    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        return _size_of_det(self.tangent(x).mT @ vectors)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        angle = v.norm(dim=-1, keepdim=True)
        return angle.cos() * x + torch.sinc(angle / math.pi) * v

    def geodesic(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = v.norm(dim=-1, keepdim=True)
        return self.exp(x, t * v), (t * angle).cos() * v - angle * (t * angle).sin() * x

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Manifold.log`; between opposite points, where all directions are shortest, it takes one of them."""
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
    """The vectors of n non-negative numbers with sum 1, of dimension n − 1; flat, its geodesics are straight lines.

    It has a boundary: `exp` can lead across it.

    Attributes:
        n: Length of the vectors, at least 2.
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
        """See `Manifold.project`: non-negative numbers divided by their sum."""
        return x / x.sum(-1, keepdim=True)

    def tangent(self, x: Tensor) -> Tensor:
        """See `Manifold.tangent`; of small elements few vectors take notice, so that their scales stay apart."""
        return log_ratio_basis(self.n).to(x).flip(0)[x.argsort(-1).argsort(-1)]

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v - v.mean(-1, keepdim=True)

    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        """See `Manifold.spanned`: `√n` times the determinant without the row of the largest element.

        That row is minus the sum of the others, and each of these keeps the digits that a small element leaves it.
        """
        largest, others = x.argmax(-1, keepdim=True), torch.arange(self.n - 1, device=x.device)
        rows = others + (others >= largest)
        kept = vectors.gather(-2, rows.unsqueeze(-1).expand(*rows.shape, self.n - 1))
        return self.n**0.5 * _size_of_det(kept)

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
    """The product of d circles of radius 1, whose points are given by their d angles in [0, 2π); flat.

    The angles are the coordinates, so ambient dimension and dimension are both d; 0 and 2π are the same point.

    Attributes:
        d: Number of angles.
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

    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        return _size_of_det(vectors)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.project(x + v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x + math.pi).remainder(2 * math.pi) - math.pi

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return self.log(x, y).norm(dim=-1)

    def _sample(self, n: int, options: dict[str, Any]) -> Tensor:
        return 2 * math.pi * torch.rand(n, self.d, **options)


def volume_ratio(f: Callable[[Tensor], Tensor], x: Tensor, manifold: Manifold) -> Tensor:
    """The factor `|det(T_yᵀ F_x T_x)|` by which `f` changes volume on the manifold, at each point; by autodiff.

    `T_x` is an orthonormal basis of the tangent space at x, `T_y` one at `y = f(x)`, and `F_x` the Jacobian of `f`,
    of which only the products with `T_x` are computed, by forward mode. A density changes by `p_y(y) = p_x(x)/ratio`.
    Differentiable, in the parameters of `f` too.

    Args:
        f: A map from the manifold to itself, `(N, n)` to `(N, n)`, each row by itself; smooth around the manifold.
        x: Points `(N, n)`.
        manifold: Where they lie.

    Returns:
        The ratio, `(N,)`, not its logarithm.

    Raises:
        ValueError: Points or their images off the manifold.

    Example:
        >>> import torch
        >>> points = Sphere(3).sample(2, dtype=torch.float64)
        >>> volume_ratio(lambda x: -x, points, Sphere(3)).round(decimals=12).tolist()
        [1.0, 1.0]
    """
    manifold.check(x)
    if x.dim() != 2:
        raise ValueError(f"points must be (N, {manifold.ambient_dimension}), got {tuple(x.shape)}")

    place = x.contiguous()  # forward mode takes no expanded tensors

    def push(tangent: Tensor) -> tuple[Tensor, ...]:
        return torch.func.jvp(f, (place,), (tangent,))

    directions = manifold.tangent(x).movedim(-1, 0)
    y, moved = torch.func.vmap(push, out_dims=(None, 0))(directions)  # type: ignore[arg-type]
    manifold.check(y)
    return manifold.spanned(y, moved.movedim(0, -1))


def _size_of_det(matrix: Tensor) -> Tensor:
    """`|det|` of square matrices whose rows and columns may differ in scale by many orders."""
    columns = _lengths(matrix, -2)
    rows = _lengths(matrix / columns, -1)
    logs = columns.log().sum((-2, -1)) + rows.log().sum((-2, -1))
    return (log_abs_det(matrix / columns / rows) + logs).exp()


def _lengths(matrix: Tensor, dim: int) -> Tensor:
    return matrix.detach().norm(dim=dim, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
