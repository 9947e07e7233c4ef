"""Networks with a Lipschitz constant below a bound, and their Jacobians as chains of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Positive, Size, SizeOrZero, Widths, checked
from cnf.inputs import require_context
from cnf.networks.residual import as_widths

SHARPNESS = 10.0  # start of β. With the published 0.97 slopes are near ½, and each layer halves what g can do: 8 blocks
# of 2 × 64 reach 2.83 nats on the two moons in 500 steps; from 5 on they reach 2.44.


def spectral_norm(weight: Tensor) -> Tensor:
    """The largest singular value σ of a matrix, exact, with its gradient `u vᵀ` and the derivative of that.

    `σ = ‖W v‖` with the top eigenvector v of the smaller Gram matrix, `WᵀW` or `WWᵀ`. A power
    iteration would give a lower bound and need a state between calls. A singular value decomposition would cost more.

    Args:
        weight: The matrix W, `(outputs, inputs)`.

    Example:
        >>> import torch
        >>> spectral_norm(torch.diag(torch.tensor([3.0, 1.0])))
        tensor(3.)
    """
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.mT
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(tall.mT @ tall)
        gaps = values[-1] - values[:-1]
        inverse_gaps = torch.where(gaps > torch.finfo(gaps.dtype).eps * values[-1], 1 / gaps, 0)
    along = tall @ vectors.detach()[:, -1]
    norm = torch.linalg.vector_norm(along)
    turning = (
        tall @ vectors.detach()[:, :-1]
    ).mT @ along  # 0, and so is the gradient of its square, but v turns with W
    second = (inverse_gaps.detach() * turning.square()).sum()
    return norm + second / (2 * norm.detach().clamp(min=torch.finfo(norm.dtype).tiny))


def lipswish(a: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor]:
    """LipSwish, `σ(a) = a · sigmoid(β a) / 1.1`, and its slope, at most 1 for every `β > 0`.

    Args:
        a: Argument, of any shape.
        sharpness: β, positive, a scalar or of a shape that broadcasts to that of `a`.

    References:
        Chen et al. 2019, Residual flows, arXiv 1906.02735.

    Example:
        >>> import torch
        >>> value, slope = lipswish(torch.tensor([0.0, 100.0]), torch.tensor(1.0))
        >>> slope.round(decimals=4)
        tensor([0.4545, 0.9091])
    """
    gate = torch.sigmoid(sharpness * a)
    value = a * gate / 1.1
    return value, gate / 1.1 + sharpness * value * (1 - gate)


@dataclass(frozen=True)
class ChainJacobian:
    """The Jacobian of a chain of layers, `J = W_L diag(s_{L−1}) W_{L−1} … diag(s_1) W_1`, for each row.

    Attributes:
        weights: `W_1 … W_L`.
        slopes: `s_1 … s_{L−1}`, each `(N, H)`.
    """

    weights: Sequence[Tensor]
    slopes: Sequence[Tensor]

    def multiply(self, v: Tensor) -> Tensor:
        """`J v`: `(…, N, D)` to `(…, N, D)`."""
        for weight, slope in zip(self.weights, self.slopes, strict=False):
            v = slope * (v @ weight.mT)
        return v @ self.weights[-1].mT

    def multiply_transposed(self, v: Tensor) -> Tensor:
        """`Jᵀ v`: `(…, N, D)` to `(…, N, D)`."""
        v = v @ self.weights[-1]
        for weight, slope in zip(reversed(self.weights[:-1]), reversed(self.slopes), strict=True):
            v = (slope * v) @ weight
        return v

    def dense(self) -> Tensor:
        """`J`, `(N, D, D)`."""
        columns = self.weights[0]
        for weight, slope in zip(self.weights[1:], self.slopes, strict=True):
            columns = weight @ (slope.unsqueeze(2) * columns)
        return columns


@dataclass(frozen=True)
class Contraction:
    """A `LipschitzMLP` with a fixed context; the normalised matrices are computed once.

    Attributes:
        weights: The normalised matrices.
        biases: One for each; the first may have a row for each sample.
        sharpness: β of each activation.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    sharpness: Tensor

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Contraction:
        """From its `tensors()`."""
        sharpness, *layers = tensors
        return cls(layers[::2], layers[1::2], sharpness)

    def tensors(self) -> list[Tensor]:
        """All that it depends on."""
        return [self.sharpness, *chain.from_iterable(zip(self.weights, self.biases, strict=True))]

    def __call__(self, x: Tensor) -> Tensor:
        """`g(x)`, `(N, D)`."""
        return self.linearize(x)[0]

    def linearize(self, x: Tensor) -> tuple[Tensor, ChainJacobian]:
        """`g(x)` and its Jacobian."""
        slopes = []
        for weight, bias, sharpness in zip(self.weights, self.biases, self.sharpness, strict=False):
            x, slope = lipswish(x @ weight.mT + bias, sharpness)
            slopes.append(slope)
        return x @ self.weights[-1].mT + self.biases[-1], ChainJacobian(self.weights, slopes)


@checked
class LipschitzMLP(nn.Module):
    """A perceptron `g: ℝᴰ → ℝᴰ` with LipSwish activations and `Lip(g) ≤ lipschitz`; initially `g = 0`.

    If the spectral norm of one of its L matrices is larger than `lipschitz^{1/L}`, the matrix is scaled down to it. The
    context has its own matrix in the first layer, without a bound, since the constant bounds changes with x only.

    Args:
        dim: Length D of the input and the output.
        hidden: Widths of the hidden layers, at least one; an int is one layer.
        lipschitz: The bound, positive; below 1 for a residual flow.
        context_dim: Length of the context; 0 for none.

    Raises:
        ValueError: There is no hidden layer, or a number is not positive; in use, the context is missing.

    References:
        Behrmann et al. 2019, i-ResNet, arXiv 1811.00995; Chen et al. 2019, Residual flows, arXiv 1906.02735.

    Example:
        >>> import torch, cnf
        >>> net = cnf.networks.LipschitzMLP(2, hidden=(16, 16), lipschitz=0.9)
        >>> net(torch.ones(3, 2)).shape
        torch.Size([3, 2])
    """

    def __init__(self, dim: Size, *, hidden: Widths, lipschitz: Positive, context_dim: SizeOrZero = 0) -> None:
        super().__init__()
        hidden = as_widths(hidden)
        sizes = [dim, *hidden, dim]
        self.lipschitz = lipschitz
        layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.layers = nn.ModuleList(layers)
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)
        self.from_context = nn.Linear(context_dim, hidden[0], bias=False) if context_dim else None
        self.sharpness = nn.Parameter(torch.full((len(hidden),), SHARPNESS))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`g(x)`, `(N, D)`."""
        return self.at(context)(x)

    def at(self, context: Tensor | None = None) -> Contraction:
        """The network for one context `(N, C)`, its matrices normalised once."""
        bound = self.lipschitz ** (1 / len(self.layers))
        layers = cast("list[nn.Linear]", list(self.layers))
        least = max(bound, torch.finfo(layers[0].weight.dtype).tiny)  # a bound may underflow, and a norm be 0
        weights = [layer.weight * (bound / spectral_norm(layer.weight).clamp(min=least)) for layer in layers]
        biases: list[Tensor] = [layer.bias for layer in layers]
        if self.from_context is not None:
            biases[0] = biases[0] + self.from_context(require_context(context, "network", None))
        return Contraction(weights, biases, F.softplus(self.sharpness))
