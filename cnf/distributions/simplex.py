"""Base densities on the simplex, with respect to its Riemannian volume, `√n dx₁ … dxₙ₋₁`.

So a density here is the usual density, that of the first n − 1 coordinates, divided by `√n`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Positive, Positives, Reals, Size, above, checked
from cnf.distributions.euclidean import normal_log_prob
from cnf.distributions.interface import BaseDensity, log_spread, require_ambient, require_near, spread
from cnf.tracing import rows_with


def require_simplex(x: Tensor, n: int) -> None:
    """Check that points `(…, n)` are on the simplex; the error says how far off they are."""
    if x.shape[-1:] != (n,):
        raise ValueError(f"points on the simplex must have shape (…, {n}), got {tuple(x.shape)}")
    far = torch.maximum((x.sum(-1) - 1).abs(), -x.amin(-1))
    require_near(far, "the simplex", "their elements must not be negative and have sum 1, as after x / x.sum(-1)")


def log_interior(x: Tensor, n: int) -> Tensor:
    """`log x` of points inside the simplex.

    Raises:
        ValueError: A point is off the simplex, or on its boundary, where logarithms are infinite.
    """
    require_simplex(x, n)
    zeros = rows_with((x <= 0).reshape(-1, n))
    if zeros:
        raise ValueError(
            f"{len(zeros)} points have zeros, where the logarithm is infinite, first in rows {zeros[:5]}: "
            "smooth them, p = (1 − ε) p + ε/n, with cnf.manifolds.smooth(p, 1e-6)"
        )
    return x.log()


def as_point(log_x: Tensor) -> Tensor:
    """`exp log x`, at least the smallest normal number, so that its logarithm is finite."""
    return log_x.exp().clamp_min(torch.finfo(log_x.dtype).tiny)


def log_ratio_basis(n: int) -> Tensor:
    """An orthonormal basis of the vectors with sum 0, `(n, n − 1)`; column j compares element j + 1 with all before."""
    j = torch.arange(1, n, dtype=torch.float64)
    scale = (j * (j + 1)).rsqrt()
    basis = torch.ones(n, n - 1, dtype=torch.float64).triu() * scale
    basis[1:] -= torch.diag(j * scale)
    return basis


@checked
class Dirichlet(BaseDensity):
    """`log p(x) = log Γ(Σα) − Σ log Γ(αᵢ) + Σ (αᵢ − 1) log xᵢ − ½ log n`, in the Riemannian volume.

    α is trainable, and samples are differentiable in it.

    Args:
        concentration: Initial α, `(n,)`, positive; all ones are the uniform density.

    Raises:
        ValueError: `concentration` is not positive or no vector of length 2 or more; in use, points are not on the
            simplex.

    Example:
        >>> import torch, cnf
        >>> base = cnf.distributions.Dirichlet([1.0, 1.0, 1.0])
        >>> base.log_prob(torch.tensor([[0.2, 0.3, 0.5]])).detach()
        tensor([0.1438])
    """

    def __init__(self, concentration: Annotated[Tensor, above(0)] | Sequence[Positive]) -> None:
        concentration = torch.as_tensor(concentration)
        if concentration.dim() != 1:
            raise ValueError(f"concentration must be a vector (n,), got {concentration.tolist()}")
        super().__init__(require_ambient(len(concentration), "a simplex"))
        if not concentration.is_floating_point():
            concentration = concentration.to(torch.get_default_dtype())
        self.log_concentration = nn.Parameter(concentration.detach().log())
        self._like = self.log_concentration.detach().new_zeros(())

    @property
    def concentration(self) -> Tensor:
        """α, `(n,)`."""
        return self.log_concentration.exp()

    @property
    def support(self) -> constraints.Constraint:
        return constraints.simplex

    def log_prob(self, z: Tensor) -> Tensor:
        n, alpha = self.event_shape.numel(), self.concentration
        require_simplex(z, n)
        constant = torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum() - 0.5 * math.log(n)
        return torch.xlogy(alpha - 1, z.clamp_min(0)).sum(1) + constant

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        alpha = self.concentration.expand(n, -1)
        gamma = torch._standard_gamma(alpha + 1, generator=generator)
        unit = torch.rand(alpha.shape, generator=generator, dtype=self.dtype, device=self.device)
        # Gamma(α) = Gamma(α + 1) U^{1/α}, in logarithms because small α underflow
        logs = gamma.log() + unit.clamp_min(torch.finfo(self.dtype).tiny).log() / alpha
        return as_point(logs.log_softmax(1))


@checked
class LogisticNormal(BaseDensity):
    """`x = softmax(T y)` with `y ~ N(loc, diag(scale²))` in `ℝⁿ⁻¹`, T an orthonormal basis of the vectors with sum 0.

    `log p(x) = log N(Tᵀ log x) − log n − Σ log xᵢ`, in the Riemannian volume. `loc` and `scale` are trainable, and
    samples are differentiable in them. A `GeneralizedCalibration` of this density gives any covariance.

    Args:
        n: Length of the vectors, at least 2.
        loc: Initial mean of y, broadcast to `(n − 1,)`. With 0 and equal scales the density is symmetric.
        scale: Initial standard deviation of y, positive, broadcast to `(n − 1,)`.

    Raises:
        ValueError: n is below 2, or a shape or `scale` is wrong; in use, points are outside the simplex or on its
            boundary.

    References:
        Aitchison and Shen 1980, Biometrika 67(2); the coordinates y: Egozcue et al. 2003.

    Example:
        >>> import torch, cnf
        >>> x = cnf.distributions.LogisticNormal(3).sample(4)
        >>> x.shape, torch.allclose(x.sum(1), torch.ones(4))
        (torch.Size([4, 3]), True)
    """

    def __init__(self, n: Size, *, loc: Reals = 0.0, scale: Positives = 1.0) -> None:
        super().__init__(require_ambient(n, "a simplex"))
        self.loc = nn.Parameter(spread("loc", loc, (n - 1,)))
        self.log_scale = nn.Parameter(log_spread("scale", scale, (n - 1,)))
        self._like = self.loc.detach().new_zeros(())

    @property
    def support(self) -> constraints.Constraint:
        return constraints.simplex

    def log_prob(self, z: Tensor) -> Tensor:
        n = self.event_shape.numel()
        logs = log_interior(z, n)
        normal = normal_log_prob(logs @ log_ratio_basis(n).to(logs), self.loc, self.log_scale)
        return normal.sum(1) - math.log(n) - logs.sum(1)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn((n, len(self.loc)), generator=generator, dtype=self.dtype, device=self.device)
        y = self.loc + self.log_scale.exp() * noise
        return as_point((y @ log_ratio_basis(self.event_shape.numel()).to(y).mT).log_softmax(1))
