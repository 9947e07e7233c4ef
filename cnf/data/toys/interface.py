"""A distribution on the plane: a sampler, and an exact density where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from cnf.arguments import Finite, checked
from cnf.data.toys.draws import points

ROWS = 512  # points evaluated at once: bounds the (points, nodes) tables, which then also fit a cache


@checked
@dataclass(frozen=True)
class Toy:
    """A distribution on the plane that is easy to sample and whose density is known.

    The constants are those of the authors' code, and every draw is independent: where that code spaces the
    angles of `circles`, `rings` and `moons` equally, they are uniform here, its smooth limit for many points.

    Args:
        name: Its key in `TOYS`.
        sampler: Maps a number of points and a generator to points `(n, 2)` in float64.
        density: Maps points `(N, 2)` to log-densities `(N,)`; `None` where the points lie on a curve.
        entropy: `-E[log p(x)]` in nats, the least mean negative log-likelihood that a model can reach.

    Example:
        >>> from cnf.data import toy
        >>> moons = toy("moons")
        >>> x = moons.sample(5, generator=torch.Generator().manual_seed(0))
        >>> x.shape, moons.log_prob(x).shape
        (torch.Size([5, 2]), torch.Size([5]))

    References:
        Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, FFJORD, 2019, arXiv:1810.01367.
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
            shape: How many, or a batch shape.
            generator: The source of every random number; torch's global one if `None`.
            dtype: Type of the result. Numbers are drawn in float64, so a seed means the same points in all types.

        Returns:
            Points `(*shape, 2)`.

        Raises:
            TypeError: The shape does not consist of whole numbers.
            ValueError: A number in the shape is negative.
        """
        return points(self.sampler, shape, generator, dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """The exact log-density in nats, in the dtype of `x` and differentiable.

        Args:
            x: Points `(N, 2)`, or any other batch shape before the 2.

        Returns:
            Log-densities `(N,)`, one for each point.

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
            raise ValueError(f"expected points of shape (N, 2), got {tuple(x.shape)}")
        rows = torch.split(x.reshape(-1, 2), ROWS)
        return torch.cat([self.density(points) for points in rows]).reshape(x.shape[:-1])
