"""Densities on the plane that are given by their energies: four potentials of variational inference papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor

from cnf.arguments import Finite, checked
from cnf.data.toys.draws import normal, points, uniform

EDGE = 4.0  # half the width of the box that bounds U2 to U4, and of the published figures
WALL = 0.1  # standard deviation of the density beyond the edge


@checked
@dataclass(frozen=True)
class Energy:
    """A potential U on the plane and its density `p(z) = e^{−U(z)} / Z` with a known constant Z.

    Args:
        name: Name of the energy.
        potential: Maps points `(N, 2)` to U, `(N,)`, in nats.
        log_normalizer: `log Z = log ∫ e^{−U} dz`, the largest possible value of `E_q[−U − log q]`.
        sampler: Maps a number of points n and a generator (or None) to points `(n, 2)` of p in float64; optional.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.

    Example:
        A normal distribution of variance ½ as an energy of one's own:

        >>> import math, torch
        >>> bowl = Energy("bowl", lambda z: z.square().sum(1), log_normalizer=math.log(math.pi))
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> bowl(z), bowl.log_prob(z)
        (tensor([-0., -1.]), tensor([-1.1447, -2.1447]))
    """

    event_shape: ClassVar[tuple[int, ...]] = (2,)

    name: str
    potential: Callable[[Tensor], Tensor]
    log_normalizer: Finite
    sampler: Callable[[int, Generator | None], Tensor] | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """`−U(z)`, the log-density without its constant, differentiable; what `cnf.ReverseKL` takes.

        Args:
            z: Points `(*batch, 2)`.

        Raises:
            ValueError: `z` has another shape.
        """
        if z.shape[-1:] != self.event_shape:
            raise ValueError(f"expected points of shape (*batch, 2), got {tuple(z.shape)}")
        return -self.potential(z.reshape(-1, 2)).reshape(z.shape[:-1])

    def log_prob(self, z: Tensor) -> Tensor:
        """The normalised log-density in nats, `(*batch)`; see `__call__`."""
        return self(z) - self.log_normalizer

    def sample(
        self, shape: int | Sequence[int], *, generator: Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draw independent points of p.

        Args:
            shape: Number of points, or a batch shape.
            generator: Source of randomness; the global one of torch by default.
            dtype: Type of the result. Numbers are drawn in float64, so a seed gives the same points in all types.

        Returns:
            Points `(*shape, 2)`.

        Raises:
            TypeError: The shape does not consist of whole numbers.
            ValueError: A number in the shape is negative, or the energy has no sampler.
        """
        if self.sampler is None:
            raise ValueError(f"energy {self.name!r} has no sampler: give one, Energy(..., sampler=...)")
        return points(self.sampler, shape, generator, dtype)


@checked
def energy(name: str) -> Energy:
    """Look up an energy.

    Args:
        name: U1 (a ring), U2 (a wave), U3 (a wave that parts and meets again) or U4 (a wave that forks).

    Raises:
        ValueError: The name is unknown; the message lists the known names.

    Example:
        >>> import torch
        >>> ring = energy("U1")
        >>> z = ring.sample(1000, generator=torch.Generator().manual_seed(0))
        >>> f"radius {z.norm(dim=1).mean():.1f}, log-density {ring.log_prob(z).mean():.1f} on average"
        'radius 2.1, log-density -2.6 on average'
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

    The published U2 to U4 do not grow along z₁, so their densities cannot be normalised; the published figures show the
    part within the box.
    """
    return -_bump((z[:, 0].abs() - EDGE).clamp(min=0), WALL)


def _ring(z: Tensor) -> Tensor:
    """`½ ((‖z‖ − 2) / .4)² − log(e^{−½ ((z₁ − 2) / .6)²} + e^{−½ ((z₁ + 2) / .6)²})`: a ring that thins out twice."""
    radius = (z.square().sum(1) + torch.finfo(z.dtype).tiny).sqrt()  # differentiable in the centre
    return -_bump(radius - 2, 0.4) - torch.logaddexp(_bump(z[:, 0] - 2, 0.6), _bump(z[:, 0] + 2, 0.6))


def _band(z: Tensor) -> Tensor:
    """`½ ((z₂ − w₁) / .4)²` with `w₁ = sin(2π z₁ / 4)`: a wave."""
    return -_bump(_wave(z), 0.4) + _outside(z)


def _parting(first: Tensor) -> Tensor:
    """`w₂`."""
    return 3 * _bump(first - 1, 0.6).exp()


def _fork(first: Tensor) -> Tensor:
    """`w₃`."""
    return 3 * torch.sigmoid((first - 1) / 0.3)


def _split_band(z: Tensor) -> Tensor:
    """A wave that parts and meets again, `w₂ = 3 e^{−½ ((z₁ − 1) / .6)²}`.

    `U = −log(e^{−½ ((z₂ − w₁) / .35)²} + e^{−½ ((z₂ − w₁ + w₂) / .35)²})`
    """
    second = _wave(z) + _parting(z[:, 0])
    return -torch.logaddexp(_bump(_wave(z), 0.35), _bump(second, 0.35)) + _outside(z)


def _forked_band(z: Tensor) -> Tensor:
    """A wave that forks, `w₃ = 3 σ((z₁ − 1) / .3)`.

    `U = −log(e^{−½ ((z₂ − w₁) / .4)²} + e^{−½ ((z₂ − w₁ + w₃) / .35)²})`
    """
    second = _wave(z) + _fork(z[:, 0])
    return -torch.logaddexp(_bump(_wave(z), 0.4), _bump(second, 0.35)) + _outside(z)


def _band_constant(*widths: float) -> float:
    """`log Z` of bands of these standard deviations in z₂, over a box with half-normal walls in z₁: a product."""
    return math.log(sum(widths) * math.sqrt(2 * math.pi) * (2 * EDGE + WALL * math.sqrt(2 * math.pi)))


# Samplers. ε is standard normal.


def _on_the_ring(n: int, generator: Generator | None) -> Tensor:
    """Exact, by rejection: z₁ is proposed from its two bumps, z₂ from N(0, 1.5²).

    What is left of the density, `e^{−½ ((‖z‖ − 2) / .4)² + ½ (z₂ / 1.5)²}`, is largest at
    z₁ = 0, z₂ = 2 / (1 − (.4 / 1.5)²).
    """
    bound = _ring_excess(torch.tensor([[0.0, 2 / (1 - (0.4 / 1.5) ** 2)]], dtype=torch.float64))
    kept = torch.empty(0, 2, dtype=torch.float64, device=None if generator is None else generator.device)
    while len(kept) < n:
        side = torch.where(uniform(0, 1, (2 * n + 64,), generator) < 0.5, -2.0, 2.0)
        z = normal(len(side), generator) * kept.new_tensor([0.6, 1.5])
        z[:, 0] += side
        accepted = uniform(0, 1, (len(z),), generator).log() < _ring_excess(z) - bound.to(z)
        kept = torch.cat([kept, z[accepted]])
    return kept[:n]


def _ring_excess(z: Tensor) -> Tensor:
    return _bump(torch.linalg.vector_norm(z, dim=1) - 2, 0.4) - _bump(z[:, 1], 1.5)


def _on_bands(
    n: int, generator: Generator | None, *, widths: Sequence[float], drop: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """z₁ uniform in the box with half-normal walls, z₂ normal around the wave, or around what `drop` is below it.

    Args:
        n: Number of points.
        generator: Source of randomness.
        widths: Standard deviation of each band.
        drop: How far the second band is below the first, from z₁.
    """
    noise, wall = normal(n, generator), WALL * math.sqrt(2 * math.pi)
    place = uniform(-0.5, 0.5, (n,), generator) * (2 * EDGE + wall)
    beyond = EDGE * place.sign() + WALL * noise[:, 0].abs() * place.sign()
    first = torch.where(place.abs() > EDGE, beyond, place)
    second = uniform(0, sum(widths), (n,), generator) >= widths[0]
    centre = torch.sin(0.5 * math.pi * first) - (torch.where(second, drop(first), 0.0) if drop else 0.0)
    width = torch.where(second, widths[-1], widths[0])
    return torch.stack([first, centre + width * noise[:, 1]], 1)


# The constant of U1 is from the trapezoid rule, the same to all digits on grids of step .02 and .01 over [-6, 6]².
ENERGIES: dict[str, Energy] = {
    "U1": Energy("U1", _ring, 1.877501626110, _on_the_ring),
    "U2": Energy("U2", _band, _band_constant(0.4), partial(_on_bands, widths=[0.4])),
    "U3": Energy("U3", _split_band, _band_constant(0.35, 0.35), partial(_on_bands, widths=[0.35, 0.35], drop=_parting)),
    "U4": Energy("U4", _forked_band, _band_constant(0.4, 0.35), partial(_on_bands, widths=[0.4, 0.35], drop=_fork)),
}
