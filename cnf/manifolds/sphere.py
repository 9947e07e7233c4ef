"""Flows on the unit sphere of ℝⁿ in closed form: translate a vector or multiply it, then divide it by its length.

All log-determinants are with respect to the Riemannian volume of the sphere. A chain (`Compose`) of translations and
linear maps is more flexible with every member. A chain of linear maps alone is just one linear map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Matrix, Numbers, Size, SizeOrZero, checked
from cnf.discrete import LULinear
from cnf.distributions.interface import require_ambient
from cnf.distributions.sphere import UnitVectors, require_unit
from cnf.inputs import require_vectors
from cnf.manifolds.matrices import dense, invertible, require_square
from cnf.transforms import Mapped, Transform


def margin(dtype: torch.dtype) -> float:
    """How far the length of a translation stays below 1, so that `1 − ‖c‖` is above the rounding error of the dtype."""
    return 1e-9 if dtype == torch.float64 else 1e-5


@checked
class NormalizedTranslation(Transform):
    """`encode`: `y = (x + c)/‖x + c‖` with `‖c‖ < 1`, `log_det = log(1 + xᵀc) − n log ‖x + c‖`.

    `decode`: `x = ℓy − c` with `ℓ = yᵀc + √((yᵀc)² + 1 − ‖c‖²)`. `encode` moves points towards `c/‖c‖`, so on a
    uniform base the density of the data is highest at the opposite point `−c/‖c‖`.

    `c = r/√(1 + ‖r‖²)` is shorter than 1 for every r, which is trained. With a context, r is affine in it. A margin
    for rounding keeps `‖c‖` below `1 − 1e-9` if the shift is given in float64, else below `1 − 1e-5`.

    Args:
        n: Length of the vectors.
        shift: Initial c, `(n,)`; by default a short random vector, so that the members of a chain differ.
        context_dim: Length of the context; 0 for none.

    Raises:
        ValueError: n is below 2, or `shift` has another shape or a length not below 1.

    Example:
        >>> import torch
        >>> layer = NormalizedTranslation(3, shift=torch.tensor([0.0, 0.0, 0.5]))
        >>> z, log_det, _ = layer.encode(torch.tensor([[1.0, 0.0, 0.0]]))
        >>> z.detach(), log_det.detach()
        (tensor([[0.8944, 0.0000, 0.4472]]), tensor([-0.3347]))
    """

    domain = codomain = UnitVectors()
    margin: Tensor

    def __init__(self, n: Size, *, shift: Numbers | None = None, context_dim: SizeOrZero = 0) -> None:
        super().__init__()
        self.n, self.context_dim = require_ambient(n, "a sphere"), context_dim
        shift = 0.1 * torch.randn(n) / n**0.5 if shift is None else shift.detach()
        most = 1 - margin(shift.dtype)
        if shift.shape != (n,) or not shift.norm() < most:
            raise ValueError(
                f"shift must be a vector ({n},) shorter than 1 for the map to have an inverse, up to {most:.9g} in "
                f"{shift.dtype}, got shape {tuple(shift.shape)} and length {shift.norm().item():.9g}"
            )
        length = shift.double().norm()
        self.register_buffer("margin", shift.new_tensor(margin(shift.dtype)))
        self.raw = nn.Parameter(shift / ((most - length) * (most + length)).sqrt().to(shift))
        self.slope = nn.Parameter(shift.new_zeros(n, context_dim)) if context_dim else None

    def extra_repr(self) -> str:
        return f"n={self.n}"

    @property
    def shift(self) -> Tensor:
        """The vector c without a context, `(n,)`."""
        return self._shift_and_gap(None)[0]

    def _shift_and_gap(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The vector c, and `1 − ‖c‖²` without cancellation."""
        raw = self.raw if self.slope is None or context is None else self.raw + context @ self.slope.mT
        squared = raw.square().sum(-1, keepdim=True)
        gap = (1 + self.margin * (2 - self.margin) * squared) / (1 + squared)
        return (1 - self.margin) * raw / (1 + squared).sqrt(), gap

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, self.n)
        require_unit(x, self.n)
        c, gap = self._shift_and_gap(context)
        moved = x + c
        length = moved.norm(dim=1, keepdim=True)
        return Mapped(moved / length, self._log_ratio(length, gap))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, self.n)
        require_unit(z, self.n)
        c, gap = self._shift_and_gap(context)
        along = (z * c).sum(1, keepdim=True)
        ahead, behind = along.where(along > 0, 0.0), along.where(along <= 0, 0.0)
        root = (along.square() + gap).sqrt()
        length = torch.where(along > 0, ahead + root, gap / (root - behind))  # nothing cancels in either
        return Mapped(F.normalize(length * z - c, dim=1), -self._log_ratio(length, gap))

    def _log_ratio(self, length: Tensor, gap: Tensor) -> Tensor:
        """The log-determinant from `ℓ = ‖x + c‖`: all terms of `1 + xᵀc = (ℓ² + 1 − ‖c‖²)/2` are positive."""
        return (((length.square() + gap) / 2).log() - self.n * length.log()).squeeze(1)


@checked
class NormalizedLinear(Transform):
    """`encode`: `y = Mx/‖Mx‖`, `log_det = log |det M| − n log ‖Mx‖`; `decode` is the same with `M⁻¹`.

    M is `P L U` with a diagonal that cannot be 0. Multiples of M make the same map. On a uniform base the density is
    the angular central Gaussian.

    Args:
        n: Length of the vectors.
        matrix: Initial M, `(n, n)`; by default a random rotation, so that the members of a chain differ.

    Raises:
        ValueError: n is below 2, or `matrix` has another shape or is singular.

    References:
        Tyler 1987, Biometrika 74, for the density.

    Example:
        >>> import torch
        >>> layer = NormalizedLinear(2, matrix=torch.diag(torch.tensor([2.0, 1.0])))
        >>> layer.encode(torch.tensor([[0.6, 0.8]])).value.detach()
        tensor([[0.8321, 0.5547]])
    """

    domain = codomain = UnitVectors()

    def __init__(self, n: Size, *, matrix: Matrix | None = None) -> None:
        super().__init__()
        self.n = require_ambient(n, "a sphere")
        if matrix is not None:
            require_square(matrix, n)
        self.linear = LULinear(n, rotation=True, bias=False) if matrix is None else invertible(matrix)

    @property
    def matrix(self) -> Tensor:
        """The matrix M, `(n, n)`."""
        return dense(self.linear)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, self.n)
        require_unit(x, self.n)
        return self._normalized(self.linear.multiply(x), self.linear.log_abs_det())

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, self.n)
        require_unit(z, self.n)
        return self._normalized(self.linear.solve(z), -self.linear.log_abs_det())

    def _normalized(self, moved: Tensor, log_abs_det: Tensor) -> Mapped:
        length = moved.norm(dim=1, keepdim=True)
        return Mapped(moved / length, log_abs_det - self.n * length.squeeze(1).log())


@checked
class NormalizedAffine(Transform):
    """`encode`: `y = (Mx + c)/‖Mx + c‖` with `‖M⁻¹c‖ < 1`, `log_det = log(|det M| (1 + xᵀM⁻¹c)/‖Mx + c‖ⁿ)`.

    Because `Mx + c = M(x + M⁻¹c)`, it is computed as a `NormalizedTranslation` by `b = M⁻¹c` followed by a
    `NormalizedLinear`. What is trained are b and M, within the bounds of those two.

    Args:
        n: Length of the vectors.
        matrix: Initial M, see `NormalizedLinear`.
        shift: Initial c, `(n,)`; by default a short random vector.
        context_dim: Length of the context; b, before its length is bounded, is affine in it.

    Raises:
        ValueError: n is below 2, a shape is wrong, `matrix` is singular, or `‖M⁻¹c‖` is not below 1.

    Example:
        >>> import torch, cnf
        >>> from cnf.distributions import SphereUniform
        >>> chain = cnf.Compose([NormalizedAffine(3) for _ in range(4)])
        >>> flow = cnf.Flow(chain, SphereUniform(3))
        >>> flow.sample(5).norm(dim=1).round(decimals=3)
        tensor([1., 1., 1., 1., 1.])
    """

    domain = codomain = UnitVectors()

    def __init__(
        self, n: Size, *, matrix: Matrix | None = None, shift: Numbers | None = None, context_dim: SizeOrZero = 0
    ) -> None:
        super().__init__()
        self.context_dim = context_dim
        self.linear = NormalizedLinear(n, matrix=matrix)
        pulled = None if shift is None else self._pulled(shift.detach())
        self.translation = NormalizedTranslation(n, shift=pulled, context_dim=context_dim)

    @torch.no_grad()
    def _pulled(self, shift: Tensor) -> Tensor:
        """The vector `M⁻¹c`, checked."""
        if shift.shape != (self.linear.n,):
            raise ValueError(f"shift must be a vector ({self.linear.n},), got shape {tuple(shift.shape)}")
        pulled = self.linear.to(shift).linear.solve(shift.unsqueeze(0))[0]
        if not pulled.norm() < 1 - margin(pulled.dtype):
            raise ValueError(
                f"the length of M⁻¹c must be below 1 for the map to have an inverse, it is {pulled.norm().item():.9g}: "
                "give a shorter shift"
            )
        return pulled

    @property
    def matrix(self) -> Tensor:
        """The matrix M, `(n, n)`."""
        return self.linear.matrix

    @property
    def shift(self) -> Tensor:
        """The vector c without a context, `(n,)`."""
        return self.matrix @ self.translation.shift

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        inner = self.translation.encode(x, context)
        outer = self.linear.encode(inner.value)
        return Mapped(outer.value, inner.log_det + outer.log_det)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        outer = self.linear.decode(z)
        inner = self.translation.decode(outer.value, context)
        return Mapped(inner.value, inner.log_det + outer.log_det)
