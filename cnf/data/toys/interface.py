"""A distribution on the plane: a sampler, and an exact density where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from cnf.arguments import Finite, checked
from cnf.data.toys.draws import points

ROWS = 512  # points evaluated together: the tables (points, nodes) then fit a cache


@checked
@dataclass(frozen=True)
class Toy:
    """A distribution on the plane with independent samples and, in most cases, an exact density.

    `cnf.data.toy(name)` gives those of FFJORD, with the constants of the authors' code. That code spaces the angles of
    `circles`, `rings` and `moons` equally; here they are uniform, the limit for many points.

    Args:
        name: Name of the distribution.
        sampler: Maps a number of points n and a generator (or None) to points `(n, 2)` in float64.
        density: Maps points `(N, 2)` to log-densities `(N,)`; None if the points lie on a curve.
        entropy: `−E[log p(x)]` in nats, the smallest mean negative log-likelihood that a model can reach.

    References:
        Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.

    Example:
        A distribution of one's own, uniform on the unit square:

        >>> import torch
        >>> def draw(n, generator):
        ...     return torch.rand(n, 2, generator=generator, dtype=torch.float64)
        >>> def log_density(x):
        ...     inside = ((x >= 0) & (x <= 1)).all(1)
        ...     return torch.where(inside, 0.0, -torch.inf)
        >>> square = Toy("square", draw, log_density, entropy=0.0)
        >>> x = square.sample(5)
        >>> x.shape, square.log_prob(x).tolist()
        (torch.Size([5, 2]), [0.0, 0.0, 0.0, 0.0, 0.0])
    """

    event_shape: ClassVar[tuple[int, ...]] = (2,)

    name: str
    sampler: Callable[[int, Generator | None], Tensor]
    density: Callable[[Tensor], Tensor] | None = None
    entropy: Finite | None = None

    def sample(
        self, shape: int | Sequence[int], *, generator: Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draw independent points.

        Args:
            shape: Number of points, or a batch shape.
            generator: Source of randomness; the global one of torch by default.
            dtype: Type of the result. Numbers are drawn in float64, so a seed gives the same points in all types.

        Returns:
            Points `(*shape, 2)`.

        Raises:
            TypeError: The shape does not consist of whole numbers.
            ValueError: A number in the shape is negative.
        """
        return points(self.sampler, shape, generator, dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """The exact log-density in nats, in the dtype of `x`, differentiable.

        Args:
            x: Points `(*batch, 2)`.

        Returns:
            Log-densities `(*batch)`.

        Raises:
            TypeError: `x` does not hold floating point numbers.
            ValueError: `x` has another shape, or the distribution has no density.
        """
        if self.density is None:
            raise ValueError(
                f"{self.name!r} has no density, its points lie on a curve: compare samples instead, or take a toy that "
                "has one, such as 'moons'"
            )
        if not x.is_floating_point():
            raise TypeError(f"expected floating point numbers, got {x.dtype}: convert them with x.float()")
        if x.shape[-1:] != self.event_shape:
            raise ValueError(f"expected points of shape (*batch, 2), got {tuple(x.shape)}")
        rows = torch.split(x.reshape(-1, 2), ROWS)
        return torch.cat([self.density(points) for points in rows]).reshape(x.shape[:-1])
