"""Linear transforms along the first axis of an event: permutations, LU and dense matrices, Householder reflections.

All of them take vectors `(N, D)` and images `(N, C, H, W)`: on images they mix channels, the same way at every pixel,
which makes an LU or dense layer the invertible 1×1 convolution of Glow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from cnf.arguments import Rule, Size, Whole, checked
from cnf.discrete.determinants import log_abs_det
from cnf.transforms import Mapped, Transform


def _whole(order: Sequence[int] | Tensor) -> bool:
    return len(order) > 0 if not isinstance(order, Tensor) else order.dtype == torch.long and order.dim() == 1


WHOLE = Rule("of whole numbers, which is not empty", _whole)


@checked
class Permutation(Transform):
    """`z_i = x_{order_i}` along the first axis of the event, with log-determinant 0.

    Args:
        order: The numbers 0 … D − 1, each once.

    Raises:
        ValueError: `order` is not a permutation.
    """

    order: Tensor

    def __init__(self, order: Annotated[Sequence[Whole] | Tensor, WHOLE]) -> None:
        super().__init__()
        order = torch.as_tensor(order, dtype=torch.long)
        if order.dim() != 1 or not (order.is_meta or order.sort().values.tolist() == list(range(len(order)))):
            raise ValueError(f"order must have each of 0 … D − 1 once, got {order.tolist()}")
        self.register_buffer("order", order)

    @classmethod
    def reversal(cls, dim: int) -> Permutation:
        """The order D − 1 … 0."""
        return cls(range(dim - 1, -1, -1))

    @classmethod
    def random(cls, dim: int, *, generator: torch.Generator | None = None) -> Permutation:
        """A random order, drawn once; the state dict carries it."""
        return cls(torch.randperm(dim, generator=generator))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        _check_size(x, len(self.order))
        return Mapped(x[:, self.order], x.new_zeros(len(x)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        _check_size(z, len(self.order))
        return Mapped(z[:, self.order.argsort()], z.new_zeros(len(z)))


@checked
class Linear(Transform, ABC):
    """`z = W x + b` along the first axis of the event; `log_det = P log|det W|` with P pixels (1 for vectors).

    Args:
        dim: D, the size of that axis.
        bias: Whether there is a `b`.
    """

    def __init__(self, dim: Size, *, bias: bool) -> None:
        super().__init__()
        self.dim = dim
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

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
        rows = self.multiply(_as_rows(x, self.dim))
        return Mapped(_as_events(rows if self.bias is None else rows + self.bias, x), self._log_det(x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        rows = _as_rows(z, self.dim)
        return Mapped(_as_events(self.solve(rows if self.bias is None else rows - self.bias), z), -self._log_det(z))

    def _log_det(self, x: Tensor) -> Tensor:
        return (math.prod(x.shape[2:]) * self.log_abs_det()).expand(len(x))


@checked
class LULinear(Linear):
    """`W = P L U`: the log-determinant is a sum, the inverse two triangular solves.

    L is unit lower triangular, U upper triangular with diagonal `sign · exp(log_scale)`, and the permutation P and the
    signs are constants. It starts at the identity, or at a random rotation (as Glow's convolutions do).

    Args:
        dim: D, the size of the axis it acts on.
        rotation: Whether to start at a random rotation instead of the identity.
        bias: Whether to add a vector.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039; Oliva et al. 2018, arXiv 1801.09819.
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
class Householder(Linear):
    """A product of K reflections, `W = H_1 … H_K` with `H_k = I − 2 v_k v_kᵀ / ‖v_k‖²`: orthogonal, log-determinant 0.

    Multiplied out at once, `W = I − V S⁻¹ Vᵀ` with the unit vectors in the columns of V and S the upper triangle of
    `VᵀV`, its diagonal halved. K = D reflections reach every orthogonal matrix of determinant (−1)ᴰ.

    Args:
        dim: D, the size of the axis it acts on.
        reflections: K; D by default.

    References:
        Tomczak and Welling 2016, arXiv 1611.09630; Meng et al. 2020, arXiv 2003.01941;
        Joffrain et al. 2006, Accumulating Householder transformations, revisited.
    """

    def __init__(self, dim: Size, *, reflections: Size | None = None) -> None:
        super().__init__(dim, bias=False)
        self.vectors = nn.Parameter(torch.randn(reflections or dim, dim))

    @classmethod
    def of(cls, rotation: Tensor) -> Householder:
        """The reflections whose product is a given orthogonal matrix `(D, D)`.

        Where fewer than D are needed, pairs that cancel fill them up, so that all of them can be trained.

        Raises:
            ValueError: The matrix is not orthogonal.
        """
        vectors = _reflections(rotation.detach())
        while len(vectors) < len(rotation):
            vectors += [torch.randn_like(rotation[0])] * 2
        layer = cls(len(rotation), reflections=len(vectors)).to(rotation)
        with torch.no_grad():
            layer.vectors.copy_(torch.stack(vectors))
        return layer

    @property
    def weight(self) -> Tensor:
        """`W`, `(D, D)`."""
        unit = self.vectors / torch.linalg.vector_norm(self.vectors, dim=1, keepdim=True)
        gram = unit @ unit.mT
        middle = gram.triu(1) + 0.5 * torch.diag(gram.diagonal())
        identity = torch.eye(self.dim, dtype=unit.dtype, device=unit.device)
        return identity - unit.mT @ torch.linalg.solve_triangular(middle, unit, upper=True)

    def multiply(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT

    def solve(self, y: Tensor) -> Tensor:
        return y @ self.weight

    def log_abs_det(self) -> Tensor:
        return self.vectors.new_zeros(())


@checked
def invertible_conv1x1(channels: Size, *, lu: bool = True) -> Linear:
    """Glow's invertible 1×1 convolution of images `(N, C, H, W)`, or its like for vectors; starts at a random rotation.

    Args:
        channels: C, or D of vectors.
        lu: Whether its matrix is LU-parametrised, or free.
    """
    return LULinear(channels, rotation=True, bias=False) if lu else DenseLinear(channels, bias=False)


@checked
def random_rotation(dim: Size, *, generator: torch.Generator | None = None) -> Tensor:
    """An orthogonal matrix `(D, D)` drawn uniformly (Haar)."""
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator))
    return q * r.diagonal().sign()


def _reflections(rotation: Tensor) -> list[Tensor]:
    """Vectors v_1 … v_K, K ≤ D, with `H_1 … H_K = rotation`: each takes a column to its unit vector."""
    identity = torch.eye(len(rotation), dtype=rotation.dtype, device=rotation.device)
    rounding = 1e3 * torch.finfo(rotation.dtype).eps
    if not torch.allclose(rotation @ rotation.mT, identity, rtol=0, atol=rounding):
        raise ValueError(
            f"an orthogonal matrix was expected; R Rᵀ is off I by {(rotation @ rotation.mT - identity).abs().max():.1e}"
        )
    vectors = []
    for i in range(len(rotation)):
        v = rotation[:, i] - identity[i]
        if v.norm() > rounding:
            rotation = rotation - 2 / v.dot(v) * v.outer(v @ rotation)
            vectors.append(v)
    return vectors


def _as_rows(x: Tensor, dim: int) -> Tensor:
    """The vectors along the first axis of each event, `(N · pixels, D)`."""
    _check_size(x, dim)
    return x if x.dim() == 2 else x.movedim(1, -1).reshape(-1, dim)


def _as_events(rows: Tensor, like: Tensor) -> Tensor:
    return rows if like.dim() == 2 else rows.reshape(len(like), *like.shape[2:], rows.shape[1]).movedim(-1, 1)


def _check_size(x: Tensor, dim: int) -> None:
    if x.dim() < 2 or x.shape[1] != dim:
        raise ValueError(f"expected events whose first axis has {dim} elements, (N, {dim}, ...), got {tuple(x.shape)}")
