"""The interface of manifolds: tangent spaces, geodesics and volumes.

Points and tangent vectors are vectors of length n, the ambient dimension. All methods act on the last axis, for any
batch shape. Volumes are Riemannian: length, area and so on, as measured in the surrounding space.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnf.continuous.space import Space
from cnf.inputs import as_shape


class Manifold(Space):
    """A Riemannian manifold of dimension m, whose points are vectors of length n.

    To write one, define all abstract methods, those of `Space` too.

    Example:
        >>> import torch
        >>> from cnf.manifolds import Sphere
        >>> sphere = Sphere(3)
        >>> x, y = torch.eye(3)[0], torch.eye(3)[1]
        >>> sphere.distance(x, y), sphere.exp(x, sphere.log(x, y)).round(decimals=4).abs()
        (tensor(1.5708), tensor([0., 1., 0.]))
    """

    @property
    @abstractmethod
    def dimension(self) -> int:
        """m, the dimension of its tangent spaces."""

    @property
    @abstractmethod
    def ambient_dimension(self) -> int:
        """n, the length of the vectors."""

    @property
    @abstractmethod
    def volume(self) -> float:
        """The Riemannian volume of the manifold; minus its logarithm is the uniform log-density in nats."""

    @abstractmethod
    def tangent(self, x: Tensor) -> Tensor:
        """An orthonormal basis of the tangent space at each point, in columns: `(…, n)` to `(…, n, m)`."""

    @abstractmethod
    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        """The volume `|det(T_xᵀ V)|` that m tangent vectors at `x` span: `(…, n)` and, in columns, `(…, n, m)`."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The point at time 1 on the geodesic from `x` with initial velocity `v`: `(…, n)` and `(…, n)` to `(…, n)`."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest tangent vector v at `x` with `exp(x, v) = y`, `(…, n)`."""

    def geodesic(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The point and the velocity at time `t`, `(…, 1)`, on the geodesic from `x` with initial velocity `v`."""
        return self.exp(x, t * v), v.expand_as(t * v)

    @abstractmethod
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The length of the shortest geodesic between `x` and `y`, `(…)`."""

    def sample(
        self,
        shape: int | Sequence[int],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw points `(*shape, n)`, uniform in the Riemannian volume.

        Args:
            shape: Number of points, or a shape.
            generator: Source of random numbers; by default the global one.
            dtype: Type of the points; by default that of torch.
            device: Device of the points; by default that of torch.
        """
        batch = as_shape(shape)
        points = self._sample(batch.numel(), {"generator": generator, "dtype": dtype, "device": device})
        return points.reshape(batch + points.shape[1:])

    @abstractmethod
    def _sample(self, n: int, options: dict[str, Any]) -> Tensor:
        """Draw n points; `options` are the keyword arguments of torch's random functions."""
