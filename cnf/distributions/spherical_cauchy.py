"""Mixtures of spherical Cauchy densities."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Matrix, above, checked, inside
from cnf.distributions.interface import drawn_components, log_spread, require_ambient, spread
from cnf.distributions.sphere import SphereDensity, log_area, require_unit


@checked
class SphericalCauchyMixture(SphereDensity):
    """`p(x) = Σ_k π_k ((1 − ρ_k²) / (1 + ρ_k² − 2ρ_k μ_kᵀx))^{n−1} / area`, in the Riemannian volume.

    Each component is the image of the uniform density under a Möbius map of the sphere. Its tails are heavy: for ρ near
    1, the density falls with the distance to the mean to the power `−2(n − 1)`. So few components fit clusters of many
    sizes. μ, ρ and π are trainable; samples are differentiable in μ and ρ, but not in π.

    Args:
        means: Initial μ, `(K, n)`, not zero; they are normalised. Rows of data are a good choice.
        concentration: Initial ρ in (0, 1), broadcast to `(K,)`. For n = 3 and ρ near 1 the median distance to the mean
            is about `1 − ρ`.
        weights: Initial π, `(K,)`, positive; they are normalised. Equal by default.

    Raises:
        ValueError: A mean is zero, or ρ is outside (0, 1); in use, points are not on the sphere.

    References:
        Kato and McCullagh 2020, Bernoulli 26(4).

    Example:
        >>> import torch, cnf
        >>> base = cnf.distributions.SphericalCauchyMixture(torch.eye(3), concentration=0.8)
        >>> base.sample(4).shape
        torch.Size([4, 3])
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

    def log_prob(self, z: Tensor) -> Tensor:
        n, rho, rest = self.event_shape.numel(), self.raw.sigmoid(), (-self.raw).sigmoid()
        require_unit(z, n)
        chord = torch.cdist(z, self.means, compute_mode="donot_use_mm_for_euclid_dist").square()
        ratio = (rest * (1 + rho)).log() - (rest.square() + rho * chord).log()  # both without cancellation
        return torch.logsumexp((n - 1) * ratio + self.logits.log_softmax(0), 1) - log_area(n)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        component = drawn_components(self.logits, n, generator)
        raw = self.raw[component].unsqueeze(1)
        pole = raw.sigmoid() * self.means[component]
        moved = F.normalize(self.noise(n, generator), dim=1) + pole
        stretch = (-raw).sigmoid() * (1 + raw.sigmoid()) / moved.square().sum(1, keepdim=True)
        return F.normalize(stretch * moved + pole, dim=1)
