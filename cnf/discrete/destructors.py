"""Density destructors: any fitted density as a transform that maps it to the uniform, layer after layer."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Rule, Size, checked
from cnf.distributions import standard_normal_log_prob
from cnf.inputs import require_vectors
from cnf.transforms import Compose, Inverse, Mapped, Transform, Wrapper


class Destructor(Transform, ABC):
    """A density p̂ as an invertible map to the uniform density on the unit cube: `log |det ∂z/∂x| = log p̂(x)`.

    `initialize` fits the density. The data lie on the line or on the unit interval, as `domain` says. To write one,
    define `encode`, `decode` and `initialize`. `chain` puts several in a row, each fitted to what the ones before it
    leave.

    References:
        Inouye and Ravikumar 2018, Deep density destructors, ICML.

    Example: The exponential density of the mean of the data.
        >>> import torch, cnf
        >>> class Exponential(cnf.discrete.Destructor):
        ...     domain = torch.distributions.constraints.positive
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.register_buffer("mean", torch.ones(()))
        ...
        ...     def encode(self, x, context=None):
        ...         return -torch.expm1(-x / self.mean), -(x / self.mean + self.mean.log()).sum(1)
        ...
        ...     def decode(self, z, context=None):
        ...         x = -self.mean * torch.log1p(-z)
        ...         return x, (x / self.mean + self.mean.log()).sum(1)
        ...
        ...     def initialize(self, x, context=None):
        ...         self.mean.copy_(x.mean())
        >>> layer = Exponential()
        >>> layer.initialize(torch.tensor([[1.0], [3.0]]))
        >>> layer.encode(torch.tensor([[2.0]])).value
        tensor([[0.6321]])
    """

    data_dependent = True
    codomain = constraints.unit_interval


class NormalCDF(Transform):
    """`z = Φ(x)`, from the line to the unit interval; `log_det = Σ log φ(x)`.

    `z` is kept a rounding error away from 0 and 1, so that `decode` is finite.

    Example:
        >>> import torch, cnf
        >>> cnf.discrete.NormalCDF().encode(torch.tensor([[0.0, 1.0]])).value.round(decimals=4)
        tensor([[0.5000, 0.8413]])
    """

    codomain = constraints.unit_interval

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return Mapped(_inside(torch.special.ndtr(x)), standard_normal_log_prob(x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        x = torch.special.ndtri(_inside(z))
        return Mapped(x, -standard_normal_log_prob(x))


def _inside(z: Tensor) -> Tensor:
    return z.clamp(torch.finfo(z.dtype).tiny, 1 - torch.finfo(z.dtype).eps)


@checked
class Gaussianized(Wrapper, Destructor):
    """`z = Φ(f(x))` with a transform f whose `initialize` makes the data standard normal: RBIG, marginals, a flow.

    Args:
        transform: f.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Gaussianized(cnf.discrete.MarginalGaussianization(2))
        >>> x = torch.rand(200, 2).exp()
        >>> layer.initialize(x)
        >>> z = layer.encode(x).value
        >>> bool(((z > 0) & (z < 1)).all())
        True
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__(Compose([transform, NormalCDF()]))


@checked
class GaussianDestructor(Destructor):
    """`z = Φ(L⁻¹(x − μ))` with the mean μ of the data and the Cholesky factor L of their covariance.

    Args:
        dim: D.

    Raises:
        ValueError: In `initialize`, the covariance is singular.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.GaussianDestructor(2)
        >>> layer.initialize(torch.tensor([[0.0, 0.0], [2.0, 1.0], [4.0, 5.0]]))
        >>> layer.mean
        tensor([2., 2.])
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, dim: Size) -> None:
        super().__init__()
        self.cdf = NormalCDF()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("factor", torch.eye(dim))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, len(self.mean))
        white = torch.linalg.solve_triangular(self.factor, (x - self.mean).mT, upper=False).mT
        z, log_det, _ = self.cdf.encode(white)
        return Mapped(z, log_det - self.factor.diagonal().log().sum())

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, len(self.mean))
        white, log_det, _ = self.cdf.decode(z)
        return Mapped(self.mean + white @ self.factor.mT, log_det + self.factor.diagonal().log().sum())

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take mean and covariance of the rows of `x`.

        Raises:
            ValueError: The covariance is singular: columns are constant or depend on one another linearly.
        """
        x = x.double()
        factor, failed = torch.linalg.cholesky_ex(x.mT.cov().reshape(x.shape[1], -1))
        if failed or not (factor.diagonal() > 1e-7 * x.std(0)).all():
            raise ValueError(
                f"the covariance of the {len(x)} rows is singular: drop columns that are constant or that others "
                "determine, or give more rows"
            )
        self.mean.copy_(x.mean(0))
        self.factor.copy_(factor)


@checked
def chain(layers: Annotated[Sequence[Transform], Rule("", len)]) -> Compose:
    """Destructors and other transforms in a row, each fitted to what the ones before it leave.

    Where the next one needs the line and not the unit cube, or the other way round, `Φ⁻¹` or `Φ` is put between. The
    end is on the line, for a standard normal base. The data are where the first one needs them.

    Args:
        layers: In the order of `encode`, at least one.

    Example:
        >>> from cnf.discrete import Rotation, TreeDestructor
        >>> turns = [(Rotation(2, kind="random", seed=seed), TreeDestructor(2)) for seed in range(8)]
        >>> deep = chain([GaussianDestructor(2), *(layer for pair in turns for layer in pair)])
        >>> [type(layer).__name__ for layer in deep.transforms][:5]
        ['GaussianDestructor', 'Inverse', 'Rotation', 'NormalCDF', 'TreeDestructor']
    """
    members: list[Transform] = []
    on_cube = layers[0].domain is constraints.unit_interval
    for layer in layers:
        if on_cube != (layer.domain is constraints.unit_interval):
            members.append(Inverse(NormalCDF()) if on_cube else NormalCDF())
        members.append(layer)
        on_cube = layer.codomain is constraints.unit_interval
    return Compose([*members, Inverse(NormalCDF())] if on_cube else members)
