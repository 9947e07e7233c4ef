"""Normalising layers: each feature of a vector, or channel of an image, brought to mean 0 and variance 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnf.arguments import Positive, Share, Size, checked
from cnf.discrete.features import at_every_place, beside, moments
from cnf.inputs import require_features
from cnf.transforms import Mapped, Transform


@checked
class ActNorm(Transform):
    """`z = (x + shift) · exp(log_scale)` for each feature; `log_det = P Σ log_scale` with P pixels (1 for vectors).

    `initialize` sets both so that each feature has mean 0 and variance 1. From there on they are trained.

    Args:
        features: Size of the first axis of the event: D of vectors `(N, D)`, C of images `(N, C, H, W)`.

    Raises:
        ValueError: In `initialize`, a feature is constant; in use, another number of features.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.ActNorm(2)
        >>> layer.initialize(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
        >>> layer.encode(torch.tensor([[4.0, 30.0]])).value.detach().round(decimals=3)
        tensor([[2., 1.]])
    """

    data_dependent = True

    def __init__(self, features: Size) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(features))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(x, len(self.shift))
        value = (x + beside(self.shift, x)) * beside(self.log_scale.exp(), x)
        return Mapped(value, at_every_place(self.log_scale.sum(), x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(z, len(self.shift))
        value = z * beside((-self.log_scale).exp(), z) - beside(self.shift, z)
        return Mapped(value, at_every_place(-self.log_scale.sum(), z))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Normalise the rows of `x`.

        Raises:
            ValueError: A feature is constant, so no scale can bring its variance to 1.
        """
        require_features(x, len(self.shift))
        mean, variance = moments(x.double())
        constant = (variance <= 1e-24 * mean.square()).nonzero().flatten().tolist()
        if constant:
            raise ValueError(f"features {constant[:8]} are constant in the {len(x)} rows given: drop them or add noise")
        self.shift.copy_(-mean)
        self.log_scale.copy_(-0.5 * variance.log())


@checked
class BatchNorm(Transform):
    """`z = γ (x − m) / √(v + ε) + β` for each feature, with mean m and variance v of the batch, or running ones.

    `log_det = P Σ (log γ − ½ log(v + ε))` with P pixels (1 for vectors).

    In training mode, `encode` uses the statistics of its own batch and updates the running ones. The rows of a batch
    then depend on each other, the log-determinant treats m and v as constants, and `decode` is not the exact inverse.
    This is the only layer that changes when it is called. In evaluation mode, and always in `decode`, the running
    statistics make it a fixed affine map. `initialize` sets them to those of its data. Give it the whole training set,
    as MAF does before a test.

    Args:
        features: Size of the first axis of the event.
        momentum: Weight of a new batch in the running statistics.
        eps: ε, added to the variance.

    Raises:
        ValueError: A training batch of fewer than 2 values for each feature, or options out of range.

    References:
        Dinh et al. 2017, RealNVP, arXiv 1605.08803; Papamakarios et al. 2017, MAF, arXiv 1705.07057.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.BatchNorm(1).eval()
        >>> layer.initialize(torch.tensor([[1.0], [3.0], [5.0]]))
        >>> layer.encode(torch.tensor([[3.0], [5.0]])).value.detach().round(decimals=3)
        tensor([[0.0000],
                [1.2250]])
    """

    data_dependent = True
    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        features: Size,
        *,
        momentum: Share = 0.1,
        eps: Positive = 1e-5,
    ) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.shift = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(x, len(self.mean))
        mean, variance = self._of_the_batch(x) if self.training else (self.mean, self.variance)
        log_slope = self._log_slope(variance)
        value = (x - beside(mean, x)) * beside(log_slope.exp(), x) + beside(self.shift, x)
        return Mapped(value, at_every_place(log_slope.sum(), x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(z, len(self.mean))
        log_slope = self._log_slope(self.variance)
        value = (z - beside(self.shift, z)) * beside((-log_slope).exp(), z) + beside(self.mean, z)
        return Mapped(value, at_every_place(-log_slope.sum(), z))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set the running statistics to those of the rows of `x`."""
        require_features(x, len(self.mean))
        mean, variance = moments(x.double())
        self.mean.copy_(mean)
        self.variance.copy_(variance)

    def _log_slope(self, variance: Tensor) -> Tensor:
        return self.log_scale - 0.5 * (variance + self.eps).log()

    def _of_the_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of this batch, of which the running ones take their share."""
        if x.numel() < 2 * len(self.mean):
            raise ValueError(f"batch norm needs 2 values a feature in training, got {tuple(x.shape)}: use eval()")
        mean, variance = moments(x)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance, self.momentum)
        return mean, variance
