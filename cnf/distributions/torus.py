"""The uniform base density on the torus, whose points are given by their angles, in its Riemannian volume."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Shape, checked
from cnf.distributions.interface import OFF, BaseDensity, require_near

ANGLES = constraints.interval(-OFF, 2 * math.pi + OFF)  # [0, 2π) up to rounding, as `require_angles` takes them


def require_angles(x: Tensor) -> None:
    """Check that angles `(…, D)` are in [0, 2π]; the error says how far off they are."""
    far = torch.maximum(-x, x - 2 * math.pi)
    place, remedy = "the torus, whose angles are in [0, 2π)", "take them modulo 2π, x.remainder(2 * torch.pi)"
    require_near(far.amax(-1), place, remedy)


@checked
class TorusUniform(BaseDensity):
    """The uniform density of D angles in [0, 2π): `log p = −D log 2π`.

    Args:
        event_shape: Number D of angles in radians, or the shape of an array of angles.

    Raises:
        ValueError: In use, angles are outside [0, 2π).

    Example:
        >>> import torch, cnf
        >>> cnf.distributions.TorusUniform(2).log_prob(torch.ones(1, 2))
        tensor([-3.6758])
    """

    def __init__(self, event_shape: Shape) -> None:
        super().__init__(event_shape)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(ANGLES, len(self.event_shape))

    def log_prob(self, z: Tensor) -> Tensor:
        require_angles(z.flatten(1))
        return z.new_full((len(z),), -self.event_shape.numel() * math.log(2 * math.pi))

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        shape = (n, *self.event_shape)
        return 2 * math.pi * torch.rand(shape, generator=generator, dtype=self.dtype, device=self.device)
