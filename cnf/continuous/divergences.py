"""Divergences: the trace of a field's Jacobian, exactly or by an unbiased estimate.

The probes of an estimate are drawn once per solve, for each sample. With a new probe at every evaluation, an adaptive
solver would reject every step. On a fixed grid, new probes for every step are possible and reduce the variance:
`RungeKutta(steps=n, redraw=True)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from cnf.arguments import Size, checked
from cnf.continuous.chains import ChainLinearization
from cnf.continuous.fields import VectorField
from cnf.continuous.linearization import Linearization, inner
from cnf.probes import NOISE, Noise, gaussian, rademacher


class Divergence(ABC):
    """The trace `tr ∂f/∂x` of a field's Jacobian, or an estimate of it.

    To write one, define `probe` and `__call__`.

    Attributes:
        exact: Whether the result is the trace itself, not an estimate.

    Example: Hutchinson's estimate with one random unit vector for each sample.
        >>> import torch, cnf
        >>> class Axis(cnf.Divergence):
        ...     def probe(self, x):
        ...         rows = torch.randint(x.shape[1], (len(x),), device=x.device)
        ...         return torch.nn.functional.one_hot(rows, x.shape[1]).to(x)[None] * x.shape[1] ** 0.5
        ...     def __call__(self, at, probe):
        ...         return (probe * at.jvp(probe)).sum(2).mean(0)
        >>> cnf.CNF(cnf.MLPField(3, hidden=4), Axis()).encode(torch.randn(5, 3)).log_det.shape
        torch.Size([5])
    """

    exact: ClassVar[bool] = False
    example: ClassVar[str] = "cnf.Exact()"  # for messages

    @abstractmethod
    def probe(self, x: Tensor) -> Tensor | None:
        """The random vectors of one solve for points `x`, `(N, *event)`: `(k, N, *event)`; None if there are none."""

    @abstractmethod
    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        """The divergence, `(N,)`.

        Args:
            linearization: The field at one time and at points `(N, *event)`.
            probe: What `probe` returned for this solve.
        """

    def prepare(self, field: VectorField, context: Tensor | None, probe: Tensor | None) -> Any:
        """What the field computes once per solve; see `VectorField.prepare`."""
        return field.prepare(context)

    def seeded(self, generator: torch.Generator) -> Divergence:
        """The same divergence with noise from `generator`; itself if it has no such setting."""
        return self

    def smoothed(self) -> Divergence:
        """The same estimate with continuous noise, for standard errors; itself if there is no such version."""
        return self


@dataclass(frozen=True)
class Exact(Divergence):
    """The exact trace `tr ∂f/∂x`: in closed form if the field has one, else with D Jacobian products.

    Example:
        >>> import torch, cnf
        >>> here = cnf.MLPField(2, hidden=8).at(torch.tensor(0.5), torch.randn(3, 2))
        >>> torch.allclose(cnf.Exact()(here), here.jacobian.diagonal(dim1=1, dim2=2).sum(1), atol=1e-6)
        True
    """

    exact: ClassVar[bool] = True

    def probe(self, x: Tensor) -> None:
        return None

    def prepare(self, field: VectorField, context: Tensor | None, probe: Tensor | None) -> Any:
        return field.prepare(context, trace=True)

    def __call__(self, linearization: Linearization, probe: Tensor | None = None) -> Tensor:
        return linearization.trace()


@checked
@dataclass(frozen=True)
class Hutchinson(Divergence):
    """`tr J ≈ 1/k Σ_i ε_iᵀ J ε_i` with `E[ε εᵀ] = I`: unbiased, with one Jacobian product per probe.

    With Rademacher noise the variance is `2 (‖S‖_F² − Σ_i S_ii²)/k`, with Gaussian noise `2 ‖S‖_F²/k`, where
    `S = (J + Jᵀ)/2`. Orthogonal probes, `√D` times the first k columns of a random rotation, have
    `2 D (‖S‖_F² − (tr S)²/D) / ((D + 2) k) · (D − k)/(D − 1)`, which is 0 for k = D. Independent probes that are
    uniform on the sphere of radius `√D` have this variance without the last factor.

    Args:
        probes: Number k of probes; at most D if they are orthogonal.
        noise: "rademacher", "gaussian", "sphere" or "orthogonal".
        generator: Source of the noise; the global torch generator by default.

    Raises:
        ValueError: `probes` is below 1, `noise` is unknown, or, in a solve, more than D probes are orthogonal.

    References:
        Hutchinson 1990; Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.

    Example:
        >>> import torch, cnf
        >>> here = cnf.MLPField(2, hidden=8).at(torch.tensor(0.5), torch.randn(3, 2))
        >>> estimate = cnf.Hutchinson(probes=4)
        >>> probe = estimate.probe(here.x)
        >>> probe.shape, estimate(here, probe).shape
        (torch.Size([4, 3, 2]), torch.Size([3]))
    """

    probes: Size = 1
    noise: Noise = "rademacher"
    generator: torch.Generator | None = field(default=None, repr=False, compare=False)

    def probe(self, x: Tensor) -> Tensor:
        return NOISE[self.noise](x, self.probes, self.generator)

    def prepare(self, field: VectorField, context: Tensor | None, probe: Tensor | None) -> Any:
        return field.prepare(context, probe=probe)

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        assert probe is not None
        return linearization.quadratic_form(probe)

    def seeded(self, generator: torch.Generator) -> Hutchinson:
        return replace(self, generator=generator)

    def smoothed(self) -> Hutchinson:
        return replace(self, noise="sphere")


@checked
@dataclass(frozen=True)
class HutchPP(Divergence):
    """Hutch++: the exact trace on a random subspace of the range of J, plus Hutchinson's estimate on its complement.

    `tr J ≈ tr QᵀJQ + 1/k Σ_i g_iᵀ J g_i`, `Q = orth(J S)`, `g = (I − QQᵀ) G`, with `k = probes/3` columns in S
    (Gaussian) and G (Rademacher). It is exact if J has rank k or less. It is unbiased, because for any Q the second
    term has the expectation `tr (I − QQᵀ) J`. Gradients treat Q as a constant, so they are unbiased, and finite if
    `J S` loses rank. Near such points Q changes fast, so in few dimensions an adaptive solver needs many more steps:
    use a fixed grid or the exact trace there.

    Args:
        probes: Jacobian products per evaluation, a multiple of 3, at most 3 D.
        generator: Source of the noise; the global torch generator by default.

    Raises:
        ValueError: `probes` is no positive multiple of 3, or, in a solve, above 3 D.

    References:
        Meyer et al. 2021, arXiv 2010.09649; in CNFs: Liu et al. 2025, arXiv 2502.18808.

    Example:
        >>> import torch, cnf
        >>> here = cnf.MLPField(6, hidden=8).at(torch.tensor(0.5), torch.randn(3, 6))
        >>> estimate = cnf.HutchPP(probes=3)
        >>> estimate(here, estimate.probe(here.x)).shape
        torch.Size([3])
    """

    probes: Size = 3
    generator: torch.Generator | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.probes % 3:
            raise ValueError(f"Hutch++ needs a positive multiple of 3 probes, got {self.probes}")

    def probe(self, x: Tensor) -> Tensor:
        k, dim = self.probes // 3, x.shape[1:].numel()
        if k > dim:
            raise ValueError(f"Hutch++ in {dim} dimensions takes at most {3 * dim} probes, got {self.probes}")
        sketch = gaussian(x, k, self.generator)  # signs would repeat a column now and then in few dimensions
        return torch.cat([sketch, rademacher(x, k, self.generator)])

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

    def seeded(self, generator: torch.Generator) -> HutchPP:
        return replace(self, generator=generator)

    def smoothed(self) -> Hutchinson:
        """Hutchinson's estimate; the errors of Hutch++ are far from normal where J has nearly rank k."""
        return Hutchinson(self.probes, "sphere", self.generator)


@checked
@dataclass(frozen=True)
class Bottleneck(Divergence):
    """Hutchinson in a hidden layer h: `tr J = tr (∂h/∂x)(∂f/∂h) ≈ 1/k Σ_i ε_iᵀ (∂h/∂x)(∂f/∂h) ε_i`.

    `(∂h/∂x)(∂f/∂h)` has the trace of J. If h is narrower than x, it is a smaller matrix, often with a lower variance of
    the estimate. The field must be a multilayer perceptron, such as `MLPField` or `PlanarField`.

    Args:
        hidden: Width of h; the first hidden layer of this width is used.
        probes: Number k of probes.
        noise: As in `Hutchinson`.
        generator: Source of the noise; the global torch generator by default.

    Raises:
        ValueError: `hidden` or `probes` is below 1; in a solve, the field has no hidden layer of this width.
        TypeError: In a solve, the field is no multilayer perceptron.

    References:
        Grathwohl et al. 2019, FFJORD, section 3.1.1, arXiv 1810.01367.

    Example:
        >>> import torch, cnf
        >>> here = cnf.MLPField(6, hidden=(2, 8)).at(torch.tensor(0.5), torch.randn(3, 6))
        >>> estimate = cnf.Bottleneck(2)
        >>> estimate.probe(here.x).shape, estimate(here, estimate.probe(here.x)).shape
        (torch.Size([1, 3, 2]), torch.Size([3]))
    """

    hidden: Size
    probes: Size = 1
    noise: Noise = "gaussian"
    generator: torch.Generator | None = field(default=None, repr=False, compare=False)

    def probe(self, x: Tensor) -> Tensor:
        """`(k, N, hidden)`."""
        return NOISE[self.noise](x.new_empty(len(x), self.hidden), self.probes, self.generator)

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        assert probe is not None
        if not isinstance(linearization, ChainLinearization):
            raise TypeError(
                "Bottleneck needs a field whose hidden layers are known: "
                "build the CNF on an MLPField, or take Hutchinson(), which works for every field"
            )
        return inner(probe, linearization.through(probe))

    def seeded(self, generator: torch.Generator) -> Bottleneck:
        return replace(self, generator=generator)

    def smoothed(self) -> Bottleneck:
        return replace(self, noise="sphere")


DIVERGENCES = {"exact": Exact, "hutchinson": Hutchinson, "hutchpp": HutchPP, "bottleneck": Bottleneck}
