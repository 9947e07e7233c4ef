"""Gradients of residual potentials, whose Hessian has closed forms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnf.continuous.linearization import Linearization


class PotentialLinearization(Linearization):
    """The field `−∇ₓΦ` of a residual potential and its Jacobian `−∇²Φ`, in closed form.

    With `s = [x, t, …]`, `a_0 = K_0 s + b_0`, `a_i = K_i u_{i−1} + b_i` and slopes `θ_i = tanh(a_i)`, the adjoints are
    `z_{M+1} = w`, `z_i = z_{i+1} + h K_iᵀ(θ_i z_{i+1})`, the gradient is `K_0ᵀ(θ_0 z_1) + AᵀA s + b`, and the Laplacian
    `Σ_j σ''_0j z_1j ‖K_0j‖² + h Σ_i Σ_j σ''_ij z_{i+1,j} ‖(K_i J_{i−1})_j‖² + ‖A‖²` over the columns of x, with
    `J_0 = θ_0 K_0`, `J_i = J_{i−1} + h θ_i K_i J_{i−1}`.

    Args:
        x: `(N, D)`.
        weights: `K_0 … K_M`; the columns of `K_0` are those of s.
        slopes: `θ_0 … θ_M`, each `(N, m)`.
        outer: `w`, `(m,)`.
        affine: `AᵀA s + b`, `(N, S)`, S the length of s.
        quadratic: `A`, `(rank, S)`.
        step: `h`, the step of the residual layers.

    References:
        Onken et al. 2021, OT-Flow, arXiv 2006.00104.

    Example:
        >>> import torch, cnf
        >>> at = cnf.PotentialField(2, hidden=8).linearize(torch.tensor(0.5), torch.randn(3, 2))
        >>> torch.allclose(at.jacobian, at.jacobian.mT, atol=1e-5)  # minus a Hessian
        True
    """

    def __init__(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        slopes: Sequence[Tensor],
        outer: Tensor,
        affine: Tensor,
        quadratic: Tensor,
        *,
        step: float,
    ) -> None:
        super().__init__(x)
        dim = x.shape[1]
        self.inner, self.slopes, self.step = weights[1:], slopes, step
        self.first, self.quadratic = weights[0][:, :dim], quadratic[:, :dim]
        self.of_time = weights[0][:, dim], quadratic[:, dim]
        self.adjoints = [outer]
        for weight, slope in zip(self.inner[::-1], slopes[:0:-1], strict=True):
            z = self.adjoints[0]
            self.adjoints.insert(0, z + step * ((slope * z) @ weight))
        self.gradient = (slopes[0] * self.adjoints[0]) @ weights[0] + affine
        self.bends = [(1 - slope * slope) * z for slope, z in zip(slopes, self.adjoints, strict=True)]

    @property
    def velocity(self) -> Tensor:
        return -self.gradient[:, : self.x.shape[1]]

    @property
    def time_derivative(self) -> Tensor:
        """`∂Φ/∂t`, `(N,)`."""
        return self.gradient[:, self.x.shape[1]]

    def pushforward(self, v: Tensor) -> Tensor:
        return self._bent(v @ self.first.mT, v @ self.quadratic.mT)

    def as_time_passes(self, v: Tensor) -> Tensor:
        """`∂f/∂t + (∂f/∂x) v`, `(N, D)`."""
        first, quadratic = self.of_time
        return self._bent(v @ self.first.mT + first, v @ self.quadratic.mT + quadratic)

    def _bent(self, first: Tensor, quadratic: Tensor) -> Tensor:
        """The x-part of `−∇²Φ d` for a direction d of s, from `K_0 d` and `A d`."""
        moved = [first]
        u = self.slopes[0] * moved[0]
        for weight, slope in zip(self.inner, self.slopes[1:], strict=True):
            moved.append(u @ weight.mT)
            u = u + self.step * slope * moved[-1]
        z = torch.zeros_like(u)
        for i in range(len(self.inner), 0, -1):
            z = z + self.step * ((self.bends[i] * moved[i] + self.slopes[i] * z) @ self.inner[i - 1])
        outer = (self.bends[0] * moved[0] + self.slopes[0] * z) @ self.first
        return -(outer + quadratic @ self.quadratic)

    def vjp(self, v: Tensor) -> Tensor:
        return self.jvp(v)  # a Hessian is symmetric

    def trace(self) -> Tensor:
        first = self.first
        if first.shape[1] > first.shape[0]:  # norms of rows do not change under a rotation to m columns
            first = torch.linalg.qr(first.mT).R.mT
        total = self.bends[0] @ first.square().sum(1) + self.quadratic.square().sum()
        u = self.slopes[0].unsqueeze(1) * first.mT  # (N, min(D, m), m)
        for weight, slope, bend in zip(self.inner, self.slopes[1:], self.bends[1:], strict=True):
            moved = u @ weight.mT
            total = total + self.step * (moved.square().sum(1) * bend).sum(1)
            u = u + self.step * slope.unsqueeze(1) * moved
        return -total
