"""Base densities on the unit sphere of ℝⁿ, with respect to its Riemannian volume (arc length, area, …)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Matrix, Positives, Size, Vector, above, checked, inside
from cnf.distributions.interface import OFF, BaseDensity, log_spread, require_ambient, require_near, spread


class UnitVectors(constraints.Constraint):
    """Vectors of length one, up to rounding."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value.norm(dim=-1) - 1).abs() <= OFF


def require_unit(x: Tensor, n: int) -> None:
    """Refuse what is not `(…, n)` of unit length, saying how far off it is."""
    if x.shape[-1:] != (n,):
        raise ValueError(f"points on the sphere must have shape (…, {n}), got {tuple(x.shape)}")
    require_near((x.norm(dim=-1) - 1).abs(), "the unit sphere", "divide them by their length, x / x.norm(dim=-1)")


def log_area(n: int) -> float:
    """`log 2π^{n/2}/Γ(n/2)`, the log-volume of the unit sphere of ℝⁿ."""
    return math.log(2) + 0.5 * n * math.log(math.pi) - math.lgamma(0.5 * n)


def frame(x: Tensor) -> Tensor:
    """A rotation or reflection whose last column is the unit vector `x`: `(…, n)` to `(…, n, n)`.

    The other columns are an orthonormal basis of the tangent space at `x`. It is a Householder reflection of `±eₙ`
    on `x`, the sign being that of the longer way, so that nothing cancels.
    """
    last = torch.zeros_like(x)
    last[..., -1] = 1
    sign = torch.where(x[..., -1:] < 0, -1.0, 1.0).to(x)
    u = x + sign * last
    identity = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    reflection = identity - u.unsqueeze(-1) * u.unsqueeze(-2) / (1 + x[..., -1:].abs()).unsqueeze(-1)
    return -sign.unsqueeze(-1) * reflection


@checked
class SphereUniform(BaseDensity):
    """Uniform on the unit sphere: `log p = −log 2π^{n/2}/Γ(n/2)` with respect to the Riemannian volume.

    Args:
        n: Length of the vectors; the sphere has dimension n − 1.
    """

    def __init__(self, n: Size) -> None:
        super().__init__(require_ambient(n, "a sphere"))

    @property
    def support(self) -> constraints.Constraint:
        return UnitVectors()

    def log_prob(self, z: Tensor) -> Tensor:
        require_unit(z, self.event_shape.numel())
        return z.new_full((len(z),), -log_area(self.event_shape.numel()))

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        return F.normalize(self._noise(n, generator), dim=1)


@checked
class AngularCentralGaussian(BaseDensity):
    """The direction of a normal vector: `p(x) = |Σ|^{−1/2} (xᵀΣ⁻¹x)^{−n/2} / area`, in the Riemannian volume.

    Symmetric, `p(x) = p(−x)`; Σ and any multiple of it give the same density. Trainable through its Cholesky factor,
    whose diagonal is kept as a logarithm.

    Args:
        covariance: Σ, `(n, n)`, symmetric and positive definite.

    Raises:
        ValueError: Σ is not symmetric and positive definite.

    References:
        Tyler 1987, Biometrika 74(3).
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
    def support(self) -> constraints.Constraint:
        return UnitVectors()

    @property
    def _factor(self) -> Tensor:
        return self.below.tril(-1) + torch.diag(self.log_diagonal.exp())

    def log_prob(self, z: Tensor) -> Tensor:
        n = self.event_shape.numel()
        require_unit(z, n)
        white = torch.linalg.solve_triangular(self._factor, z.mT, upper=False)
        return -log_area(n) - self.log_diagonal.sum() - n * white.norm(dim=0).log()

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        return F.normalize(self._noise(n, generator) @ self._factor.mT, dim=1)


@checked
class VonMisesFisher(BaseDensity):
    """`p(x) = C(κ) exp(κ μᵀx)` with `C(κ) = κ^ν / ((2π)^{n/2} I_ν(κ))`, `ν = n/2 − 1`, in the Riemannian volume.

    Trainable. Samples are differentiable in the mean direction, not in the concentration: they are drawn by rejection.

    Args:
        mean: μ, `(n,)`, normalised here; not zero.
        concentration: κ, positive; towards 0 the density becomes uniform, and for large κ nearly normal around μ with
            variance 1/κ.

    Raises:
        ValueError: A zero mean or a concentration that is not positive.

    References:
        Wood 1994, Communications in Statistics 23(1), for the sampler.
    """

    def __init__(self, mean: Vector, concentration: Positives) -> None:
        if not mean.norm() > 0:
            raise ValueError(f"mean must be a vector (n,) of positive length, got {mean.tolist()}")
        super().__init__(require_ambient(len(mean), "a sphere"))
        concentration = torch.as_tensor(concentration).to(mean)
        if concentration.dim() != 0 or not 0 < concentration < math.inf:
            raise ValueError(f"concentration must be a positive number (SphereUniform has 0), got {concentration}")
        self.direction = nn.Parameter(F.normalize(mean.detach(), dim=0))
        self.log_concentration = nn.Parameter(concentration.detach().log())
        self._like = mean.new_zeros(()).detach()

    @property
    def mean(self) -> Tensor:
        """The mean direction μ, `(n,)`, of unit length."""
        return F.normalize(self.direction, dim=0)

    @property
    def concentration(self) -> Tensor:
        """κ, a scalar."""
        return self.log_concentration.exp()

    @property
    def support(self) -> constraints.Constraint:
        return UnitVectors()

    def log_prob(self, z: Tensor) -> Tensor:
        n = self.event_shape.numel()
        require_unit(z, n)
        chord = (z - self.mean).square().sum(1)  # κ(μᵀx − 1) = −κ/2 ‖x − μ‖², without cancellation
        return -0.5 * self.concentration * chord - log_area(n) - log_scaled_bessel(n / 2, self.concentration)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        if not self.concentration.isfinite():
            raise ValueError(f"the concentration is {self.concentration.item()}: there is nothing to sample")
        drop = self._heights(n, generator)
        across = F.normalize(self._noise(n, generator)[:, 1:], dim=1)
        local = torch.cat([(drop * (2 - drop)).sqrt() * across, 1 - drop], 1)
        return F.normalize(local @ frame(self.mean).mT, dim=1)

    @torch.no_grad()
    def _heights(self, n: int, generator: torch.Generator | None) -> Tensor:
        """`1 − μᵀx` for n samples, `(n, 1)`, by Wood's rejection, which keeps at least two thirds of its proposals."""
        half = torch.full((n,), 0.5 * (self.event_shape.numel() - 1), dtype=self.dtype, device=self.device)
        k, m = self.concentration, self.event_shape.numel() - 1
        b = m / (2 * k + (4 * k.square() + m**2).sqrt())
        peak = 2 * b / (1 + b)  # 1 − x₀ of the paper
        drop, waiting = torch.empty_like(half), torch.arange(n, device=self.device)
        while len(waiting):
            first, second = (torch._standard_gamma(half[waiting], generator=generator) for _ in range(2))
            z = first / (first + second)
            proposed = 2 * b * z / (1 - (1 - b) * z)
            ratio = (peak + (1 - peak) * proposed) / (peak * (2 - peak))
            bound = k * (peak - proposed) + m * ratio.log()
            accepted = torch.rand(z.shape, generator=generator, dtype=z.dtype, device=z.device).log() <= bound
            drop[waiting[accepted]] = proposed[accepted]
            waiting = waiting[~accepted]
        return drop.unsqueeze(1)


@checked
class SphericalCauchyMixture(BaseDensity):
    """`p(x) = Σ_k π_k ((1 − ρ_k²) / (1 + ρ_k² − 2ρ_k μ_kᵀx))^{n−1} / area`, in the Riemannian volume.

    Each component is the image of the uniform density under a Möbius map of the sphere, with heavy tails: far from
    the mean, and for ρ near 1, it falls like the distance to the power `−2(n − 1)`. So few components serve clusters of
    many sizes. Trainable. Samples are differentiable in μ and ρ, not in the weights.

    Args:
        means: μ, `(K, n)`, normalised here; rows of data are a good start.
        concentration: ρ, in (0, 1), broadcast to `(K,)`: the median distance to the mean is about `(1 − ρ)` on the
            sphere of ℝ³ near ρ = 1.
        weights: π, `(K,)`, positive, normalised here; equal by default.

    Raises:
        ValueError: A zero mean, or ρ outside (0, 1).

    References:
        Kato and McCullagh 2020, Bernoulli 26(4).
    """

    def __init__(
        self,
        means: Matrix,
        *,
        concentration: Annotated[Tensor | float, inside(0, 1)] = 0.9,
        weights: Annotated[Tensor, above(0)] | None = None,
    ) -> None:
        if not len(means) or not (means.norm(dim=1) > 0).all():
            raise ValueError(f"means must be vectors (K, n) of positive length, got shape {tuple(means.shape)}")
        super().__init__(require_ambient(means.shape[1], "a sphere"))
        concentration = spread("concentration", concentration, means.shape[:1]).to(means)
        weights = means.new_ones(len(means)) if weights is None else weights.to(means)
        self.directions = nn.Parameter(F.normalize(means.detach(), dim=1))
        self.raw = nn.Parameter(concentration.detach().logit())
        self.logits = nn.Parameter(log_spread("weights", weights.detach(), means.shape[:1]))
        self._like = means.new_zeros(()).detach()

    @property
    def means(self) -> Tensor:
        """μ, `(K, n)`, of unit length."""
        return F.normalize(self.directions, dim=1)

    @property
    def support(self) -> constraints.Constraint:
        return UnitVectors()

    def log_prob(self, z: Tensor) -> Tensor:
        n, rho, rest = self.event_shape.numel(), self.raw.sigmoid(), (-self.raw).sigmoid()
        require_unit(z, n)
        chord = torch.cdist(z, self.means, compute_mode="donot_use_mm_for_euclid_dist").square()
        ratio = (rest * (1 + rho)).log() - (rest.square() + rho * chord).log()  # both without cancellation
        return torch.logsumexp((n - 1) * ratio + self.logits.log_softmax(0), 1) - log_area(n)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        component = torch.multinomial(self.logits.softmax(0), max(n, 1), replacement=True, generator=generator)[:n]
        raw = self.raw[component].unsqueeze(1)
        pole = raw.sigmoid() * self.means[component]
        moved = F.normalize(self._noise(n, generator), dim=1) + pole
        stretch = (-raw).sigmoid() * (1 + raw.sigmoid()) / moved.square().sum(1, keepdim=True)
        return F.normalize(stretch * moved + pole, dim=1)


def log_scaled_bessel(b: float, x: Tensor) -> Tensor:
    """`log(e^{−x} ₀F₁(; b; x²/4))` with `₀F₁(; b; x²/4) = Γ(b) (x/2)^{1−b} I_{b−1}(x)`, for x > 0; differentiable.

    It is the log of the mean of `e^{x(t − 1)}` over the sphere of ℝ^{2b}, t being one coordinate. The power series has
    positive terms only, so that its sum loses no digits; the expansion in 1/x takes over where 12 of its terms leave
    nothing out. Both are computed in float64.

    References:
        Abramowitz and Stegun 1964, 9.6.10 and 9.7.1.
    """
    order, wide, size = b - 1, x.double(), x.item()
    if size > 1000 + 10 * order**2:
        return (_expansion(order, wide) + math.lgamma(b) - order * (wide / 2).log()).to(x)
    terms = int(size / 2 + 10 * size**0.5 + 40)
    k = torch.arange(terms, dtype=wide.dtype, device=x.device)
    logs = 2 * k * (wide / 2).log() - torch.lgamma(k + 1) - torch.lgamma(k + b) + math.lgamma(b)
    return (torch.logsumexp(logs, 0) - wide).to(x)


def _expansion(order: float, x: Tensor) -> Tensor:
    """`log(e^{−x} I_order(x))` for x far beyond order²."""
    term = total = torch.ones_like(x)
    for k in range(1, 13):
        term = -term * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k * x)
        total = total + term
    return total.log() - 0.5 * (2 * math.pi * x).log()
