"""Elementwise transforms, mostly preprocessing: part of the flow, so that densities stay in the user's own units."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Reals, Rule, Shape, checked
from cnf.distributions import as_event_shape
from cnf.distributions.interface import spread
from cnf.inputs import require_event
from cnf.networks import softplus
from cnf.tracing import rows_with
from cnf.transforms import Mapped, Transform

Scale = Annotated[Reals, Rule("and not zero", lambda value: value != 0)]


@checked
class Affine(Transform):
    """`z = (x − shift) / scale` with constants: `log_det = −Σ log |scale|`.

    Where the square of an element of z is too large for the dtype, `encode` limits the element to the largest usable
    value and gives `log_det = −∞`, so that later layers stay finite.

    Args:
        event_shape: Shape of one sample.
        shift: Broadcasts to the event.
        scale: Broadcasts to the event; not zero.

    Raises:
        ValueError: A scale is zero or not finite.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Affine(2, shift=1.0, scale=torch.tensor([2.0, 4.0]))
        >>> z, log_det, _ = layer.encode(torch.tensor([[3.0, 5.0]]))
        >>> z, log_det
        (tensor([[1., 1.]]), tensor([-2.0794]))
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, event_shape: Shape, *, shift: Reals = 0.0, scale: Scale = 1.0) -> None:
        super().__init__()
        self.event_shape = as_event_shape(event_shape)
        self.register_buffer("shift", spread("shift", shift, self.event_shape))
        self.register_buffer("scale", spread("scale", scale, self.event_shape))

    def extra_repr(self) -> str:
        return f"event_shape={tuple(self.event_shape)}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_event(x, self.event_shape)
        z = (x - self.shift) / self.scale
        z, beyond = limited(z)
        return Mapped(z, (-self._log_scale(len(x))).masked_fill(beyond, -torch.inf))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_event(z, self.event_shape)
        return Mapped(self.shift + self.scale * z, self._log_scale(len(z)))

    def _log_scale(self, n: int) -> Tensor:
        return self.scale.abs().log().sum().expand(n)


def limited(z: Tensor) -> tuple[Tensor, Tensor]:
    """z, `(N, *event)`, limited to numbers whose square is finite, and which rows had others, `(N,)`.

    Example:
        >>> import torch
        >>> z, beyond = limited(torch.tensor([[1.0], [1e38]]))
        >>> bool(z.square().isfinite().all()), beyond
        (True, tensor([False,  True]))
    """
    reach = torch.finfo(z.dtype).max ** 0.5
    return z.clamp(-reach, reach), (z.abs() > reach).flatten(1).any(1)


@checked
class Logit(Transform):
    """`z = logit(s)`, `s = α + (1 − 2α) x`: from the unit interval, with a margin at both ends, to the line.

    `log_det = Σ log(1 − 2α) − log s − log(1 − s)`. The margin in units of x is `α / (1 − 2α)`.

    Args:
        alpha: α in [0, ½); above 0, it keeps 0 and 1 at a finite place.

    Raises:
        ValueError: Data outside the interval; the message names the rows.

    References:
        Dinh et al. 2017, RealNVP, arXiv 1605.08803.

    Example:
        >>> import torch, cnf
        >>> z, log_det, _ = cnf.discrete.Logit(0.05).encode(torch.tensor([[0.0, 0.5, 1.0]]))
        >>> z.round(decimals=3)
        tensor([[-2.9440,  0.0000,  2.9440]])
    """

    def __init__(
        self, alpha: Annotated[float, Rule("not below 0 and below 0.5", lambda value: 0 <= value < 0.5)] = 0.0
    ) -> None:
        super().__init__()
        self.alpha = alpha
        margin = alpha / (1 - 2 * alpha)
        self.domain = constraints.interval(-margin, 1 + margin)  # where the line is mapped to, samples too

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        s = self.alpha + (1 - 2 * self.alpha) * x
        outside = rows_with((s <= 0) | (s >= 1))
        if outside:
            interval = "[0, 1]" if self.alpha else "(0, 1), or a margin alpha > 0 for its ends"
            raise ValueError(
                f"the logit needs data in {interval}; {len(outside)} rows have others, first {outside[:5]}: "
                'scale them, or build the model with preprocess="standardize"'
            )
        z = torch.logit(s)
        return Mapped(z, -self._log_slope(z))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return Mapped((z.sigmoid() - self.alpha) / (1 - 2 * self.alpha), self._log_slope(z))

    def _log_slope(self, z: Tensor) -> Tensor:
        """`log |dx/dz|`, `(N,)`."""
        scale = torch.log1p(torch.tensor(-2 * self.alpha, dtype=z.dtype))
        return (F.logsigmoid(z) + F.logsigmoid(-z) - scale).flatten(1).sum(1)


class Softplus(Transform):
    """`x = log(1 + eᶻ)`: from the positive half line to the line; `log_det` of encode is `−Σ log σ(z)`.

    Raises:
        ValueError: Data that are not positive; the message names the rows.

    Example:
        >>> import torch, cnf
        >>> z, log_det, _ = cnf.discrete.Softplus().encode(torch.tensor([[0.1, 1.0, 10.0]]))
        >>> z.round(decimals=3)
        tensor([[-2.2520,  0.5410, 10.0000]])
    """

    domain = constraints.positive

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        outside = rows_with(x <= 0)
        if outside:
            raise ValueError(f"softplus needs positive data; {len(outside)} rows have others, first {outside[:5]}")
        z = x + torch.log(-torch.expm1(-x))
        return Mapped(z, -F.logsigmoid(z).flatten(1).sum(1))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return Mapped(softplus(z), F.logsigmoid(z).flatten(1).sum(1))
