"""Transforms whose parameters depend on the context alone: a regression, and elementwise maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnf.arguments import Size, checked
from cnf.discrete.maps import ElementwiseMap
from cnf.inputs import require_context, require_vectors
from cnf.networks import Conditioner
from cnf.transforms import Mapped, Transform


@checked
class Conditional(Transform):
    """`zᵢ = τ(xᵢ; θᵢ(context))`: each element is mapped on its own, by parameters that depend on the context alone.

    Args:
        elementwise: τ, with its number of parameters.
        net: θ, from the context `(N, C)` to `(N, D · size)`.
        context_dim: C.

    Raises:
        ValueError: In use, no context.

    Example:
        >>> import torch, cnf
        >>> from cnf.discrete import AffineMap, Conditional
        >>> layer = Conditional(AffineMap(), cnf.networks.ResidualMLP(3, 5 * AffineMap().size), 3)
        >>> layer.encode(torch.zeros(4, 5), torch.zeros(4, 3)).value.shape
        torch.Size([4, 5])
    """

    def __init__(self, elementwise: ElementwiseMap, net: Conditioner, context_dim: Size) -> None:
        super().__init__()
        self.elementwise, self.net, self.context_dim = elementwise, net, context_dim
        self.domain, self.codomain = elementwise.domain, elementwise.codomain

    def extra_repr(self) -> str:
        return f"elementwise={self.elementwise}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        z, log_slope = self.elementwise.encode(x, self._raw(x, context))
        return Mapped(z, log_slope.sum(1))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        x, log_slope = self.elementwise.decode(z, self._raw(z, context))
        return Mapped(x, log_slope.sum(1))

    def _raw(self, x: Tensor, context: Tensor | None) -> Tensor:
        raw: Tensor = self.net(require_context(context, "layer", self.context_dim))
        return raw.reshape(*x.shape, self.elementwise.size)


@checked
class Regression(Transform):
    """`z = (x − A c − b) · exp(−s)` with a context c; `log_det = −Σ s`. `initialize` sets A, b and s by least squares.

    From there on they are trained.

    Args:
        dim: D.
        context_dim: C.

    Raises:
        ValueError: In use, no context.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Regression(1, 1)
        >>> context = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> layer.initialize(2 * context + 1 + 0.1 * torch.tensor([[1.0], [-1.0], [-1.0], [1.0]]), context)
        >>> round(layer.weight.item(), 3), round(layer.bias.item(), 3)
        (2.0, 1.0)
    """

    data_dependent = True

    def __init__(self, dim: Size, context_dim: Size) -> None:
        super().__init__()
        self.context_dim = context_dim
        self.weight = nn.Parameter(torch.zeros(dim, context_dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, len(self.bias))
        z = (x - self._predicted(context)) * (-self.log_scale).exp()
        return Mapped(z, -self.log_scale.sum().expand(len(x)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, len(self.bias))
        x = z * self.log_scale.exp() + self._predicted(context)
        return Mapped(x, self.log_scale.sum().expand(len(z)))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fit the rows of `x`; what is left of a column is scaled to a standard deviation of 1."""
        context = require_context(context, "layer", self.context_dim)
        seen = torch.cat((context, torch.ones_like(context[:, :1])), 1).double()
        ridge = 1e-9 * len(seen) * torch.eye(seen.shape[1], dtype=seen.dtype, device=seen.device)
        solution = torch.linalg.solve(seen.mT @ seen + ridge, seen.mT @ x.double())
        self.weight.copy_(solution[:-1].mT)
        self.bias.copy_(solution[-1])
        self.log_scale.copy_((x.double() - seen @ solution).std(0).clamp(min=1e-3).log())

    def _predicted(self, context: Tensor | None) -> Tensor:
        return require_context(context, "layer", self.context_dim) @ self.weight.mT + self.bias
