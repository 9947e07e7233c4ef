"""Iterative Gaussianization: marginals made normal, then a rotation, again and again. Fitted (RBIG) or trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Ambient, Count, Positive, Seed, Size, SizeOrZero, checked
from cnf.discrete.linear import Householder
from cnf.discrete.maps import LogisticMixture
from cnf.discrete.marginals import Splines, fit_splines, identity_splines
from cnf.discrete.rotations import RotationName, rotation_fit
from cnf.distributions import LOG_2PI
from cnf.networks import ResidualMLP
from cnf.starts import time_is_up
from cnf.transforms import Mapped, Transform


@checked
class RBIG(Transform):
    """Rotation-based iterative Gaussianization: `x ← R_k Ψ_k(x)`, Ψ_k making each element normal; fitted, not trained.

    `initialize` adds layers as long as they pay: it keeps those whose joint gain in log-likelihood, cross-validated, is
    over its sampling noise, and ends when `patience` layers in a row are not. Without that, layers go on fitting noise
    for ever. All beyond the last one kept are the identity, so a state dict fits every module of the same settings.

    What layer k takes is `ΔJ_k = KL(p_k ‖ N(0, I)) − KL(p_{k+1} ‖ N(0, I))`, in `reductions`. After the first layer all
    marginals are normal and what is left is their dependence: the reductions from there on add up to the
    total correlation `T(x) = Σᵢ H(xᵢ) − H(x)`. (A little less: layers are judged as fitted to half of the rows.)

    Args:
        dim: D. Practical up to some hundreds.
        layers: Most layers there can be.
        rotation: "pca", the fastest per layer at second order; "ica", with the fewest layers, each of more work; or
            "random". Any of them converges. Without correlations, "pca" turns at random: see `rotations`.
        knots: Of each marginal's spline.
        patience: Layers without a joint gain over noise after which to stop.
        significance: The noise, in standard errors of the gain. With 1, independent normal data lose some hundredths
            of a nat to layers that fit noise; with 2 mostly nothing, but small data sets are fitted less closely.
        seed: Of the rotations and the cross-validation: the same data give the same flow.

    References:
        Laparra, Camps-Valls and Malo 2011, arXiv 1602.00229.
    """

    data_dependent = True
    knots: Tensor
    rotations: Tensor
    reductions: Tensor
    used: Tensor

    def __init__(
        self,
        dim: Size,
        *,
        layers: Size = 200,
        rotation: RotationName = "pca",
        knots: Size = 32,
        patience: Count = 10,
        significance: Positive = 1.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.dim, self.rotation, self.patience, self.significance = dim, rotation, patience, significance
        self.seed = seed
        self.register_buffer("knots", torch.stack(identity_splines(dim, knots)).repeat(layers, 1, 1, 1))
        self.register_buffer("rotations", torch.eye(dim).repeat(layers, 1, 1))
        self.register_buffer("reductions", torch.zeros(layers))
        self.register_buffer("used", torch.tensor(0))

    @property
    def total_correlation(self) -> Tensor:
        """`T(x)` of the data it was fitted to, in nats."""
        return self.reductions[1:].sum()

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        log_det = x.new_zeros(len(x))
        for k in range(int(self.used)):
            z, log_slope = Splines(*self.knots[k]).encode(x.mT)
            x, log_det = z.mT @ self.rotations[k].mT, log_det + log_slope.sum(0)
        return Mapped(x, log_det)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        log_det = z.new_zeros(len(z))
        for k in reversed(range(int(self.used))):
            x, log_slope = Splines(*self.knots[k]).decode((z @ self.rotations[k]).mT)
            z, log_det = x.mT, log_det + log_slope.sum(0)
        return Mapped(z, log_det)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fit the layers to the rows of `x`.

        Raises:
            ValueError: Another number of columns, fewer than 20 rows, or a constant column.
        """
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"RBIG was made for rows of {self.dim} elements, (N, {self.dim}), got {tuple(x.shape)}")
        generator = torch.Generator().manual_seed(self.seed)
        rows, used = x.double(), 0
        pending = rows.new_zeros(len(rows))
        self.used.fill_(used)  # should somebody interrupt
        for k in range(len(self.reductions)):
            splines, gain = fit_splines(rows, knots=self.knots.shape[-1], generator=generator)
            rows = splines.encode(rows.mT)[0].mT
            rotation = rotation_fit(self.rotation)(rows, generator)
            rows = rows @ rotation.mT
            self._set(k, torch.stack(splines), rotation, gain.mean())
            pending = pending + gain
            noise = self.significance * pending.std() / len(rows) ** 0.5 + 1e-9  # and rounding
            if pending.mean() > noise:
                used, pending = k + 1, torch.zeros_like(pending)
            if k + 1 - used == self.patience or time_is_up():
                break
        self.used.fill_(used)
        identity = torch.stack(identity_splines(self.dim, self.knots.shape[-1]))
        for k in range(used, len(self.reductions)):
            self._set(k, identity, torch.eye(self.dim), torch.tensor(0.0))

    def _set(self, k: int, knots: Tensor, rotation: Tensor, reduction: Tensor) -> None:
        self.knots[k] = knots
        self.rotations[k] = rotation
        self.reductions[k] = reduction


@checked
class GaussianizationLayer(Transform):
    """A layer of a Gaussianization flow, trainable: `z = H Φ⁻¹(F(x))`, F a mixture of logistics for each element.

    `H` is a product of D Householder reflections. The start from data is a step of RBIG: components of equal weight
    at the quantiles of each element, then principal components. A context moves the mixtures through a network
    that starts at zero.

    Args:
        dim: D.
        components: Logistics of each mixture.
        context_dim: Length of the context; 0 for none.
        hidden: Width of the network of the context.
        blocks: Its residual blocks.
        rotation: Where the rotation starts, a key of `ROTATIONS`.

    References:
        Meng, Song, Song and Ermon 2020, arXiv 2003.01941.
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
        z, log_slope = self._normal(x, context)
        return Mapped(self.rotation.encode(z).value, log_slope.sum(1))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
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
    """Raw numbers `(D, size)` of logistics at the quantiles `(D, K)`, each as wide as half the distance to the next:
    of normal data, 16 of them make an estimate within 10⁻³ nats."""
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
