"""Standardisation of data and of contexts, from the data."""

from __future__ import annotations

import torch
from torch import Tensor

from cnf.arguments import Shape, Size, checked
from cnf.discrete.elementwise import Affine
from cnf.inputs import require_context
from cnf.spread import Spread, column_spread
from cnf.transforms import Transform, Wrapper

RESOLUTION = 20  # numbers of the dtype within a standard deviation: with fewer, a spline finds the gaps between them
FAR_CONTEXT = 10.0  # standard deviations up to which a network sees a condition as it is


@checked
class Standardize(Affine):
    """`z = (x − shift) / scale` with the mean and the standard deviation of each element, which `initialize` sets.

    For vectors, a column whose standard deviation comes from a few wild rows gets its median and the scale of the other
    rows instead; see `cnf.spread`.

    Args:
        event_shape: Shape of one sample; every element has its own mean and standard deviation.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Standardize(2)
        >>> layer.initialize(torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]))
        >>> layer.encode(torch.tensor([[3.0, 20.0]])).value
        tensor([[1., 0.]])
    """

    data_dependent = True

    def __init__(self, event_shape: Shape) -> None:
        super().__init__(event_shape)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardise the rows of `x`.

        Raises:
            ValueError: An element is constant; it has no density.
        """
        spread = _spread(x)
        if constant := (spread.scale == 0).flatten().nonzero().flatten().tolist():
            raise ValueError(f"elements {constant[:8]} are constant, and then have no density: drop them")
        if coarse := _too_coarse(x, spread).flatten().nonzero().flatten().tolist():
            raise ValueError(
                f"elements {coarse[:8]} spread too finely around a large offset for {x.dtype}, which has fewer than "
                f"{RESOLUTION} numbers within their standard deviation: subtract the offset in float64, or use "
                "flow.double() and data in float64"
            )
        self.shift.copy_(spread.centre)
        self.scale.copy_(spread.scale)


def _spread(x: Tensor) -> Spread:
    """Robust for vectors; pixels that are rarely set are no outliers."""
    if x.dim() == 2:
        return column_spread(x.double())
    std, mean = torch.std_mean(x.double(), 0)
    return Spread(mean, std, torch.zeros_like(std, dtype=torch.bool))


def _too_coarse(x: Tensor, spread: Spread) -> Tensor:
    """Where the numbers of the dtype lie too far apart for the bulk, whatever the sign of its centre."""
    return spread.scale <= RESOLUTION * torch.finfo(x.dtype).eps * spread.centre.abs()


@checked
class StandardizeCondition(Standardize):
    """A `Standardize` of what a network reads: elements may be constant, and far values are compressed.

    `z` beyond ±10 becomes `±10 (1 + log(|z| / 10))`: a condition 1000 standard deviations away is read as 56.

    Example:
        >>> import torch
        >>> layer = StandardizeCondition(1)
        >>> layer.initialize(torch.tensor([[-1.0], [0.0], [1.0]]))
        >>> layer.read(torch.tensor([[1.0], [1000.0]])).round(decimals=1)
        tensor([[ 1.0000],
                [56.1000]])
    """

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardise the rows of `x`; a constant element is shifted to 0."""
        spread = _spread(x)
        constant = spread.scale <= torch.finfo(x.dtype).eps * spread.centre.abs()
        self.shift.copy_(spread.centre)
        self.scale.copy_(torch.where(constant, torch.ones_like(spread.scale), spread.scale))

    def read(self, context: Tensor) -> Tensor:
        """What the network sees, `(N, C)`."""
        z = self.encode(context).value
        far = FAR_CONTEXT * (1 + (z.abs().clamp(min=FAR_CONTEXT) / FAR_CONTEXT).log())
        return torch.where(z.abs() > FAR_CONTEXT, far.copysign(z), z)


@checked
class StandardizeContext(Wrapper):
    """A transform that reads its context standardised; `initialize` takes mean and standard deviation from the data.

    Args:
        transform: The conditional transform.
        context_dim: Length of the context.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.StandardizeContext(cnf.discrete.Regression(2, 1), 1)
        >>> layer.initialize(torch.randn(50, 2), torch.linspace(1000.0, 2000.0, 50)[:, None])
        >>> layer.encode(torch.zeros(3, 2), torch.full((3, 1), 1500.0)).value.shape
        torch.Size([3, 2])
    """

    def __init__(self, transform: Transform, context_dim: Size) -> None:
        super().__init__(transform)
        self.standardize = StandardizeCondition(context_dim)
        self.data_dependent, self.context_dim = True, context_dim

    def enter_context(self, context: Tensor | None) -> Tensor | None:
        return self.standardize.read(require_context(context, "transform", self.context_dim))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        self.standardize.initialize(require_context(context, "transform", self.context_dim))
        super().initialize(x, context)
