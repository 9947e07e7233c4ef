"""The von Mises–Fisher density on the sphere, and the Bessel functions in it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Positives, Vector, checked
from cnf.distributions.interface import require_ambient
from cnf.distributions.sphere import SphereDensity, frame, log_area, require_unit


@checked
class VonMisesFisher(SphereDensity):
    """`p(x) = C(κ) exp(κ μᵀx)` with `C(κ) = κ^ν / ((2π)^{n/2} I_ν(κ))`, `ν = n/2 − 1`, in the Riemannian volume.

    μ and κ are trainable. Samples are drawn by rejection, so they are differentiable in μ, but not in κ.

    Args:
        mean: Initial μ, `(n,)`, not zero; it is normalised.
        concentration: Initial κ, positive. For κ → 0 the density becomes uniform. For large κ it is nearly normal
            around μ with variance 1/κ.

    Raises:
        ValueError: `mean` is zero, or `concentration` is not positive; in use, points are not on the sphere.

    References:
        Wood 1994, Communications in Statistics 23(1), for the sampler.

    Example:
        >>> import torch, cnf
        >>> base = cnf.distributions.VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 10.0)
        >>> base.log_prob(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])).detach().round(decimals=3)
        tensor([ 0.4650, -9.5350])
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

    def log_prob(self, z: Tensor) -> Tensor:
        n = self.event_shape.numel()
        require_unit(z, n)
        chord = (z - self.mean).square().sum(1)  # κ(μᵀx − 1) = −κ/2 ‖x − μ‖², without cancellation
        return -0.5 * self.concentration * chord - log_area(n) - log_scaled_bessel(n / 2, self.concentration)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        if not self.concentration.isfinite():
            raise ValueError(f"the concentration is {self.concentration.item()}: there is nothing to sample")
        drop = self._heights(n, generator)
        across = F.normalize(self.noise(n, generator)[:, 1:], dim=1)
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


def log_scaled_bessel(b: float, x: Tensor) -> Tensor:
    """`log(e^{−x} ₀F₁(; b; x²/4))` with `₀F₁(; b; x²/4) = Γ(b) (x/2)^{1−b} I_{b−1}(x)`, for x > 0; differentiable.

    It is the log of the mean of `e^{x(t − 1)}` over the sphere of ℝ^{2b}, where t is one coordinate. The power series
    has positive terms only, so that nothing cancels. For large x, 12 terms of the expansion in 1/x are accurate. Both
    are computed in float64.

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
