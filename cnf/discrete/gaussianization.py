"""Gaussianization flows: trainable layers of marginals and rotations, started from the data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Ambient, Size, SizeOrZero, checked
from cnf.discrete.householder import Householder
from cnf.discrete.maps import LogisticMixture
from cnf.discrete.rotations import RotationName, rotation_fit
from cnf.distributions import LOG_2PI
from cnf.inputs import require_vectors
from cnf.networks import ResidualMLP
from cnf.transforms import Mapped, Transform


@checked
class GaussianizationLayer(Transform):
    """A trainable layer of a Gaussianization flow: `z = H Φ⁻¹(F(x))`, F a mixture of logistics for each element.

    `H` is a product of D Householder reflections. `initialize` takes a step of RBIG: components of equal weight
    at the quantiles of each element, then principal components. A context moves the mixtures through a network
    that starts at zero.

    Args:
        dim: D.
        components: Logistics of each mixture.
        context_dim: Length of the context; 0 for none.
        hidden: Width of the network of the context.
        blocks: Its residual blocks.
        rotation: How the rotation is started, one of `ROTATIONS`.

    References:
        Meng, Song, Song and Ermon 2020, arXiv 2003.01941.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.GaussianizationLayer(2, components=8)
        >>> _ = torch.manual_seed(0)
        >>> x = torch.rand(500, 2)
        >>> layer.initialize(x)
        >>> bool((layer.encode(x).value.std(0) - 1).abs().max() < 0.3)
        True
    """

    data_dependent = True

    def __init__(
        self,
        dim: Size,
        *,
        components: Ambient = 16,
        context_dim: SizeOrZero = 0,
        hidden: Size = 64,
        blocks: SizeOrZero = 2,
        rotation: RotationName = "pca",
    ) -> None:
        super().__init__()
        self.context_dim = context_dim
        self.mixture = LogisticMixture(components=components)
        normal = torch.special.ndtri(_levels(components, torch.get_default_dtype()))
        self.raw = nn.Parameter(_mixture_at(normal.repeat(dim, 1), self.mixture))
        outputs = dim * self.mixture.size
        self.net = ResidualMLP(context_dim, outputs, hidden=hidden, blocks=blocks) if context_dim else None
        self.fit = rotation_fit(rotation)
        self.rotation = Householder(dim)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, len(self.raw))
        z, log_slope = self._normal(x, context)
        return Mapped(self.rotation.encode(z).value, log_slope.sum(1))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, len(self.raw))
        logit, to_logit = logistic_of_normal(self.rotation.decode(z).value)
        x, to_x = self.mixture.decode(logit, self._raw(context))
        return Mapped(x, (to_logit + to_x).sum(1))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the rows of `x`."""
        levels = _levels(self.mixture.components, torch.float64).to(x.device)
        ranks = (levels * len(x)).long()
        self.raw.copy_(_mixture_at(x.double().sort(0).values[ranks].mT, self.mixture))
        rotation = self.fit(self._normal(x, context)[0].double(), torch.Generator().manual_seed(0))
        if torch.linalg.det(rotation) * (-1) ** len(rotation) < 0:  # D reflections have determinant (−1)ᴰ
            rotation[0] = -rotation[0]
        self.rotation.vectors.copy_(Householder.of(rotation).vectors)

    def _normal(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        logit, to_logit = self.mixture.encode(x, self._raw(context))
        z, to_normal = normal_of_logistic(logit)
        return z, to_logit + to_normal

    def _raw(self, context: Tensor | None) -> Tensor:
        """Of all rows alike, `(1, D, size)`, or of each by its context."""
        raw = self.raw[None]
        return raw if self.net is None else raw + self.net(context).reshape(-1, *self.raw.shape)


def _levels(components: int, dtype: torch.dtype) -> Tensor:
    """The middles of equal shares of probability, `(K,)`."""
    return (torch.arange(components, dtype=dtype) + 0.5) / components


def _mixture_at(quantiles: Tensor, mixture: LogisticMixture) -> Tensor:
    """Raw numbers `(D, size)` of logistics at the quantiles `(D, K)`.

    Each is as wide as half the distance to the next: of normal data, 16 of them make an estimate within 10⁻³ nats.
    """
    distances = torch.gradient(quantiles, dim=1)[0]
    return mixture.raw(quantiles, 0.5 * distances)


LOGIT_REACH = 80.0  # where σ leaves the range of float32; from there on both maps are straight lines
NORMAL_REACH = -torch.special.ndtri(torch.tensor(-LOGIT_REACH, dtype=torch.float64).sigmoid()).item()


def normal_of_logistic(x: Tensor) -> tuple[Tensor, Tensor]:
    """`z = Φ⁻¹(σ(x))`, which makes the logistic distribution normal, and `log dz/dx`, elementwise."""
    near = x.clamp(-LOGIT_REACH, LOGIT_REACH)
    lower = torch.special.ndtri(torch.where(x < 0, near, -near).sigmoid())  # of σ's two tails the one with digits
    log_slope = F.logsigmoid(near) + F.logsigmoid(-near) + 0.5 * (lower.square() + LOG_2PI)
    return torch.where(x < 0, lower, -lower) + log_slope.exp() * (x - near), log_slope


def logistic_of_normal(z: Tensor) -> tuple[Tensor, Tensor]:
    """`x = logit(Φ(z))`, the inverse of `normal_of_logistic`, and `log dx/dz`, elementwise."""
    near = z.clamp(-NORMAL_REACH, NORMAL_REACH)
    below, above = torch.special.log_ndtr(near), torch.special.log_ndtr(-near)
    log_slope = -0.5 * (near.square() + LOG_2PI) - below - above
    return below - above + log_slope.exp() * (z - near), log_slope
