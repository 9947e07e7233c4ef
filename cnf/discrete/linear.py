"""Linear transforms along the first axis of an event, by an LU-parametrised or a free matrix.

All of them take vectors `(N, D)` and images `(N, C, H, W)`. On images they mix channels, the same way at every pixel:
an LU or dense layer is then the invertible 1×1 convolution of Glow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cnf.arguments import Size, checked
from cnf.discrete.determinants import log_abs_det
from cnf.discrete.features import as_events, as_rows, at_every_place
from cnf.discrete.rotations import random_rotation
from cnf.inputs import require_features
from cnf.transforms import Mapped, Transform


@checked
class Linear(Transform, ABC):
    """`z = W x + b` along the first axis of the event; `log_det = P log |det W|` with P pixels (1 for vectors).

    To write one, define `multiply`, `solve` and `log_abs_det`. It then takes vectors and images.

    Args:
        dim: D, the size of that axis.
        bias: Whether there is a `b`.

    Raises:
        ValueError: In use, another size of that axis.

    Example:
        >>> import math, torch
        >>> class Double(Linear):
        ...     def multiply(self, x):
        ...         return 2 * x
        ...
        ...     def solve(self, y):
        ...         return y / 2
        ...
        ...     def log_abs_det(self):
        ...         return torch.tensor(self.dim * math.log(2))
        >>> Double(3, bias=False).encode(torch.ones(1, 3, 2, 2)).log_det
        tensor([8.3178])
    """

    def __init__(self, dim: Size, *, bias: bool) -> None:
        super().__init__()
        self.dim = dim
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    @abstractmethod
    def multiply(self, x: Tensor) -> Tensor:
        """`W x` for each row, `(M, D)`."""

    @abstractmethod
    def solve(self, y: Tensor) -> Tensor:
        """`W⁻¹ y` for each row, `(M, D)`."""

    @abstractmethod
    def log_abs_det(self) -> Tensor:
        """`log |det W|`, a scalar."""

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(x, self.dim)
        rows = self.multiply(as_rows(x))
        value = as_events(rows if self.bias is None else rows + self.bias, x)
        return Mapped(value, at_every_place(self.log_abs_det(), x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(z, self.dim)
        rows = as_rows(z)
        value = as_events(self.solve(rows if self.bias is None else rows - self.bias), z)
        return Mapped(value, at_every_place(-self.log_abs_det(), z))


@checked
class LULinear(Linear):
    """`W = P L U`: the log-determinant is a sum, the inverse two triangular solves.

    L is unit lower triangular, U is upper triangular with diagonal `sign · exp(log_scale)`, and the permutation P and
    the signs are constants. It starts at the identity, or at a random rotation (as Glow's convolutions do).

    Args:
        dim: D, the size of the axis it acts on.
        rotation: Whether to start at a random rotation instead of the identity.
        bias: Whether to add a vector.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039; Oliva et al. 2018, arXiv 1801.09819.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.LULinear(3)
        >>> layer.encode(torch.tensor([[1.0, 2.0, 3.0]])).value.tolist(), layer.log_abs_det().item()
        ([[1.0, 2.0, 3.0]], 0.0)
    """

    order: Tensor
    sign: Tensor

    def __init__(self, dim: Size, *, rotation: bool = False, bias: bool = True) -> None:
        super().__init__(dim, bias=bias)
        permutation, lower, upper = torch.linalg.lu(random_rotation(dim) if rotation else torch.eye(dim))
        self.factors = nn.Parameter(lower.tril(-1) + upper.triu(1))  # L below the diagonal, U above it
        self.log_scale = nn.Parameter(upper.diagonal().abs().log())
        self.register_buffer("sign", upper.diagonal().sign().clone())
        self.register_buffer("order", permutation.argmax(1))

    @property
    def _lower(self) -> Tensor:
        return self.factors.tril(-1) + torch.eye(self.dim, dtype=self.factors.dtype, device=self.factors.device)

    @property
    def _upper(self) -> Tensor:
        return self.factors.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    def multiply(self, x: Tensor) -> Tensor:
        return x @ (self._lower @ self._upper)[self.order].mT

    def solve(self, y: Tensor) -> Tensor:
        y = torch.linalg.solve_triangular(self._lower, y[:, self.order.argsort()].mT, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(self._upper, y, upper=True).mT

    def log_abs_det(self) -> Tensor:
        return self.log_scale.sum()


@checked
class DenseLinear(Linear):
    """`W` itself is the parameter: the log-determinant and the inverse cost `O(D³)`. It starts at a random rotation.

    Args:
        dim: D, the size of the axis it acts on.
        bias: Whether to add a vector.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> cnf.discrete.DenseLinear(3).encode(torch.zeros(2, 3, 8, 8)).value.shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, dim: Size, *, bias: bool = True) -> None:
        super().__init__(dim, bias=bias)
        self.weight = nn.Parameter(random_rotation(dim))

    def multiply(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT

    def solve(self, y: Tensor) -> Tensor:
        permutation, lower, upper = torch.linalg.lu(self.weight)  # its own solve loses derivatives under vmap
        half = torch.linalg.solve_triangular(lower, permutation.mT @ y.mT, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, half, upper=True).mT

    def log_abs_det(self) -> Tensor:
        return log_abs_det(self.weight)


@checked
def invertible_conv1x1(channels: Size, *, lu: bool = True) -> Linear:
    """Glow's invertible 1×1 convolution of images `(N, C, H, W)`, which starts at a random rotation; takes vectors too.

    Args:
        channels: C, or D of vectors.
        lu: Whether its matrix is LU-parametrised, or free.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> type(cnf.discrete.invertible_conv1x1(3)).__name__
        'LULinear'
    """
    return LULinear(channels, rotation=True, bias=False) if lu else DenseLinear(channels, bias=False)
