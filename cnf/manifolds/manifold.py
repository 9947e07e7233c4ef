"""The interface of manifolds: what a flow needs to know of the space its points live in.

Points and tangent vectors are vectors of length n, the ambient dimension. All methods act on the last axis, so that
any batch shape goes through. Volumes are Riemannian: the length, area, … that the surrounding space measures.
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
    """A space of dimension m whose points are vectors of length n.

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
        """The Riemannian volume of the whole; minus its logarithm is the uniform log-density."""

    @abstractmethod
    def tangent(self, x: Tensor) -> Tensor:
        """An orthonormal basis of the tangent space at each point, in columns: `(…, n)` to `(…, n, m)`."""

    @abstractmethod
    def spanned(self, x: Tensor, vectors: Tensor) -> Tensor:
        """The volume `|det(T_xᵀ V)|` that m tangent vectors at `x` span: `(…, n)` and, in columns, `(…, n, m)`."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from `x` with the tangent vector `v` as velocity is after time 1."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest tangent vector at `x` that `exp` takes to `y`."""

    def geodesic(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The point and the velocity after time `t`, `(…, 1)`, on the geodesic from `x` with velocity `v` there."""
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
            generator: Source of the noise; by default the global one.
            dtype: Of the points; by default torch's.
            device: Of the points; by default torch's.
        """
        batch = as_shape(shape)
        points = self._sample(batch.numel(), {"generator": generator, "dtype": dtype, "device": device})
        return points.reshape(batch + points.shape[1:])

    @abstractmethod
    def _sample(self, n: int, options: dict[str, Any]) -> Tensor:
        """Draw n points with the `options` of torch's generators of noise."""
