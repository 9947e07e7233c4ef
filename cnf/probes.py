"""Probes: random directions v with `E[v vᵀ] = I`, for estimates of traces such as `vᵀ J v`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from cnf.arguments import one_of


def rademacher(x: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Elements that are 1 or −1, `(k, *x.shape)`.

    Example:
        >>> import torch
        >>> rademacher(torch.zeros(5, 3), 2).square().sum()
        tensor(30.)
    """
    shape = (k, *x.shape)
    return torch.randint(0, 2, shape, generator=generator, device=x.device).to(x.dtype).mul_(2).sub_(1)


def gaussian(x: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal elements, `(k, *x.shape)`.

    Example:
        >>> import torch
        >>> gaussian(torch.zeros(5, 3), 2).shape
        torch.Size([2, 5, 3])
    """
    return torch.randn((k, *x.shape), generator=generator, dtype=x.dtype, device=x.device)


def sphere(x: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Independent vectors, uniform on the sphere of radius `√D`, `(k, *x.shape)`.

    Example:
        >>> import torch
        >>> sphere(torch.zeros(3, 4), 1).norm(dim=2).round(decimals=3)
        tensor([[2., 2., 2.]])
    """
    noise = gaussian(x, k, generator)
    length = noise.flatten(2).norm(dim=2).reshape(k, -1, *[1] * (x.dim() - 1))
    return noise * (x.shape[1:].numel() ** 0.5 / length)


def orthogonal(x: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """`√D` times the first k columns of a random rotation for each row, `(k, *x.shape)`.

    Raises:
        ValueError: k is above the number of dimensions D.

    References:
        Mezzadri 2007, arXiv math-ph/0609050: signs from the diagonal of R make the rotation uniform.

    Example:
        >>> import torch
        >>> first, second = orthogonal(torch.zeros(3, 4), 2)
        >>> (first * second).sum(1).abs().max() < 1e-5
        tensor(True)
    """
    dim = x.shape[1:].numel()
    if k > dim:
        raise ValueError(f"orthogonal noise in {dim} dimensions takes at most {dim} probes, got {k}")
    if k == 1:
        return sphere(x, k, generator)
    q, r = torch.linalg.qr(gaussian(x, k, generator).flatten(2).permute(1, 2, 0))
    columns = q * (r.diagonal(dim1=1, dim2=2).sign() * dim**0.5).unsqueeze(1)
    return columns.permute(2, 0, 1).reshape(k, *x.shape)


Draw = Callable[[Tensor, int, "torch.Generator | None"], Tensor]
NOISE: dict[str, Draw] = {
    "rademacher": rademacher,
    "gaussian": gaussian,
    "sphere": sphere,
    "orthogonal": orthogonal,
}
Noise = Annotated[str, one_of(NOISE)]
