"""Base densities on the unit sphere of ℝⁿ, with respect to its Riemannian volume (arc length, area, …)."""

from __future__ import annotations

import math
from abc import ABC

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Matrix, Size, checked
from cnf.distributions.interface import (
    OFF,
    BaseDensity,
    require_ambient,
    require_near,
)


class UnitVectors(constraints.Constraint):
    """The set of unit vectors, up to rounding, as a constraint of torch.

    Example:
        >>> import torch
        >>> UnitVectors().check(torch.tensor([[0.6, 0.8], [1.0, 1.0]]))
        tensor([ True, False])
    """

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value.norm(dim=-1) - 1).abs() <= OFF


def require_unit(x: Tensor, n: int) -> None:
    """Check that points `(…, n)` have unit length; the error says how far off they are."""
    if x.shape[-1:] != (n,):
        raise ValueError(f"points on the sphere must have shape (…, {n}), got {tuple(x.shape)}")
    require_near((x.norm(dim=-1) - 1).abs(), "the unit sphere", "divide them by their length, x / x.norm(dim=-1)")


def log_area(n: int) -> float:
    """`log 2π^{n/2}/Γ(n/2)`, the log-volume of the unit sphere of ℝⁿ."""
    return math.log(2) + 0.5 * n * math.log(math.pi) - math.lgamma(0.5 * n)


def frame(x: Tensor) -> Tensor:
    """A rotation or reflection whose last column is the unit vector `x`: `(…, n)` to `(…, n, n)`.

    The other columns are an orthonormal basis of the tangent space at `x`. It is a Householder reflection of `±eₙ` to
    `x`, with the sign that avoids cancellation.
    """
    last = torch.zeros_like(x)
    last[..., -1] = 1
    sign = torch.where(x[..., -1:] < 0, -1.0, 1.0).to(x)
    u = x + sign * last
    identity = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    reflection = identity - u.unsqueeze(-1) * u.unsqueeze(-2) / (1 + x[..., -1:].abs()).unsqueeze(-1)
    return -sign.unsqueeze(-1) * reflection


class SphereDensity(BaseDensity, ABC):
    """A density of unit vectors `(n,)`, in the Riemannian volume of the sphere.

    To write one, define `log_prob` and `draw`; see `BaseDensity`.

    Args:
        event_shape: Length n of the vectors.

    Example: Uniform on the upper half of the circle.
        >>> import math, torch, cnf
        >>> class Half(cnf.distributions.SphereDensity):
        ...     def log_prob(self, z):
        ...         return torch.where(z[:, 1] > 0, -math.log(math.pi), -math.inf)
        ...
        ...     def draw(self, n, generator):
        ...         angle = math.pi * torch.rand(n, generator=generator, dtype=self.dtype, device=self.device)
        ...         return torch.stack((angle.cos(), angle.sin()), 1)
        >>> base = Half(2)
        >>> bool(base.support.check(base.sample(10)).all())
        True
    """

    @property
    def support(self) -> constraints.Constraint:
        return UnitVectors()


@checked
class SphereUniform(SphereDensity):
    """The uniform density on the unit sphere: `log p = −log 2π^{n/2}/Γ(n/2)`, in the Riemannian volume.

    Args:
        n: Length of the vectors, at least 2; the sphere has dimension n − 1.

    Raises:
        ValueError: n is below 2; in use, points are not on the sphere.

    Example:
        >>> import torch, cnf
        >>> base = cnf.distributions.SphereUniform(3)
        >>> base.log_prob(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([-2.5310])
    """

    def __init__(self, n: Size) -> None:
        super().__init__(require_ambient(n, "a sphere"))

    def log_prob(self, z: Tensor) -> Tensor:
        require_unit(z, self.event_shape.numel())
        return z.new_full((len(z),), -log_area(self.event_shape.numel()))

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        return F.normalize(self.noise(n, generator), dim=1)


@checked
class AngularCentralGaussian(SphereDensity):
    """The density of `y/‖y‖` with `y ~ N(0, Σ)`: `p(x) = |Σ|^{−1/2} (xᵀΣ⁻¹x)^{−n/2} / area`, in the Riemannian volume.

    It is symmetric, `p(x) = p(−x)`. Multiples of Σ give the same density. The Cholesky factor of Σ is trainable, with
    the logarithm of its diagonal as parameter.

    Args:
        covariance: Initial Σ, `(n, n)`, symmetric and positive definite.

    Raises:
        ValueError: Σ is not symmetric and positive definite; in use, points are not on the sphere.

    References:
        Tyler 1987, Biometrika 74(3).

    Example:
        >>> import torch, cnf
        >>> base = cnf.distributions.AngularCentralGaussian(torch.diag(torch.tensor([4.0, 1.0])))
        >>> base.log_prob(torch.eye(2)).detach().round(decimals=3)
        tensor([-1.1450, -2.5310])
    """

    def __init__(self, covariance: Matrix) -> None:
        square = covariance.shape[0] == covariance.shape[1]
        if not square or not torch.allclose(covariance, covariance.mT):
            raise ValueError(f"covariance must be a symmetric matrix, got shape {tuple(covariance.shape)}")
        super().__init__(require_ambient(len(covariance), "a sphere"))
        factor, failed = torch.linalg.cholesky_ex(covariance.detach())
        if failed or not factor.isfinite().all():
            least = torch.linalg.eigvalsh(covariance)[0].item()
            raise ValueError(f"covariance must be positive definite, its least eigenvalue is {least:.3g}")
        self.below = nn.Parameter(factor.tril(-1))
        self.log_diagonal = nn.Parameter(factor.diagonal().log())
        self._like = factor.new_zeros(())

    @property
    def _factor(self) -> Tensor:
        return self.below.tril(-1) + torch.diag(self.log_diagonal.exp())

    def log_prob(self, z: Tensor) -> Tensor:
        n = self.event_shape.numel()
        require_unit(z, n)
        white = torch.linalg.solve_triangular(self._factor, z.mT, upper=False)
        return -log_area(n) - self.log_diagonal.sum() - n * white.norm(dim=0).log()

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        return F.normalize(self.noise(n, generator) @ self._factor.mT, dim=1)
