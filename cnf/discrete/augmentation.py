"""Augmentation: dimensions of noise beside the data, in which a flow has room to move."""

from __future__ import annotations

import torch
from torch import Tensor

from cnf.arguments import Shape, Size, checked
from cnf.distributions import as_event_shape, standard_normal_log_prob
from cnf.transforms import Mapped, Transform


@checked
class Augment(Transform):
    """`z = (x, e)` with standard normal noise e, `log_det = −log q(e)`; decode drops e again.

    With the joint density `p(x, e)` of the rest of a flow, its `log_prob` is one draw of `log p(x, e) − log q(e)`. The
    mean of it is at most `log p(x)`, with equality where `p(e | x) = q(e)`. `cnf.metrics.importance_log_prob` gives
    estimates as close as needed. `decode` gives `log_det = log q(e)` of the e that it drops: over samples of the flow,
    the mean of `log p(x, e) − log q(e)` is at least that of `log p(x)`.

    Args:
        extra: How many dimensions of noise.
        event_shape: Shape of the data, which become a vector; None for vectors of any length.

    Raises:
        ValueError: `extra` is not positive.

    References:
        Huang et al. 2020, Augmented normalizing flows, arXiv 2002.07101; Chen et al. 2020, VFlow, arXiv 2002.09741.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.Augment(2)
        >>> layer.encode(torch.zeros(4, 3)).value.shape, layer.decode(torch.zeros(4, 5)).value.shape
        (torch.Size([4, 5]), torch.Size([4, 3]))
    """

    def __init__(self, extra: Size, event_shape: Shape | None = None) -> None:
        super().__init__()
        self.extra = extra
        self.event_shape = None if event_shape is None else as_event_shape(event_shape)

    @property
    def exact(self) -> bool:
        return False

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        event = self.event_shape or torch.Size([base_shape.numel() - self.extra])
        if len(base_shape) != 1 or event.numel() < 1 or event.numel() + self.extra != base_shape[0]:
            data = "data" if self.event_shape is None else f"data {tuple(self.event_shape)}"
            raise ValueError(f"{data} with {self.extra} more dimensions do not make a vector {tuple(base_shape)}")
        return event

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        noise = torch.randn(len(x), self.extra, dtype=x.dtype, device=x.device)
        return Mapped(torch.cat([x.flatten(1), noise], 1), -standard_normal_log_prob(noise))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        x, noise = z[:, : -self.extra], z[:, -self.extra :]
        return Mapped(
            x if self.event_shape is None else x.unflatten(1, self.event_shape), standard_normal_log_prob(noise)
        )
