"""Where the points of a continuous flow lie: all of ℝⁿ, or a manifold in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import checked
from cnf.continuous.fields import VectorField, as_field


class Space(ABC):
    """A manifold without boundary in ℝⁿ, with the operations that a `CNF` needs.

    To write one, define the methods below. All of them act on the last axis. If `project` gives the nearest point,
    `tangent_field` can return a `TangentField`, as here.

    Example: The cylinder `x_0² + x_1² = 1` of ℝ³.
        >>> import torch, cnf
        >>> from cnf.continuous import Space, TangentField
        >>> class Cylinder(Space):
        ...     domain = torch.distributions.constraints.real_vector
        ...     def check(self, x):
        ...         if ((x[..., :2].norm(dim=-1) - 1).abs() > 1e-4).any():
        ...             raise ValueError("points must lie on the cylinder")
        ...     def project(self, x):
        ...         return torch.cat([torch.nn.functional.normalize(x[..., :2], dim=-1), x[..., 2:]], -1)
        ...     def to_tangent(self, x, v):
        ...         normal = x * torch.tensor([1.0, 1.0, 0.0])
        ...         return v - (v * normal).sum(-1, keepdim=True) * normal
        ...     def tangent_field(self, field):
        ...         return TangentField(self, field)
        >>> flow = cnf.CNF(cnf.MLPField(3, hidden=8), manifold=Cylinder(), solver=cnf.RungeKutta("rk4", steps=4))
        >>> x, log_det, _ = flow.decode(torch.tensor([[0.0, 1.0, 2.0]]))
        >>> round(x[0, :2].norm().item(), 4), log_det.shape
        (1.0, torch.Size([1]))
    """

    @property
    @abstractmethod
    def domain(self) -> constraints.Constraint:
        """The set of points, as a torch constraint on vectors or on their elements."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Check that the points `(…, n)` are on the manifold.

        Raises:
            ValueError: Vectors of another length, or a point that is off the manifold by more than rounding; the
                message says how far.
        """

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The nearest points on the manifold, for vectors `(…, n)` close to it."""

    @abstractmethod
    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """The orthogonal projection of `v`, `(…, n)`, to the tangent space at `x`, `(…, n)`."""

    @abstractmethod
    def tangent_field(self, field: nn.Module) -> VectorField:
        """A tangent field; the trace of its Jacobian must be its divergence in the volume of the manifold.

        Args:
            field: A `VectorField`, or any module with `(t, x, context)`.

        Raises:
            TypeError: There is none, because the manifold has a boundary.
        """


@dataclass(frozen=True)
class Euclidean(Space):
    """ℝⁿ itself: every field is tangent, and events may have any shape.

    Example:
        >>> import torch
        >>> x, v = torch.randn(3, 2), torch.randn(3, 2)
        >>> torch.equal(Euclidean().to_tangent(x, v), v)
        True
    """

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.real

    def check(self, x: Tensor) -> None:
        pass

    def project(self, x: Tensor) -> Tensor:
        return x

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v

    def tangent_field(self, field: nn.Module) -> VectorField:
        return as_field(field)


@checked
class TangentField(VectorField):
    """`f(t, x) = T(π(x)) g(t, π(x))`, π the nearest point on a manifold and T the projection to its tangent space.

    f is constant along the normals, so on any manifold the trace of its Jacobian is its Riemannian divergence. The
    Jacobian is computed by `torch.func`: an exact trace takes n products.

    Args:
        manifold: The space, with `project` (π, the nearest point) and `to_tangent` (T).
        field: g, a `VectorField` or any module with `(t, x, context)`, on `(N, n)`.

    Example:
        >>> import torch, cnf
        >>> from cnf.continuous import TangentField
        >>> x = cnf.manifolds.Sphere(3).sample(4)
        >>> v = TangentField(cnf.manifolds.Sphere(3), cnf.MLPField(3, hidden=8))(torch.tensor(0.5), x)
        >>> bool(((x * v).sum(1).abs() < 1e-5).all())
        True
    """

    def __init__(self, manifold: Space, field: nn.Module) -> None:
        super().__init__()
        self.manifold, self.field = manifold, as_field(field)
        self.context_dim = self.field.context_dim

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        return self.field.takes_times(x, context)

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Any:
        return self.field.prepare(context)

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        x = self.manifold.project(x)
        return self.manifold.to_tangent(x, self.field.velocity(t, x, context, prepared))
