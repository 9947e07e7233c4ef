"""Residual flows: `z = x + g(x)` with a contraction g."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from cnf.arguments import Count, Fraction, Positive, Size, SizeOrZero, Widths, checked
from cnf.discrete.determinants import log_abs_det
from cnf.discrete.implicit import Equation, solution
from cnf.errors import ConvergenceError
from cnf.networks.lipschitz import ChainJacobian, Contraction, LipschitzMLP
from cnf.probes import NOISE, Noise
from cnf.tracing import BATCH, require_visible
from cnf.transforms import Mapped, Transform
from cnf.twin import parts_of, twin

Module = TypeVar("Module", bound=nn.Module)

WITHOUT_SERIES = "take the exact log-determinant, with_log_det(flow, ExactLogDet())"


@dataclass(frozen=True)
class LogDet(ABC):
    """How `log det(I + J)` is computed for a Jacobian J of norm below 1.

    Attributes:
        exact: Whether it is the log-determinant itself, not an estimate or the beginning of a series.
    """

    exact: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        """`log det(I + J)` or an estimate of it, `(N,)`."""

    def smoothed(self) -> LogDet:
        """An unbiased estimate of it whose noise has a density and light tails; itself where there is no such one."""
        return self


@dataclass(frozen=True)
class ExactLogDet(LogDet):
    """From the matrix `(N, D, D)` itself: no noise and no bias, `O(D³)` a row."""

    exact: ClassVar[bool] = True

    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        dense = jacobian.dense()
        identity = torch.eye(dense.shape[-1], dtype=dense.dtype, device=dense.device)
        return log_abs_det(identity + dense)


@checked
@dataclass(frozen=True)
class PowerSeries(LogDet):
    """The series `log det(I + J) = Σ_k (−1)^{k+1} tr(Jᵏ) / k`, cut off; traces by Hutchinson's `vᵀ Jᵏ v`.

    Biased: with `Lip(g) ≤ c` and n terms, by at most `D Σ_{k>n} cᵏ / k`.

    Args:
        terms: n.
        probes: How many v a row; their mean is taken.
        noise: "rademacher", "gaussian", "sphere" or "orthogonal", the distribution of v.

    References:
        Behrmann et al. 2019, i-ResNet, arXiv 1811.00995.
    """

    terms: Count = 10
    probes: Size = 1
    noise: Noise = "rademacher"

    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        ones = jacobian.slopes[0].new_ones(self.terms, 1)
        return _series(jacobian, _probe(jacobian, self.probes, self.noise), ones)

    def smoothed(self) -> LogDet:
        return RussianRoulette(exact_terms=self.terms, probes=self.probes).smoothed()


@checked
@dataclass(frozen=True)
class RussianRoulette(LogDet):
    """The whole series without bias: the number of terms is random, and what is seldom computed counts for more.

    `Σ_k (−1)^{k+1} vᵀ Jᵏ v / (k P(n ≥ k))` with `n = exact_terms + G` and `P(G ≥ j) = continuation^j`, drawn for each
    row. Its variance is finite where the spectral radius of J is below `√continuation`; a layer that uses up a bound
    near 1 wants a larger `continuation`.

    Args:
        exact_terms: Terms that are always there. (The published 2, and their first random one, which they always take.)
        continuation: Probability of one more term.
        probes: How many v a row; their mean is taken.
        noise: "rademacher", "gaussian", "sphere" or "orthogonal", the distribution of v.

    References:
        Chen et al. 2019, Residual flows, arXiv 1906.02735.
    """

    exact_terms: Count = 3
    continuation: Fraction = 0.5
    probes: Size = 1
    noise: Noise = "rademacher"

    def __call__(self, jacobian: ChainJacobian) -> Tensor:
        require_visible(*jacobian.slopes, what="a series of random length", remedy=WITHOUT_SERIES)
        uniform = 1 - torch.rand_like(jacobian.slopes[0][:, 0])  # in (0, 1]
        drawn = (uniform.log() / math.log(self.continuation)).floor()
        extra = torch.arange(1, int(drawn.max()) + 1 if len(drawn) else 1, device=drawn.device).unsqueeze(1)
        roulette = (drawn >= extra) * self.continuation ** -extra.to(drawn.dtype)
        weights = torch.cat([torch.ones_like(drawn).expand(self.exact_terms, -1), roulette])
        return _series(jacobian, _probe(jacobian, self.probes, self.noise), weights)

    def smoothed(self) -> LogDet:
        terms, continuation = max(self.exact_terms, 10), max(self.continuation, 0.9)  # seldom terms weigh little
        return replace(self, exact_terms=terms, continuation=continuation, noise="sphere")


@checked
@dataclass(frozen=True)
class FixedPoint:
    """The inverse of `x + g(x)` by `x ← z − g(x)`, which comes closer by the factor `Lip(g)` each time.

    Args:
        tolerance: Largest `|x + g(x) − z|`, relative to `1 + |z|`; `eps^(3/4)` of the dtype by default (2e-12 in
            float64, 6e-6 in float32). The error of x is at most this over `1 − Lip(g)`.
        max_iterations: When to give up; a contraction by 0.97 reaches 2e-12 in 890.
    """

    tolerance: Positive | None = None
    max_iterations: Count = 1000

    @torch.no_grad()
    def solve(self, function: Callable[[Tensor], Tensor], target: Tensor, *, margin: float = 1.0) -> Tensor:
        """The x with `x + function(x) = target`, `(N, D)`.

        Args:
            function: A contraction of each row.
            target: `(N, D)`.
            margin: The 1 of `1 + |z|`; 0 for a relative tolerance.

        Raises:
            ConvergenceError: The tolerance is not met; it names the rows.
        """
        require_visible(target, what="an inverse by iteration", remedy=BATCH)
        relative = self.tolerance or torch.finfo(target.dtype).eps ** (3 / 4)
        allowed = relative * (margin + target.abs().amax(-1))
        x = target
        for _ in range(self.max_iterations):
            moved = target - function(x)
            off = (moved - x).abs().amax(-1)
            x = moved
            if (off <= allowed).all():
                return x
        raise _failure(off, allowed, self.max_iterations)


@checked
class Residual(Transform):
    """`z = x + g(x)` with `Lip(g) < 1`, invertible by a fixed-point iteration; `log_det = log det(I + ∂g/∂x)`.

    Decode meets the tolerance of `inverse`; its derivatives, of every order, come from the implicit function theorem,
    with linear systems solved to the same tolerance. An estimated log-determinant is noise: two calls give two of
    them, and `with_log_det` gives the flow that reports the exact one.

    Args:
        dim: D.
        hidden: Widths of the hidden layers of g.
        context_dim: Length of the context.
        lipschitz: Bound of `Lip(g)`, of the whole of g, in (0, 1).
        log_det: How the log-determinant is computed.
        inverse: The iteration of decode.

    Raises:
        ValueError: A bound outside (0, 1).
        ConvergenceError: From decode, if the tolerance is not met; it names the samples.

    References:
        Behrmann et al. 2019, i-ResNet, arXiv 1811.00995; Chen et al. 2019, Residual flows, arXiv 1906.02735.
    """

    def __init__(
        self,
        dim: Size,
        *,
        hidden: Widths = (64, 64),
        context_dim: SizeOrZero = 0,
        lipschitz: Fraction = 0.97,
        log_det: LogDet = ExactLogDet(),
        inverse: FixedPoint = FixedPoint(),
    ) -> None:
        super().__init__()
        self.dim, self.context_dim = dim, context_dim
        self.network = LipschitzMLP(dim, hidden=hidden, lipschitz=lipschitz, context_dim=context_dim)
        self.log_det, self.inverse = log_det, inverse

    @property
    def exact(self) -> bool:
        return self.log_det.exact

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        _check_dim(x, self.dim)
        moved, jacobian = self.network.at(context).linearize(x)
        return Mapped(x + moved, self.log_det(jacobian))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        x = self.push(z, context)
        return Mapped(x, -self.log_det(self.network.at(context).linearize(x)[1]))

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        _check_dim(z, self.dim)
        return solution(_Undone(self.inverse), z, *self.network.at(context).tensors())


@dataclass(frozen=True)
class _Undone(Equation):
    """`x + g(x) = z`, of z and the tensors of g."""

    iteration: FixedPoint

    def solve(self, *parameters: Tensor) -> Tensor:
        moved = self.mapped(lambda x, _, *tensors: Contraction.of(tensors)(x), 1)
        target = self.mapped(lambda z, *_: z, 0)(*parameters)
        return self.iteration.solve(lambda x: moved(x, *parameters), target)

    def residual(self, x: Tensor, *parameters: Tensor) -> Tensor:
        off: Tensor = self.mapped(lambda x, z, *tensors: x + Contraction.of(tensors)(x) - z, 1)(x, *parameters)
        return off

    def divide(self, v: Tensor, x: Tensor, *parameters: Tensor, transposed: bool) -> Tensor:
        levels = tuple((0, 0, *dims[1:]) for dims in self.levels)
        return solution(_Divided(self.iteration, transposed, levels=levels), v, x, *parameters[1:])


@dataclass(frozen=True)
class _Divided(Equation):
    """`y + J y = v`, J the Jacobian of g at x or its transpose, of v, x and the tensors of g."""

    iteration: FixedPoint
    transposed: bool

    def solve(self, *parameters: Tensor) -> Tensor:
        target = self.mapped(lambda v, *_: v, 0)(*parameters)
        if self.levels:
            product = self.mapped(lambda y, _, *at: self._product(*at)(y), 1)
            return self.iteration.solve(lambda y: product(y, *parameters), target, margin=0.0)
        return self.iteration.solve(self._product(*parameters[1:]), target, margin=0.0)

    def residual(self, x: Tensor, *parameters: Tensor) -> Tensor:
        off: Tensor = self.mapped(lambda y, v, *at: y + self._product(*at)(y) - v, 1)(x, *parameters)
        return off

    def divide(self, v: Tensor, x: Tensor, *parameters: Tensor, transposed: bool) -> Tensor:
        levels = tuple((0, *dims[1:]) for dims in self.levels)
        other = _Divided(self.iteration, self.transposed != transposed, levels=levels)
        return solution(other, v, *parameters[1:])

    def _product(self, x: Tensor, *tensors: Tensor) -> Callable[[Tensor], Tensor]:
        """J or its transpose, as a function."""
        jacobian = Contraction.of(tensors).linearize(x)[1]
        return jacobian.multiply_transposed if self.transposed else jacobian.multiply


@checked
def with_log_det(flow: Module, log_det: LogDet) -> Module:
    """A copy that shares all parameters and buffers but computes the log-determinants of its residual layers otherwise.

    This is how one trains with `RussianRoulette` and reports with `ExactLogDet`.

    Args:
        flow: A flow, or any module that holds residual layers.
        log_det: How the copy computes them.
    """
    return twin(flow, Residual, lambda layer: {"log_det": log_det})


def continued(flow: Module) -> Module:
    """A copy that shares all parameters and estimates log-determinants without bias and with `smoothed` noise."""
    if all(layer.log_det.exact for layer in parts_of(flow, Residual)):
        return flow
    return twin(flow, Residual, lambda layer: {"log_det": layer.log_det.smoothed()})


def _probe(jacobian: ChainJacobian, probes: int, noise: str) -> Tensor:
    """`(probes, N, D)`."""
    rows, dim = len(jacobian.slopes[0]), jacobian.weights[0].shape[1]
    return NOISE[noise](jacobian.weights[0].new_empty(rows, dim), probes, None)


def _series(jacobian: ChainJacobian, probe: Tensor, weights: Tensor) -> Tensor:
    """`Σ_k (−1)^{k+1} weights_k vᵀ Jᵏ v / k`, the mean over the probes; weights `(terms, N)` or `(terms, 1)`."""
    total, power = torch.zeros_like(probe[0, :, 0]), probe
    for k, weight in enumerate(weights, 1):
        power = jacobian.multiply(power)
        total = total - (-1) ** k / k * weight * (probe * power).sum(2).mean(0)
    return total


def _failure(off: Tensor, allowed: Tensor, iterations: int) -> ConvergenceError:
    failed = ~(off <= allowed)
    return ConvergenceError(
        f"no fixed point after {iterations} iterations, off by {off[failed].max().item():.1e}",
        failed.flatten().nonzero().flatten().tolist(),
        "look for NaN or huge values in these rows, lower lipschitz, or loosen the tolerance.",
    )  # fmt: skip


def _check_dim(x: Tensor, dim: int) -> None:
    if x.dim() != 2 or x.shape[1] != dim:
        raise ValueError(
            f"expected vectors (N, {dim}), got {tuple(x.shape)}: wrap the layer in Flatten for other events"
        )
