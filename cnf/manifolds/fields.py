"""Tangent fields on the sphere and the torus, made from any field of the space around them.

Both fields are defined near the manifold too, so that a solver needs no projection between its steps. The extension
moves a point near the manifold like its projection, and its divergence in ℝⁿ is the Riemannian divergence. Projecting
after every Runge-Kutta step or once at the end gives the same points.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cnf.arguments import Size, checked
from cnf.continuous.fields import VectorField, as_field
from cnf.continuous.linearization import Linearization
from cnf.distributions.interface import require_ambient
from cnf.distributions.sphere import frame

FEW = 3  # dimensions of a sphere up to which its tangents are pushed one by one: a closed trace costs more


@checked
class SphereField(VectorField):
    """`f(t, x) = ‖x‖ (I − x̂x̂ᵀ) g(t, x̂)` with `x̂ = x/‖x‖`: tangent to the sphere, homogeneous of degree 1.

    `‖x‖` is constant along a path, and the path of `x̂` does not depend on it. At every length the trace of the
    Jacobian is the divergence on the sphere, `tr (I − x̂x̂ᵀ) ∂g/∂x − (n − 1) x̂ᵀg`.

    An exact trace takes n − 1 products with ∂g/∂x for n ≤ 4. For larger n it takes the trace of g, which may have a
    closed form, and one product. The normal direction adds no variance to an estimate of the trace, because the
    Jacobian's part between it and the tangent space is antisymmetric.

    Args:
        n: Length of the vectors, at least 2.
        field: g, a `VectorField` or any module with `(t, x, context)`, on `(N, n)`.

    Raises:
        ValueError: n is below 2.

    Example:
        >>> import torch, cnf
        >>> x = cnf.manifolds.Sphere(3).sample(4)
        >>> f = SphereField(3, cnf.MLPField(3, hidden=8))(torch.tensor(0.5), x)
        >>> bool(((x * f).sum(1).abs() < 1e-5).all())  # tangent
        True
    """

    def __init__(self, n: Size, field: nn.Module) -> None:
        super().__init__()
        self.n = require_ambient(n, "a sphere")
        self.field = as_field(field)
        self.context_dim = self.field.context_dim

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        return self.field.takes_times(x, context)

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Any:
        return self.field.prepare(context, trace=trace and self.n - 1 > FEW)

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        length = x.norm(dim=1, keepdim=True)
        unit = x / length
        return length * _across(unit, self.field.velocity(t, unit, context, prepared))

    def linearize(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        length = x.norm(dim=1, keepdim=True)
        around = self.field.linearize(t, x / length, context, prepared)
        return SphereLinearization(x, length, around)


def _across(unit: Tensor, v: Tensor) -> Tensor:
    """The part of `v` that is tangent at `unit`."""
    return v - _dot(unit, v) * unit


def _dot(v: Tensor, w: Tensor) -> Tensor:
    return (v * w).sum(-1, keepdim=True)


class SphereLinearization(Linearization):
    """A `SphereField` at one time and place, from the field around it there.

    With `P = I − x̂x̂ᵀ` and `J = ∂g/∂x`, `∂f/∂x = P J P + (P g) x̂ᵀ − x̂ (P g)ᵀ − (x̂ᵀg) P`.

    Args:
        x: `(N, n)`.
        length: `‖x‖`, `(N, 1)`.
        around: g at `x/‖x‖`.
    """

    def __init__(self, x: Tensor, length: Tensor, around: Linearization) -> None:
        super().__init__(x)
        self.length, self.around, self.unit = length, around, around.x

    @property
    def velocity(self) -> Tensor:
        return self.length * _across(self.unit, self.around.velocity)

    def pushforward(self, v: Tensor) -> Tensor:
        across = _across(self.unit, v)
        return self._product(v, across, _across(self.unit, self.around.jvp(across)))

    def vjp(self, v: Tensor) -> Tensor:
        across = _across(self.unit, v)
        return self._product(v, across, _across(self.unit, self.around.vjp(across)), sign=-1.0)

    def _product(self, v: Tensor, across: Tensor, moved: Tensor, sign: float = 1.0) -> Tensor:
        g = self.around.velocity
        turned = _dot(self.unit, v) * _across(self.unit, g) - _dot(across, g) * self.unit
        return moved + sign * turned - _dot(self.unit, g) * across

    def trace(self) -> Tensor:
        dimension = self.x.shape[1] - 1
        if dimension <= FEW:
            basis = frame(self.unit)[..., :-1].movedim(-1, 0)
            along = (basis * self.around.jvp(basis)).sum((0, 2))
        else:
            radial = self.around.jvp(self.unit.unsqueeze(0))[0]
            along = self.around.trace() - (self.unit * radial).sum(1)
        return along - dimension * (self.unit * self.around.velocity).sum(1)


@checked
class TorusField(VectorField):
    """`f_i(t, x) = cos x_i g_{d+i} − sin x_i g_i`, `g = g(t, (cos x, sin x))`: periodic in every angle.

    g is a field on ℝ²ᵈ, projected to the tangents of the d unit circles. The torus is flat, so the divergence is the
    trace of the Jacobian with respect to the angles. It takes d products with the Jacobian of g.

    Args:
        d: Number of angles, in radians.
        field: g, a `VectorField` or any module with `(t, x, context)`, on `(N, 2d)`.

    Example:
        >>> import torch, cnf
        >>> x, field = torch.rand(4, 2), TorusField(2, cnf.MLPField(4, hidden=8))
        >>> t = torch.tensor(0.5)
        >>> torch.allclose(field(t, x), field(t, x + 2 * torch.pi), atol=1e-4)
        True
    """

    def __init__(self, d: Size, field: nn.Module) -> None:
        super().__init__()
        self.d, self.field = d, as_field(field)
        self.context_dim = self.field.context_dim

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        return self.field.takes_times(torch.cat([x.cos(), x.sin()], 1), context)

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Any:
        return self.field.prepare(context)

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        cosine, sine = x.cos(), x.sin()
        g = self.field.velocity(t, torch.cat([cosine, sine], 1), context, prepared)
        return _around(cosine, sine, g)

    def linearize(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        around = self.field.linearize(t, torch.cat([x.cos(), x.sin()], 1), context, prepared)
        return TorusLinearization(x, around)


def _around(cosine: Tensor, sine: Tensor, v: Tensor) -> Tensor:
    """The rates of the angles `(…, d)` for vectors `(…, 2d)` at points of the circles."""
    first, second = v.chunk(2, -1)
    return cosine * second - sine * first


class TorusLinearization(Linearization):
    """A `TorusField` at one time and place, from the field around it there.

    Args:
        x: The angles, `(N, d)`.
        around: g at `(cos x, sin x)`.
    """

    def __init__(self, x: Tensor, around: Linearization) -> None:
        super().__init__(x)
        self.around = around
        self.cosine, self.sine = around.x.chunk(2, 1)

    @property
    def velocity(self) -> Tensor:
        return _around(self.cosine, self.sine, self.around.velocity)

    @property
    def _inward(self) -> Tensor:
        """The components of g along the radii of the circles, `(N, d)`."""
        first, second = self.around.velocity.chunk(2, 1)
        return self.cosine * first + self.sine * second

    def pushforward(self, v: Tensor) -> Tensor:
        moved = self.around.jvp(self._vectors(v))
        return _around(self.cosine, self.sine, moved) - self._inward * v

    def vjp(self, v: Tensor) -> Tensor:
        moved = self.around.vjp(self._vectors(v))
        return _around(self.cosine, self.sine, moved) - self._inward * v

    def _vectors(self, v: Tensor) -> Tensor:
        """Rates of the angles as vectors `(…, 2d)`; `_around` is the transpose."""
        return torch.cat([-self.sine * v, self.cosine * v], -1)
