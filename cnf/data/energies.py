"""Unnormalised densities on the plane, known by their energies: the four potentials of variational inference papers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cnf.arguments import Finite, checked

EDGE = 4.0  # half the width of the box that bounds U2 to U4, and of the published figures
WALL = 0.1  # standard deviation of the density beyond the edge


@checked
@dataclass(frozen=True)
class Energy:
    """A potential U on the plane and its density `p(z) = e^{−U(z)} / Z`, whose constant is known.

    Args:
        name: Its key in `ENERGIES`.
        potential: Maps points `(N, 2)` to `U`, `(N,)`, in nats.
        log_normalizer: `log Z = log ∫ e^{−U} dz`, the largest possible value of `E_q[−U − log q]`.

    Example:
        >>> ring = energy("U1")
        >>> z = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> bool(ring.log_prob(z)[0] > ring.log_prob(z)[1])
        True

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.
    """

    event_shape: ClassVar[tuple[int, ...]] = (2,)

    name: str
    potential: Callable[[Tensor], Tensor]
    log_normalizer: Finite

    def __call__(self, z: Tensor) -> Tensor:
        """`log p̃(z) = −U(z)`, not normalised, differentiable; what `ReverseKL` takes.

        Args:
            z: Points `(N, 2)`, or any other batch shape before the 2.

        Raises:
            ValueError: `z` has another shape.
        """
        if z.shape[-1:] != self.event_shape:
            raise ValueError(f"expected points of shape (N, 2), got {tuple(z.shape)}")
        return -self.potential(z.reshape(-1, 2)).reshape(z.shape[:-1])

    def log_prob(self, z: Tensor) -> Tensor:
        """The normalised log-density in nats, `(N,)`; see `__call__`."""
        return self(z) - self.log_normalizer


@checked
def energy(name: str) -> Energy:
    """Look up an energy.

    Args:
        name: A key of `ENERGIES`.

    Raises:
        ValueError: The name is unknown; the message lists the known ones.
    """
    if name not in ENERGIES:
        raise ValueError(f"unknown energy {name!r}: expected one of {', '.join(ENERGIES)}")
    return ENERGIES[name]


def _bump(distance: Tensor, width: float) -> Tensor:
    """`−½ (d / σ)²`."""
    return -0.5 * (distance / width).square()


def _wave(z: Tensor) -> Tensor:
    """How far z₂ is from the wave, `z₂ − sin(π z₁ / 2)`."""
    return z[:, 1] - torch.sin(0.5 * math.pi * z[:, 0])


def _outside(z: Tensor) -> Tensor:
    """The energy of the box: 0 where `|z₁| ≤ 4`, quadratic beyond.

    The published U2 to U4 are as flat along z₁ as they are wide, so nothing holds their density together; figures
    show the part within the box.
    """
    return -_bump((z[:, 0].abs() - EDGE).clamp(min=0), WALL)


def _ring(z: Tensor) -> Tensor:
    """`½ ((‖z‖ − 2) / .4)² − log(e^{−½ ((z₁ − 2) / .6)²} + e^{−½ ((z₁ + 2) / .6)²})`: a ring that thins out twice."""
    radius = (z.square().sum(1) + torch.finfo(z.dtype).tiny).sqrt()  # differentiable in the centre
    return -_bump(radius - 2, 0.4) - torch.logaddexp(_bump(z[:, 0] - 2, 0.6), _bump(z[:, 0] + 2, 0.6))


def _band(z: Tensor) -> Tensor:
    """`½ ((z₂ − w₁) / .4)²` with `w₁ = sin(2π z₁ / 4)`: a wave."""
    return -_bump(_wave(z), 0.4) + _outside(z)


def _split_band(z: Tensor) -> Tensor:
    """`−log(e^{−½ ((z₂ − w₁) / .35)²} + e^{−½ ((z₂ − w₁ + w₂) / .35)²})`, `w₂ = 3 e^{−½ ((z₁ − 1) / .6)²}`: a wave that
    parts and meets again."""
    second = _wave(z) + 3 * _bump(z[:, 0] - 1, 0.6).exp()
    return -torch.logaddexp(_bump(_wave(z), 0.35), _bump(second, 0.35)) + _outside(z)


def _forked_band(z: Tensor) -> Tensor:
    """`−log(e^{−½ ((z₂ − w₁) / .4)²} + e^{−½ ((z₂ − w₁ + w₃) / .35)²})`, `w₃ = 3 σ((z₁ − 1) / .3)`: a wave that
    forks."""
    second = _wave(z) + 3 * torch.sigmoid((z[:, 0] - 1) / 0.3)
    return -torch.logaddexp(_bump(_wave(z), 0.4), _bump(second, 0.35)) + _outside(z)


def _band_constant(*widths: float) -> float:
    """`log Z` of bands of these standard deviations in z₂, over a box with half-normal walls in z₁: a product."""
    return math.log(sum(widths) * math.sqrt(2 * math.pi) * (2 * EDGE + WALL * math.sqrt(2 * math.pi)))


# The constant of U1 is from the trapezoid rule, the same to all digits on grids of step .02 and .01 over [-6, 6]².
ENERGIES: dict[str, Energy] = {
    "U1": Energy("U1", _ring, 1.877501626110),
    "U2": Energy("U2", _band, _band_constant(0.4)),
    "U3": Energy("U3", _split_band, _band_constant(0.35, 0.35)),
    "U4": Energy("U4", _forked_band, _band_constant(0.4, 0.35)),
}
