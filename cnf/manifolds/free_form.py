"""Free-form flows on manifolds."""

from __future__ import annotations

import torch
from torch import Tensor

from cnf.arguments import checked
from cnf.discrete import LearnedInverse
from cnf.discrete.free_form import PointMap
from cnf.manifolds.manifold import Manifold
from cnf.manifolds.volumes import volume_ratio
from cnf.networks import Conditioner
from cnf.probes import NOISE


@checked
class ManifoldEncoderDecoder(LearnedInverse):
    """An encoder and a decoder on a manifold, to which their outputs are projected; see `EncoderDecoder`.

    Log-determinants are in nats, with respect to the Riemannian volume.

    Args:
        encoder: f, a smooth network from `(N, n)` and a context to `(N, n)`, with the ambient dimension n.
        decoder: g, the learned inverse of f, with the same shapes.
        manifold: The manifold of the points.

    Raises:
        ValueError: The networks have different context lengths. In use, points are not on the manifold.

    References:
        Sorrenson et al. 2023, manifold free-form flows, arXiv 2312.09852.

    Example:
        >>> import torch
        >>> from cnf.manifolds import Sphere
        >>> from cnf.networks import ResidualMLP, Skip
        >>> networks = [Skip(ResidualMLP(3, 3, hidden=8)) for _ in range(2)]
        >>> ManifoldEncoderDecoder(*networks, manifold=Sphere(3)).push(torch.eye(3)).norm(dim=1)
        tensor([1., 1., 1.], grad_fn=<LinalgVectorNormBackward0>)
    """

    def __init__(self, encoder: Conditioner, decoder: Conditioner, *, manifold: Manifold) -> None:
        super().__init__(encoder, decoder)
        self.manifold = manifold
        self.domain = self.codomain = manifold.domain

    def extra_repr(self) -> str:
        return f"manifold={self.manifold!r}"

    def check(self, x: Tensor) -> None:
        self.manifold.check(x)

    def image(self, y: Tensor) -> Tensor:
        return self.manifold.project(y)

    def log_volume(self, function: PointMap, x: Tensor) -> Tensor:
        return volume_ratio(function, x, self.manifold).log()

    def directions(self, z: Tensor, probes: int) -> Tensor:
        flat = NOISE["orthogonal"](z.new_empty(len(z), self.manifold.dimension), probes, None)
        return torch.einsum("ndm,knm->knd", self.manifold.tangent(z), flat)
