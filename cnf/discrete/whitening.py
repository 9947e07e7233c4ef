"""Whitening: one linear map after which the columns of the data are uncorrelated."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from cnf.arguments import Size, between, checked
from cnf.transforms import Mapped, Transform

SINGULAR = 1e-10  # smallest eigenvalue of a correlation matrix that is not rounding
BLAMED = 0.1  # part in the singular direction from which a column is named
SHOWN = 8  # columns that an error names


@checked
class Whiten(Transform):
    """`z = W (x − μ)` with `W Σ Wᵀ = I` for the mean μ and the covariance Σ of the data; `log_det = log |det W|`.

    `W = C^{−½} diag(σ)^{−1}` with the correlation matrix C and the standard deviations σ: of all such maps the one that
    leaves each standardised column as near as can be to what it was. `initialize` computes it in float64.

    Args:
        dim: Number D of columns.
        shrinkage: s, with which C becomes `(1 − s) C + s I`; None for `min(1, (D / N)²)`, which matters only where
            there are few rows for so many columns.

    Raises:
        ValueError: In `initialize`, a column is constant, or follows from others; the message names them.

    References:
        Kessy et al. 2018, Optimal whitening and decorrelation, arXiv 1512.00809.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 3.9], [3.0, 6.1], [4.0, 8.0]])
        >>> whiten = Whiten(2, shrinkage=0.0)
        >>> whiten.initialize(x)
        >>> z = whiten.encode(x).value
        >>> torch.allclose(z.T @ z / 4, torch.eye(2), atol=1e-3)
        True
    """

    data_dependent = True
    mean: Tensor
    matrix: Tensor
    inverse: Tensor
    log_abs_det: Tensor

    def __init__(self, dim: Size, *, shrinkage: Annotated[float, between(0, 1)] | None = None) -> None:
        super().__init__()
        self.dim, self.shrinkage = dim, shrinkage
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))
        self.register_buffer("inverse", torch.eye(dim))
        self.register_buffer("log_abs_det", torch.zeros(()))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return Mapped((x - self.mean) @ self.matrix.mT, self.log_abs_det.expand(len(x)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return Mapped(z @ self.inverse.mT + self.mean, -self.log_abs_det.expand(len(z)))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take mean and covariance of the rows of `x`."""
        rows = x.double()
        std, mean = torch.std_mean(rows, 0, correction=0)
        if constant := (std == 0).nonzero().flatten().tolist():
            raise ValueError(f"columns {constant[:SHOWN]} are constant, so they cannot be whitened: drop them")
        standard = (rows - mean) / std
        values, vectors = torch.linalg.eigh(standard.mT @ standard / len(rows))
        shrinkage = min(1.0, (self.dim / len(rows)) ** 2) if self.shrinkage is None else self.shrinkage
        values = (1 - shrinkage) * values + shrinkage
        if values[0] < SINGULAR:
            blamed = (vectors[:, 0].abs() > BLAMED).nonzero().flatten().tolist()
            raise ValueError(
                f"columns {blamed[:SHOWN]} follow from each other by a linear equation, so they have no density "
                "together: drop one of them"
            )
        self.mean.copy_(mean)
        self.matrix.copy_(vectors / values.sqrt() @ vectors.mT / std)
        self.inverse.copy_(std.unsqueeze(1) * (vectors * values.sqrt() @ vectors.mT))
        self.log_abs_det.copy_(-0.5 * values.log().sum() - std.log().sum())

    def extra_repr(self) -> str:
        return f"{self.dim}, shrinkage={self.shrinkage}"
