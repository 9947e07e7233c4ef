"""Multilayer perceptrons as chains: linear maps with diagonal scales between them, whose trace has closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from cnf.continuous.linearization import Linearization, inner

LARGEST = 2**23  # numbers that the closed form of three scales may prepare; beyond, basis vectors take less memory


class TraceForm(Protocol):
    """A closed form of a chain's trace: what of it depends on weights alone, computed once a solve."""

    def trace(self, scales: Sequence[Tensor]) -> Tensor:
        """`tr J`, `(N,)`, from the scales `d_0, d_1, …` of the chain."""


class OneScale(NamedTuple):
    """`tr J = Σ_k c_k d_0k` with `c_k = Σ_i W_0ki W_1ik`."""

    diagonal: Tensor

    def trace(self, scales: Sequence[Tensor]) -> Tensor:
        return scales[0] @ self.diagonal


class TwoScales(NamedTuple):
    """`tr J = Σ_jk d_1j M_jk d_0k` with `M = W_1 ∘ (W_0 W_2)ᵀ`: one product whatever the dimension.

    A residual adds `Σ_k c_k d_0k`, with `W_2` in the place of `W_1`.
    """

    matrix: Tensor
    diagonal: Tensor | None

    def trace(self, scales: Sequence[Tensor]) -> Tensor:
        total = ((scales[0] @ self.matrix.mT) * scales[1]).sum(1)
        return total if self.diagonal is None else total + scales[0] @ self.diagonal


class ThreeScales(NamedTuple):
    """`tr J = Σ_j d_1j Σ_i (P d_0)_ij (Q d_2)_ij` with `P_ij,k = W_1jk W_0ki` and `Q_ij,l = W_2lj W_3il`.

    As many operations as pushing the D basis vectors through the chain, but they meet in the middle: only the two
    products are as large as D vectors a sample, and nothing else is.
    """

    start: Tensor  # P as (H_0, D H_1)
    end: Tensor  # Q as (H_2, D H_1)

    def trace(self, scales: Sequence[Tensor]) -> Tensor:
        return (self._met(scales).sum(1) * scales[1]).sum(1)

    def gated(self, scales: Sequence[Tensor], gate: Tensor) -> Tensor:
        """The same where a gate for each row, `(N, D)`, follows the last weight."""
        return ((self._met(scales) * gate.unsqueeze(2)).sum(1) * scales[1]).sum(1)

    def _met(self, scales: Sequence[Tensor]) -> Tensor:
        met = (scales[0] @ self.start) * (scales[2] @ self.end)
        return met.unflatten(1, (-1, scales[1].shape[1]))


def trace_form(weights: Sequence[Tensor], *, residual: bool = False) -> TraceForm | None:
    """The closed form of the trace of a chain of two, three or four weights; None where there is none."""
    first, last = weights[0], weights[-1]
    if len(weights) == 2:
        return OneScale((first * last.mT).sum(1))
    if len(weights) == 3:
        return TwoScales(weights[1] * (first @ last).mT, (first * last.mT).sum(1) if residual else None)
    if len(weights) > 4 or residual or len(last) * (weights[1].numel() + weights[2].numel()) > LARGEST:
        return None
    start = weights[1].mT.unsqueeze(1) * first.unsqueeze(2)
    end = weights[2].unsqueeze(1) * last.mT.unsqueeze(2)
    return ThreeScales(start.flatten(1), end.flatten(1))


class Probed(NamedTuple):
    """The products of a solve's vectors v with the outer weights, `v W_0ᵀ` and `v W_L`; they do not change in time."""

    v: Tensor
    first: Tensor
    last: Tensor


def probed(weights: Sequence[Tensor], v: Tensor) -> Probed:
    """Prepare `vᵀJv` for vectors `(k, N, D)`."""
    return Probed(v, v @ weights[0].mT, v @ weights[-1])


class ChainLinearization(Linearization):
    """A chain of linear maps with diagonal scales between them, the Jacobian of every multilayer perceptron.

    With weights `W_0 … W_L` and, per sample, scales `d_0 … d_{L−1}` (slopes of the activations, times gates),
    `J = diag(g) W_L diag(d_{L−1}) W_{L−1} … diag(d_0) W_0`; in a residual chain each inner factor is
    `I + diag(d_i) W_i`. The trace has a closed form for one, two and three scales; for one and two its cost does not
    grow with the dimension. Longer chains multiply the `D` basis vectors.

    Args:
        x: The points, `(N, D)`.
        velocity: `f(t, x)`, `(N, D)`.
        weights: `W_i`, each `(H_i, H_{i−1})`.
        scales: `d_i`, each `(N, H_i)`.
        gate: `g`, `(D,)` shared by the batch or `(N, D)`; None for 1.
        residual: Whether inner layers add to their input.
        form: The result of `trace_form` for these weights without gate, if it is already computed.
        probed: The result of `probed` for the vectors of this solve, if it is already computed.

    Example:
        >>> import torch
        >>> x, slope = torch.randn(3, 2), torch.rand(3, 8)
        >>> first, last = torch.randn(8, 2), torch.randn(2, 8)
        >>> at = ChainLinearization(x, torch.zeros(3, 2), [first, last], [slope])
        >>> torch.allclose(at.jacobian, last @ torch.diag_embed(slope) @ first, atol=1e-5)
        True
    """

    def __init__(
        self,
        x: Tensor,
        velocity: Tensor,
        weights: Sequence[Tensor],
        scales: Sequence[Tensor],
        *,
        gate: Tensor | None = None,
        residual: bool = False,
        form: TraceForm | None = None,
        probed: Probed | None = None,
    ) -> None:
        super().__init__(x)
        self._velocity = velocity
        self.weights, self.scales = weights, scales
        self.gate, self.residual, self.form, self.probed = gate, residual, form, probed

    @property
    def velocity(self) -> Tensor:
        return self._velocity

    def pushforward(self, v: Tensor) -> Tensor:
        return self._outward(self._inward(v, 1), 1)

    def _inward(self, v: Tensor, depth: int) -> Tensor:
        """`∂h/∂x v`, h the hidden layer number `depth`, counted from 1."""
        u = self.scales[0] * (v @ self.weights[0].mT)
        return self._between(u, self.weights[1:depth], self.scales[1:depth])

    def _outward(self, u: Tensor, depth: int) -> Tensor:
        """`∂f/∂h u`."""
        u = self._between(u, self.weights[depth:-1], self.scales[depth:]) @ self.weights[-1].mT
        return u if self.gate is None else self.gate * u

    def _between(self, u: Tensor, weights: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
        for weight, scale in zip(weights, scales, strict=True):
            step = scale * (u @ weight.mT)
            u = u + step if self.residual else step
        return u

    def through(self, v: Tensor) -> Tensor:
        """The products `(∂h/∂x)(∂f/∂h) v`, `(k, N, H)` to `(k, N, H)`, h the first hidden layer as wide as v.

        Every path from x to f passes h, so the trace of this matrix is that of `J = (∂f/∂h)(∂h/∂x)`.

        Raises:
            ValueError: No hidden layer has this width.
        """
        widths = [len(weight) for weight in self.weights[:-1]]
        if v.shape[-1] not in widths:
            known = ", ".join(map(str, widths))
            raise ValueError(f"no hidden layer of this field is {v.shape[-1]} wide: its layers are {known} wide")
        depth = widths.index(v.shape[-1]) + 1
        return self._inward(self._outward(v, depth), depth)

    def vjp(self, v: Tensor) -> Tensor:
        u = (v if self.gate is None else self.gate * v) @ self.weights[-1]
        for weight, scale in zip(self.weights[-2:0:-1], self.scales[:0:-1], strict=True):
            step = (scale * u) @ weight
            u = u + step if self.residual else step
        return (self.scales[0] * u) @ self.weights[0]

    def quadratic_form(self, v: Tensor) -> Tensor:
        if self.probed is None or self.probed.v is not v or self.knows(v):
            return super().quadratic_form(v)
        u = self.scales[0] * self.probed.first
        return inner(self._between(u, self.weights[1:-1], self.scales[1:]), self.probed.last)

    def trace(self) -> Tensor:
        if self.gate is not None and self.gate.dim() > 1:
            return self._trace_of_gates(self.gate)
        weights = [*self.weights[:-1], self._last()]
        form = self.form or trace_form(weights, residual=self.residual)
        return self._trace_by_tangents() if form is None else form.trace(self.scales)

    def _trace_of_gates(self, gate: Tensor) -> Tensor:
        """With a gate for each row: two scales have no closed form then that costs less than the columns of `J`."""
        if len(self.weights) == 2:
            first, last = self.weights
            return ((self.scales[0] @ (first * last.mT)) * gate).sum(1)
        form = trace_form(self.weights, residual=self.residual) if len(self.weights) == 4 else None
        return form.gated(self.scales, gate) if isinstance(form, ThreeScales) else self._trace_by_tangents()

    def _trace_by_tangents(self) -> Tensor:
        """The columns of `J`, without the products with the first and last weights that a basis makes trivial."""
        u = self.scales[0].unsqueeze(1) * self.weights[0].mT  # (N, D, H)
        u = self._between(u, self.weights[1:-1], [scale.unsqueeze(1) for scale in self.scales[1:]])
        if self.gate is None or self.gate.dim() == 1:
            return u.flatten(1) @ self._last().flatten()
        return ((u * self.weights[-1]).sum(2) * self.gate).sum(1)

    def _last(self) -> Tensor:
        """`diag(g) W_L`."""
        return self.weights[-1] if self.gate is None else self.gate.unsqueeze(1) * self.weights[-1]
