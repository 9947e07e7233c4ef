"""Sums of planar units whose weights are functions of time."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cnf.arguments import Size, SizeOrZero, checked
from cnf.continuous.chains import ChainLinearization
from cnf.continuous.fields.interface import VectorField, context_of
from cnf.continuous.linearization import Linearization


@checked
class PlanarField(VectorField):
    """A sum of planar units with a closed-form trace; a hypernetwork computes their weights from the time.

    `f = 1/M Σ_m sigmoid(g_m(t)) u_m(t) tanh(w_m(t)ᵀx + b_m(t) + V_m context)`.

    Args:
        dim: Dimension of x.
        units: Number M of units.
        hidden: Width of the two hidden layers of the hypernetwork.
        context_dim: Length of the context; 0 for none.

    Raises:
        ValueError: A size is below 1, or `context_dim` is negative.

    References:
        Chen et al. 2018, Neural ordinary differential equations, arXiv 1806.07366; the mean over the units and the gate
        of each entry of u are those of the authors' code.

    Example:
        >>> import torch
        >>> field = PlanarField(2, units=4, hidden=8)
        >>> field.linearize(torch.tensor(0.5), torch.randn(5, 2)).trace().shape
        torch.Size([5])
    """

    dim: int

    def __init__(self, dim: Size, *, units: Size = 64, hidden: Size = 32, context_dim: SizeOrZero = 0) -> None:
        super().__init__()
        self.dim, self.units, self.context_dim = dim, units, context_dim
        self.hyper = nn.Sequential(
            nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 3 * units * dim + units),
        )  # fmt: skip
        self.conditional = nn.Linear(context_dim, units, bias=False) if context_dim else None

    def extra_repr(self) -> str:
        return f"dim={self.dim}, units={self.units}, context_dim={self.context_dim}"

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """False: for one time, all rows share one evaluation of the hypernetwork."""
        return False

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        inner, bias, outer = self._units(t, context)
        h = ((inner @ x.unsqueeze(-1)).squeeze(-1) + bias).tanh()
        return (outer @ h.unsqueeze(-1)).squeeze(-1)

    def linearize(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        inner, bias, outer = self._units(t, context)
        if t.dim():
            return PlanarLinearization(x, inner, ((inner @ x.unsqueeze(-1)).squeeze(-1) + bias).tanh(), outer)
        h = (x @ inner.mT + bias).tanh()
        return ChainLinearization(x, h @ outer.mT, [inner, outer], [1 - h * h])

    def _units(self, t: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Inner weights `(…, M, D)`, biases `(…, M)` and outer weights `(…, D, M)`; `…` is `(N,)` if t is."""
        size = self.units * self.dim
        inner, outer, gate, bias = self.hyper(t.unsqueeze(-1)).split([size, size, size, self.units], -1)
        outer = (outer * gate.sigmoid() / self.units).unflatten(-1, (self.units, self.dim)).mT
        context = context_of(self, context)
        if self.conditional is not None:
            bias = bias + self.conditional(context)
        return inner.unflatten(-1, (self.units, self.dim)), bias, outer


class PlanarLinearization(Linearization):
    """Planar units whose weights are those of a time for each row.

    Args:
        x: The points, `(N, D)`.
        inner: Inner weights, `(N, M, D)`.
        h: Values of the units, `(N, M)`.
        outer: Outer weights, `(N, D, M)`.

    Example:
        >>> import torch
        >>> x, inner, outer = torch.randn(3, 2), torch.randn(3, 4, 2), torch.randn(3, 2, 4)
        >>> at = PlanarLinearization(x, inner, (inner @ x.unsqueeze(-1)).squeeze(-1).tanh(), outer)
        >>> torch.allclose(at.trace(), at.jacobian.diagonal(dim1=1, dim2=2).sum(1), atol=1e-5)
        True
    """

    def __init__(self, x: Tensor, inner: Tensor, h: Tensor, outer: Tensor) -> None:
        super().__init__(x)
        self.inner, self.h, self.outer = inner, h, outer

    @property
    def velocity(self) -> Tensor:
        return (self.outer @ self.h.unsqueeze(-1)).squeeze(-1)

    def pushforward(self, v: Tensor) -> Tensor:
        return self._through(v, self.inner, self.outer)

    def vjp(self, v: Tensor) -> Tensor:
        return self._through(v, self.outer.mT, self.inner.mT)

    def _through(self, v: Tensor, first: Tensor, last: Tensor) -> Tensor:
        u = (first @ v.unsqueeze(-1)).squeeze(-1) * (1 - self.h * self.h)
        return (last @ u.unsqueeze(-1)).squeeze(-1)

    def trace(self) -> Tensor:
        return ((1 - self.h * self.h) * (self.inner * self.outer.mT).sum(2)).sum(1)
