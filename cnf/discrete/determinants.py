"""Log-determinants of matrices, with derivatives of every order in every mode of differentiation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def log_abs_det(matrix: Tensor) -> Tensor:
    """`log |det A|` of square matrices `(…, D, D)`, `(…)`; `d log |det A| = tr A⁻¹ dA`.

    From the second on, the derivatives of `torch.linalg.slogdet` are wrong in forward mode, and so in
    `torch.func.hessian` under `vmap`. Here derivatives of every order are right in every mode.

    Args:
        matrix: A, invertible.

    Example:
        >>> import math, torch, cnf
        >>> cnf.discrete.log_abs_det(torch.diag(torch.tensor([1.0, -math.e])))
        tensor(1.)
    """
    logs: Tensor = _LogAbsDet.apply(matrix)
    return logs


class _LogAbsDet(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        return torch.linalg.slogdet(matrix).logabsdet

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (matrix,) = ctx.saved_tensors
        return gradient[..., None, None] * torch.linalg.inv_ex(matrix).inverse.mT

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        matrix = forward_ad.unpack_dual(ctx.saved_tensors[0]).primal
        with forward_ad._set_fwd_grad_enabled(True):  # torch turns it off here, and a derivative of this one would be 0
            return (torch.linalg.inv_ex(matrix).inverse.mT * tangent).sum((-2, -1))
