"""Orthogonal layers as products of Householder reflections."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnf.arguments import Size, checked
from cnf.discrete.linear import Linear


@checked
class Householder(Linear):
    """A product of K reflections, `W = H_1 … H_K` with `H_k = I − 2 v_k v_kᵀ / ‖v_k‖²`: orthogonal, log-determinant 0.

    It is computed at once as `W = I − V S⁻¹ Vᵀ`, with the unit vectors in the columns of V and S the upper triangle of
    `VᵀV`, its diagonal halved. K = D reflections reach every orthogonal matrix of determinant (−1)ᴰ.

    Args:
        dim: D, the size of the axis it acts on.
        reflections: K; D by default.

    References:
        Tomczak and Welling 2016, arXiv 1611.09630; Meng et al. 2020, arXiv 2003.01941;
        Joffrain et al. 2006, Accumulating Householder transformations, revisited.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Householder(3)
        >>> torch.allclose(layer.weight @ layer.weight.T, torch.eye(3), atol=1e-5)
        True
    """

    def __init__(self, dim: Size, *, reflections: Size | None = None) -> None:
        super().__init__(dim, bias=False)
        self.vectors = nn.Parameter(torch.randn(reflections or dim, dim))

    @classmethod
    def of(cls, rotation: Tensor) -> Householder:
        """The layer of a given orthogonal matrix `(D, D)`.

        Where fewer than D reflections are needed, pairs that cancel each other fill them up, so that all can be
        trained.

        Raises:
            ValueError: The matrix is not orthogonal.

        Example:
            >>> import torch, cnf
            >>> rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
            >>> cnf.discrete.Householder.of(rotation).encode(torch.tensor([[1.0, 0.0]])).value.detach().round().abs()
            tensor([[0., 1.]])
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
