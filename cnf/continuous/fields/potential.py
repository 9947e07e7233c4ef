"""Gradient fields of a potential."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cnf.arguments import Size, SizeOrZero, checked
from cnf.continuous.fields.interface import VectorField, context_of
from cnf.continuous.fields.layers import linears
from cnf.continuous.potentials import PotentialLinearization
from cnf.networks import softplus


@checked
class PotentialField(VectorField):
    """A gradient field `f = −∇ₓΦ(s)`, `s = [x, t, context]`, with closed-form gradient, Laplacian and Hessian.

    `Φ(s) = wᵀN(s) + ½ sᵀAᵀA s + bᵀs`, `N` a residual net `u_0 = σ(K_0 s + b_0)`,
    `u_i = u_{i−1} + h σ(K_i u_{i−1} + b_i)`, `h = 1/depth`, with `σ(a) = log(2 cosh a)`, the antiderivative of tanh.

    Args:
        dim: Dimension of x.
        hidden: Width m of the residual net.
        depth: Number M of residual layers after the first.
        rank: Number of rows of A; by default `min(10, dim + 1)`, as published.
        context_dim: Length of the context; 0 for none.

    Raises:
        ValueError: A size is below 1, or `context_dim` is negative.

    References:
        Onken et al. 2021, OT-Flow, arXiv 2006.00104.

    Example:
        >>> import torch
        >>> field = PotentialField(2, hidden=8)
        >>> t, x = torch.tensor(0.5), torch.randn(5, 2, requires_grad=True)
        >>> (gradient,) = torch.autograd.grad(field.potential(t, x).sum(), x)
        >>> torch.allclose(field(t, x), -gradient, atol=1e-5)
        True
    """

    def __init__(
        self, dim: Size, *, hidden: Size = 32, depth: Size = 1, rank: Size | None = None, context_dim: SizeOrZero = 0
    ) -> None:
        super().__init__()
        self.dim, self.context_dim, self.step = dim, context_dim, 1 / depth
        size = dim + 1 + context_dim
        self.layers = nn.ModuleList([nn.Linear(size, hidden), *(nn.Linear(hidden, hidden) for _ in range(depth))])
        self.weight = nn.Parameter(torch.ones(hidden))
        self.quadratic = nn.Parameter(torch.empty(rank or min(10, dim + 1), size))
        self.linear = nn.Linear(size, 1)
        nn.init.xavier_uniform_(self.quadratic)
        for bias in (self.linear.weight, self.linear.bias):
            nn.init.zeros_(bias)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, context_dim={self.context_dim}"

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.linearize(t, x, context).velocity

    def potential(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`Φ(t, x)`, `(N,)`."""
        s = self.inputs(t, x, context)
        u = _log_two_cosh(self.layers[0](s))
        for layer in self.layers[1:]:
            u = u + self.step * _log_two_cosh(layer(u))
        return u @ self.weight + 0.5 * (s @ self.quadratic.mT).square().sum(1) + self.linear(s)[:, 0]

    def linearize(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None
    ) -> PotentialLinearization:
        s = self.inputs(t, x, context)
        first, *rest = self.layers
        a = first(s)
        u, slopes = _log_two_cosh(a), [a.tanh()]
        for layer in rest:
            a = layer(u)
            u = u + self.step * _log_two_cosh(a)
            slopes.append(a.tanh())
        weights = [layer.weight for layer in linears(self.layers)]
        affine = (s @ self.quadratic.mT) @ self.quadratic + self.linear.weight
        return PotentialLinearization(x, weights, slopes, self.weight, affine, self.quadratic, step=self.step)

    def along(self, t: Tensor, x: Tensor, v: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        return self.linearize(t, x, context).as_time_passes(v)

    def inputs(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        """`s = [x, t, context]`, `(N, dim + 1 + context_dim)`."""
        context = context_of(self, context)
        parts = [x, t.reshape(-1, 1).expand(len(x), 1), *([] if context is None else [context])]
        return torch.cat(parts, 1)


def _log_two_cosh(a: Tensor) -> Tensor:
    return softplus(2 * a) - a
