"""Matrices that are invertible, or positive definite, by construction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnf.arguments import Matrix, checked
from cnf.discrete import Linear, LULinear


@checked
def invertible(matrix: Matrix) -> LULinear:
    """A trainable matrix that starts at `matrix` and stays invertible: `P L U` with a diagonal that keeps its signs.

    Args:
        matrix: Initial value, `(n, n)`.

    Raises:
        ValueError: The matrix is not square, not finite, or singular to the precision of its dtype.

    Example:
        >>> import torch
        >>> dense(invertible(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))).detach()
        tensor([[0., 2.],
                [1., 0.]])
    """
    linear = LULinear(len(matrix), bias=False).to(matrix)
    require_square(matrix, linear.dim)
    require_regular(matrix)
    permutation, lower, upper = torch.linalg.lu(matrix.detach())
    with torch.no_grad():
        linear.factors.copy_(lower.tril(-1) + upper.triu(1))
        linear.log_scale.copy_(upper.diagonal().abs().log())
        linear.sign.copy_(upper.diagonal().sign())
        linear.order.copy_(permutation.argmax(1))
    return linear


@checked
class PositiveDefinite(Linear):
    """`W = C Cᵀ`, symmetric and positive definite: C is lower triangular, the logarithm of its diagonal is trained.

    Args:
        matrix: Initial W, `(n, n)`.

    Raises:
        ValueError: `matrix` is not symmetric and positive definite.

    Example:
        >>> import torch
        >>> PositiveDefinite(torch.diag(torch.tensor([1.0, 4.0]))).log_abs_det().detach()
        tensor(1.3863)
    """

    def __init__(self, matrix: Matrix) -> None:
        super().__init__(len(matrix), bias=False)
        require_square(matrix, self.dim)
        asymmetry, least = (matrix - matrix.mT).abs().max().item(), torch.linalg.eigvalsh(matrix.detach())[0].item()
        if not asymmetry <= 1e-5 * matrix.abs().max().item():
            raise ValueError(f"the matrix must be symmetric, it differs from its transpose by {asymmetry:.3g}")
        if not least > 0:
            raise ValueError(f"the matrix must be positive definite, its least eigenvalue is {least:.3g}")
        factor = torch.linalg.cholesky(matrix.detach())
        self.below = nn.Parameter(factor.tril(-1))
        self.log_scale = nn.Parameter(factor.diagonal().log())

    @property
    def _factor(self) -> Tensor:
        return self.below.tril(-1) + torch.diag(self.log_scale.exp())

    def multiply(self, x: Tensor) -> Tensor:
        return x @ self._factor @ self._factor.mT

    def solve(self, y: Tensor) -> Tensor:
        return torch.cholesky_solve(y.mT, self._factor).mT

    def log_abs_det(self) -> Tensor:
        return 2 * self.log_scale.sum()


def dense(linear: Linear) -> Tensor:
    """The matrix W of a linear layer, `(D, D)`.

    Example:
        >>> dense(LULinear(2)).detach()
        tensor([[1., 0.],
                [0., 1.]])
    """
    parameter = next(linear.parameters())
    return linear.multiply(torch.eye(linear.dim, dtype=parameter.dtype, device=parameter.device)).mT


def require_square(matrix: Tensor, n: int) -> None:
    """Refuse everything but an `(n, n)` matrix of finite numbers."""
    if matrix.shape != (n, n) or not matrix.isfinite().all():
        raise ValueError(f"matrix must be ({n}, {n}) and finite, got shape {tuple(matrix.shape)}")


def require_regular(matrix: Tensor) -> None:
    """Refuse a matrix whose inverse has no correct digit in its dtype."""
    values = torch.linalg.svdvals(matrix.detach())
    if not values[-1] > len(matrix) * torch.finfo(matrix.dtype).eps * values[0]:
        raise ValueError(
            f"the matrix is singular, its singular values go from {values[0].item():.3g} down to "
            f"{values[-1].item():.3g}: the map would have no inverse"
        )
