"""Iterative Gaussianization that is fitted, not trained: marginals made normal, then a rotation, again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from cnf.arguments import Count, Positive, Seed, Size, checked
from cnf.discrete.interpolants import Splines, identity_splines
from cnf.discrete.marginals import fit_splines
from cnf.discrete.rotations import RotationName, rotation_fit
from cnf.inputs import require_vectors
from cnf.starts import time_is_up
from cnf.transforms import Mapped, Transform


@checked
class RBIG(Transform):
    """Rotation-based iterative Gaussianization: `x ← R_k Ψ_k(x)`, Ψ_k making each element normal; fitted, not trained.

    `initialize` adds layers, and stops when `patience` layers in a row no longer raise the cross-validated
    log-likelihood by more than its sampling noise. Without this rule, layers would fit noise without end. Layers beyond
    the last useful one are the identity, so a state dict fits every module of the same settings.

    Layer k reduces the divergence from the normal by `ΔJ_k = KL(p_k ‖ N(0, I)) − KL(p_{k+1} ‖ N(0, I))`, kept in
    `reductions`. After the first layer all marginals are normal and only their dependence is left: the later reductions
    add up to the total correlation `T(x) = Σᵢ H(xᵢ) − H(x)`. (A little less: layers are judged as fitted to half of the
    rows.)

    Args:
        dim: D. Practical up to some hundreds.
        layers: Largest number of layers.
        rotation: "pca", the fastest; "ica", with fewer layers, each of more work; or "random". All of them converge.
            Without correlations, "pca" takes a random rotation.
        knots: Knots of each marginal's spline.
        patience: Layers without a gain over noise after which to stop.
        significance: The noise, in standard errors of the gain. With 1, independent normal data lose some hundredths
            of a nat to layers that fit noise; with 2 mostly nothing, but small data sets are fitted less closely.
        seed: Seed of the rotations and the cross-validation: the same data give the same flow.

    Attributes:
        total_correlation: T(x) of the data it was fitted to, in nats.

    References:
        Laparra, Camps-Valls and Malo 2011, arXiv 1602.00229.

    Example:
        >>> import torch, cnf
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(200, 1) + torch.tensor([[0.3, 0.5]]) * torch.randn(200, 2)
        >>> layer = cnf.discrete.RBIG(2, layers=3)
        >>> layer.initialize(x)
        >>> bool(layer.total_correlation > 0.5)
        True
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
        require_vectors(x, self.dim)
        log_det = x.new_zeros(len(x))
        for k in range(int(self.used)):
            z, log_slope = Splines(*self.knots[k]).encode(x.mT)
            x, log_det = z.mT @ self.rotations[k].mT, log_det + log_slope.sum(0)
        return Mapped(x, log_det)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, self.dim)
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
        require_vectors(x, self.dim)
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
