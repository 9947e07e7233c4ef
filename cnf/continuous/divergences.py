"""Divergences: the trace of a field's Jacobian, exactly or by an unbiased estimate.

The probes of an estimate are drawn once a solve, one for each sample: a probe drawn anew at every evaluation would
make an adaptive solver reject for ever.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from cnf.continuous.linearization import Linearization


class Divergence(ABC):
    """How `tr ∂f/∂x` is found.

    Attributes:
        exact: Whether it is the trace itself and not an estimate.
    """

    exact: ClassVar[bool] = False

    @abstractmethod
    def probe(self, x: Tensor) -> Tensor | None:
        """The noise of one solve, `(k, N, *event)`; None for exact traces."""

    @abstractmethod
    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        """The divergence, `(N,)`."""


@dataclass(frozen=True)
class Exact(Divergence):
    """The trace itself, in closed form where the field has one."""

    exact: ClassVar[bool] = True

    def probe(self, x: Tensor) -> None:
        return None

    def __call__(self, linearization: Linearization, probe: Tensor | None = None) -> Tensor:
        return linearization.trace()


def _rademacher(x: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    shape = (k, *x.shape)
    return torch.randint(0, 2, shape, generator=generator, device=x.device).to(x.dtype).mul_(2).sub_(1)


def _gaussian(x: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    return torch.randn((k, *x.shape), generator=generator, dtype=x.dtype, device=x.device)


NOISE = {"rademacher": _rademacher, "gaussian": _gaussian}


@dataclass(frozen=True)
class Hutchinson(Divergence):
    """`tr J ≈ 1/k Σ_i ε_iᵀ J ε_i` with `E[ε εᵀ] = I`: unbiased, one product a probe.

    With Rademacher noise the variance is `2 (‖S‖_F² − Σ_i S_ii²)/k`, with Gaussian noise `2 ‖S‖_F²/k`, where
    `S = (J + Jᵀ)/2`.

    Args:
        probes: Number k of probes.
        noise: "rademacher" or "gaussian".
        generator: Source of the noise; the global torch generator by default.

    References:
        Hutchinson 1990; Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.
    """

    probes: int = 1
    noise: str = "rademacher"
    generator: torch.Generator | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ValueError(f"probes must be at least 1, got {self.probes}")
        if self.noise not in NOISE:
            raise ValueError(f"unknown noise {self.noise!r}: known ones are {', '.join(NOISE)}")

    def probe(self, x: Tensor) -> Tensor:
        return NOISE[self.noise](x, self.probes, self.generator)

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        assert probe is not None
        return _quadratic(probe, linearization.jvp(probe))


@dataclass(frozen=True)
class HutchPP(Divergence):
    """Hutch++: the trace exactly on a subspace that catches the large directions of J, Hutchinson off it.

    `tr J ≈ tr QᵀJQ + 1/k Σ_i g_iᵀ J g_i`, `Q = orth(J S)`, `g = (I − QQᵀ) G`, with `k = probes/3` columns in S
    (Gaussian) and G (Rademacher); exact where J has at most rank k.
    Unbiased, since for any Q the second term has the expectation `tr (I − QQᵀ) J`. The gradient is taken at a
    fixed Q, which keeps it unbiased and finite where `J S` loses rank.

    Args:
        probes: Products with J an evaluation, a multiple of 3.
        generator: Source of the noise; the global torch generator by default.

    References:
        Meyer et al. 2021, arXiv 2010.09649; in CNFs: Liu et al. 2025, arXiv 2502.18808.
    """

    probes: int = 3
    generator: torch.Generator | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.probes < 3 or self.probes % 3:
            raise ValueError(f"Hutch++ needs a positive multiple of 3 probes, got {self.probes}")

    def probe(self, x: Tensor) -> Tensor:
        k, dim = self.probes // 3, x.shape[1:].numel()
        if k > dim:
            raise ValueError(f"Hutch++ in {dim} dimensions takes at most {3 * dim} probes, got {self.probes}")
        sketch = _gaussian(x, k, self.generator)  # signs would repeat a column now and then in few dimensions
        return torch.cat([sketch, _rademacher(x, k, self.generator)])

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        assert probe is not None
        sketch, rest = probe.chunk(2)
        with torch.no_grad():
            image = linearization.jvp(sketch).flatten(2)  # (k, N, D)
            basis = torch.linalg.qr(image.permute(1, 2, 0)).Q  # (N, D, k)
        rows = rest.flatten(2).permute(1, 2, 0)
        rows = rows - basis @ (basis.mT @ rows)
        directions = torch.cat([basis, rows], 2).permute(2, 0, 1).reshape(probe.shape)
        parts = (directions * linearization.jvp(directions)).flatten(2).sum(2)
        caught, left = parts.chunk(2)
        return caught.sum(0) + left.mean(0)


def _quadratic(v: Tensor, product: Tensor) -> Tensor:
    """`vᵀ(Jv)` of each sample, averaged over the probes, `(N,)`."""
    return (v * product).flatten(2).sum(2).mean(0)


DIVERGENCES = {"exact": Exact, "hutchinson": Hutchinson, "hutchpp": HutchPP}
