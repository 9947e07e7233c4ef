"""The change of volume under a map of a manifold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnf.discrete import log_abs_det
from cnf.manifolds.manifold import Manifold


def volume_ratio(f: Callable[[Tensor], Tensor], x: Tensor, manifold: Manifold) -> Tensor:
    """The factor `|det(T_yᵀ F_x T_x)|` by which `f` changes volume on the manifold, at each point, by autodiff.

    `T_x` is an orthonormal basis of the tangent space at x, `T_y` one at `y = f(x)`, and `F_x` the Jacobian of `f`,
    of which only the products with `T_x` are computed, in forward mode. Densities change by `p_y(y) = p_x(x)/ratio`.
    The result is differentiable in x and in the parameters of `f`.

    Args:
        f: A map of the manifold to itself, `(N, n)` to `(N, n)`, smooth near the manifold. Each row of its result
            depends on that row of x only.
        x: Points, `(N, n)`.
        manifold: The manifold of the points.

    Returns:
        The ratio, `(N,)`, not its logarithm.

    Raises:
        ValueError: `x` is not `(N, n)`, or points or their images are not on the manifold.

    Example:
        >>> import torch
        >>> from cnf.manifolds import Sphere
        >>> points = Sphere(3).sample(2, dtype=torch.float64)
        >>> volume_ratio(lambda x: -x, points, Sphere(3)).round(decimals=12).tolist()
        [1.0, 1.0]
    """
    manifold.check(x)
    if x.dim() != 2:
        raise ValueError(f"points must be (N, {manifold.ambient_dimension}), got {tuple(x.shape)}")

    place = x.contiguous()  # forward mode takes no expanded tensors

    def push(tangent: Tensor) -> tuple[Tensor, ...]:
        return torch.func.jvp(f, (place,), (tangent,))

    directions = manifold.tangent(x).movedim(-1, 0)
    y, moved = torch.func.vmap(push, out_dims=(None, 0))(directions)  # type: ignore[arg-type]
    manifold.check(y)
    return manifold.spanned(y, moved.movedim(0, -1))


def size_of_det(matrix: Tensor) -> Tensor:
    """`|det|` of square matrices whose rows and columns may differ in scale by many orders."""
    columns = _lengths(matrix, -2)
    rows = _lengths(matrix / columns, -1)
    logs = columns.log().sum((-2, -1)) + rows.log().sum((-2, -1))
    return (log_abs_det(matrix / columns / rows) + logs).exp()


def _lengths(matrix: Tensor, dim: int) -> Tensor:
    return matrix.detach().norm(dim=dim, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
