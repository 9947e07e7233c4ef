"""Flows on the unit sphere of ℝⁿ in closed form: translate or multiply a vector, then bring it back to length one.

All `log_det`s are with respect to the Riemannian volume of the sphere. Chains of these flows (`Compose`) gain with
every member, those of linear ones alone do not: they collapse to one.
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
    """How far the lengths of translations stay below 1, where a type still tells `1 − ‖c‖` from rounding."""
    return 1e-9 if dtype == torch.float64 else 1e-5


@checked
class NormalizedTranslation(Transform):
    """`encode`: `y = (x + c)/‖x + c‖` with `‖c‖ < 1`, `log_det = log(1 + xᵀc) − n log ‖x + c‖`.

    `decode`: `x = ℓy − c` with `ℓ = yᵀc + √((yᵀc)² + 1 − ‖c‖²)`. In the Riemannian volume of the sphere.
    The map draws points towards `c/‖c‖`; so densities of the data have their mode on the other side.

    The length is held below 1 by `c = r/√(1 + ‖r‖²)`, up to rounding's margin, with r trainable and, where there is a
    context, affine in it. The margin is 1e-9 where the shift was given in float64, else 1e-5.

    Args:
        n: Length of the vectors.
        shift: Where c starts, `(n,)`; a random short vector by default, so that the members of a chain differ.
        context_dim: Length of the context; 0 for an unconditional map.

    Raises:
        ValueError: n below 2, or `shift` of another shape or not shorter than 1.
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

    @property
    def shift(self) -> Tensor:
        """c without a context, `(n,)`."""
        return self._shift_and_gap(None)[0]

    def _shift_and_gap(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """c, and `1 − ‖c‖²` without cancellation."""
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
        """From `ℓ = ‖x + c‖`, for `1 + xᵀc = (ℓ² + 1 − ‖c‖²)/2` has positive terms only."""
        return (((length.square() + gap) / 2).log() - self.n * length.log()).squeeze(1)


@checked
class NormalizedLinear(Transform):
    """`encode`: `y = Mx/‖Mx‖`, `log_det = log |det M| − n log ‖Mx‖`; `decode` is the same with `M⁻¹`.

    In the Riemannian volume of the sphere. M is `P L U` with a diagonal that cannot vanish; a multiple of M is the same
    map. On a uniform base it gives the angular central Gaussian density.

    Args:
        n: Length of the vectors.
        matrix: Where M starts, `(n, n)`; a random rotation by default, so that the members of a chain differ.

    Raises:
        ValueError: n below 2, or `matrix` of another shape or singular.
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
        """M, `(n, n)`."""
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

    In the Riemannian volume of the sphere. As `Mx + c = M(x + M⁻¹c)`, it is a `NormalizedTranslation` by `b = M⁻¹c`
    followed by a `NormalizedLinear`, and so it is computed: b and M are what is trained, each held where it may be.

    Args:
        n: Length of the vectors.
        matrix: Where M starts, see `NormalizedLinear`.
        shift: Where c starts, `(n,)`; a random short vector by default.
        context_dim: Length of the context, in which b is affine before its length is bounded.

    Raises:
        ValueError: n below 2, wrong shapes, `matrix` singular or `‖M⁻¹c‖` not below 1.
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
        """`M⁻¹c`, checked."""
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
        """M, `(n, n)`."""
        return self.linear.matrix

    @property
    def shift(self) -> Tensor:
        """c without a context, `(n,)`."""
        return self.matrix @ self.translation.shift

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        inner = self.translation.encode(x, context)
        outer = self.linear.encode(inner.value)
        return Mapped(outer.value, inner.log_det + outer.log_det)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        outer = self.linear.decode(z)
        inner = self.translation.decode(outer.value, context)
        return Mapped(inner.value, inner.log_det + outer.log_det)
