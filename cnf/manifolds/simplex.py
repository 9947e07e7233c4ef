"""Flows on the simplex in closed form: affine maps of the logarithms, `q = softmax(A log p + c)`.

These maps form a group: several in a row are one of them, see `compose`. All log-determinants are with respect to the
Riemannian volume of the simplex, which has dimension n − 1. Everything is computed with logarithms, so that float32
suffices for tiny probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Fraction, Matrix, Numbers, Reals, Rule, Size, SizeOrZero, checked
from cnf.discrete import Linear
from cnf.distributions.interface import require_ambient
from cnf.distributions.simplex import as_point, log_interior, log_ratio_basis, require_simplex
from cnf.inputs import require_vectors
from cnf.manifolds.matrices import PositiveDefinite, dense, invertible, require_square
from cnf.transforms import Mapped, Transform

Points = Annotated[Numbers, Rule("with elements along a last axis", lambda p: p.dim() > 0 and p.shape[-1] > 0)]


@checked
def smooth(p: Points, epsilon: Fraction = 1e-6) -> Tensor:
    """Points without zeros: `(1 − ε) p + ε/n`.

    Args:
        p: Points on the simplex, `(…, n)`.
        epsilon: ε in (0, 1), the share of the uniform distribution.

    Raises:
        ValueError: Points off the simplex.

    Example:
        >>> import torch
        >>> smooth(torch.tensor([1.0, 0.0]), 0.01)
        tensor([0.9950, 0.0050])
    """
    require_simplex(p, p.shape[-1])
    return (1 - epsilon) * p + epsilon / p.shape[-1]


@checked
class LogAffine(Transform, ABC):
    """`encode`: `q = softmax(A log p + c)` with `A1 = λ1`, `log_det = log(|det A|/|λ|) + Σ (log qᵢ − log pᵢ)`.

    `decode`: `p = softmax(A⁻¹(log q − c))`. The members of the family are `Calibration` and `GeneralizedCalibration`.

    Args:
        n: Length of the vectors.
        shift: Initial c, `(n,)`, or None for zeros.
        bias: Whether there is a c.
        context_dim: Length of the context; c is affine in it.
    """

    domain = codomain = constraints.unit_interval

    def __init__(self, n: Size, shift: Numbers | None, *, bias: bool, context_dim: SizeOrZero) -> None:
        super().__init__()
        self.n, self.context_dim = require_ambient(n, "a simplex"), context_dim
        if shift is not None and (shift.shape != (n,) or not shift.isfinite().all()):
            raise ValueError(f"shift must be a finite vector ({n},), got shape {tuple(shift.shape)}")
        if shift is not None and not bias:
            raise ValueError("without bias there is no shift: leave one of the two out")
        start = torch.zeros(n) if shift is None else shift.detach().clone()
        self.constant = nn.Parameter(start) if bias else None
        self.slope = nn.Parameter(start.new_zeros(n, context_dim)) if bias and context_dim else None

    def extra_repr(self) -> str:
        return f"n={self.n}"

    @property
    @abstractmethod
    def matrix(self) -> Tensor:
        """The matrix A without a context, `(n, n)`; of those that make the same map, the one with `1ᵀA = λ1ᵀ`."""

    @property
    def shift(self) -> Tensor:
        """The vector c without a context, `(n,)`."""
        return self.matrix.new_zeros(self.n) if self.constant is None else self.constant

    @abstractmethod
    def _multiply(self, logs: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """`A · logs` or `A⁻¹ · logs`, up to multiples of 1, and `log(|det A|/|λ|)` of the matrix used."""

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, self.n)
        before = log_interior(x, self.n)
        after, log_scale = self._log_image(before, context)
        return Mapped(as_point(after), log_scale + (after - before).sum(1))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, self.n)
        before = log_interior(z, self.n)
        shift = self._shift(context)
        moved, log_scale = self._multiply(before if shift is None else before - shift, context, inverse=True)
        after = moved.log_softmax(1)
        return Mapped(as_point(after), log_scale + (after - before).sum(1))

    def log_posteriors(self, p: Tensor, context: Tensor | None = None) -> Tensor:
        """`log q` of `q = softmax(A log p + c)`, `(…, n)` to `(…, n)`; rows `(N, n)` where there is a context."""
        return self._log_image(log_interior(p, self.n), context)[0]

    def calibrate(self, p: Tensor, context: Tensor | None = None) -> Tensor:
        """`q = softmax(A log p + c)`, the value of `encode`: posteriors `(…, n)` to posteriors."""
        return as_point(self.log_posteriors(p, context))

    def _log_image(self, before: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """`log q` and `log(|det A|/|λ|)`."""
        moved, log_scale = self._multiply(before, context, inverse=False)
        shift = self._shift(context)
        return (moved if shift is None else moved + shift).log_softmax(-1), log_scale

    def _shift(self, context: Tensor | None) -> Tensor | None:
        if self.constant is None or self.slope is None or context is None:
            return self.constant
        return self.constant + context @ self.slope.mT


@checked
class Calibration(LogAffine):
    """`encode`: `q = softmax(a⁻¹ log p + c)`, `log_det = (1 − n) log |a| + Σ (log qᵢ − log pᵢ)`.

    `decode`: `p = softmax(a (log q − c))`. It starts at the identity. Temperature scaling of a classifier's posteriors
    is the case `c = 0`: `Calibration(n, bias=False)`.

    Args:
        n: Length of the vectors.
        temperature: Initial a, not 0. It keeps its sign; a negative one reverses the order of the elements.
        shift: Initial c, `(n,)`; zeros by default.
        bias: Whether there is a c.
        context_dim: Length of the context; log |a| and c are affine in it. 0 for none.

    Raises:
        ValueError: n is below 2, the temperature is 0, or the shift has another shape.

    References:
        Guo et al. 2017, arXiv 1706.04599, for temperature scaling.

    Example:
        >>> import torch
        >>> Calibration(3, temperature=2.0).calibrate(torch.tensor([0.7, 0.2, 0.1])).detach()
        tensor([0.5229, 0.2795, 0.1976])
    """

    sign: Tensor

    def __init__(
        self,
        n: Size,
        *,
        temperature: Reals = 1.0,
        shift: Numbers | None = None,
        bias: bool = True,
        context_dim: SizeOrZero = 0,
    ) -> None:
        super().__init__(n, shift, bias=bias, context_dim=context_dim)
        start = torch.as_tensor(temperature, dtype=None if shift is None else shift.dtype).detach()
        if start.dim() != 0 or start == 0 or not start.isfinite():
            raise ValueError(f"temperature must be a finite number other than 0, got {temperature}")
        self.log_temperature = nn.Parameter(start.abs().log())
        self.register_buffer("sign", start.sign())
        self.log_slope = nn.Parameter(torch.zeros(context_dim).to(start)) if context_dim else None

    @property
    def temperature(self) -> Tensor:
        """The temperature a without a context, a scalar."""
        return self.sign * self.log_temperature.exp()

    @property
    def matrix(self) -> Tensor:
        return torch.eye(self.n, dtype=self.sign.dtype, device=self.sign.device) / self.temperature

    def _multiply(self, logs: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        log_a: Tensor = self.log_temperature
        if self.log_slope is not None and context is not None:
            log_a = log_a + context @ self.log_slope
        log_factor = log_a if inverse else -log_a
        factor = self.sign * log_factor.exp()
        return (factor.unsqueeze(-1) if factor.dim() else factor) * logs, (self.n - 1) * log_factor


@checked
class GeneralizedCalibration(LogAffine):
    """`encode`: `q = softmax(A log p + c)` with `A1 = λ1`, `log_det = log(|det A|/|λ|) + Σ (log qᵢ − log pᵢ)`.

    `decode`: the same with `A⁻¹` and `−A⁻¹c`. It starts at the identity.

    The constraint `A1 = λ1` is built in: `A = 11ᵀ/n + T S Tᵀ`, where T is an orthonormal basis of the vectors with sum
    0 and S is any invertible matrix of size n − 1. Softmax does not depend on λ, nor on what A adds to all logits
    equally. So λ = 1 and `1ᵀA = 1ᵀ` without loss, and `|det A|/|λ| = |det S|`.

    Args:
        n: Length of the vectors.
        positive: Whether A is kept symmetric and positive definite.
        matrix: Initial A, `(n, n)`, invertible with `A1 = λ1`; the identity by default.
        shift: Initial c, `(n,)`; zeros by default.
        bias: Whether there is a c.

    Raises:
        ValueError: n is below 2, a shape is wrong, the rows of `matrix` have different sums, or it is singular. With
            `positive`, also a matrix that is not symmetric and positive definite.

    Example:
        >>> import torch
        >>> matrix = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 2.0]])
        >>> layer = GeneralizedCalibration(3, matrix=matrix)
        >>> x = torch.tensor([[0.7, 0.2, 0.1]])
        >>> layer.encode(x).value.detach()
        tensor([[0.9581, 0.0391, 0.0028]])
    """

    def __init__(
        self,
        n: Size,
        *,
        positive: bool = False,
        matrix: Matrix | None = None,
        shift: Numbers | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(n, shift, bias=bias, context_dim=0)
        matrix = torch.eye(n, dtype=None if shift is None else shift.dtype) if matrix is None else matrix.detach()
        require_square(matrix, n)
        _require_equal_sums(matrix)
        basis = log_ratio_basis(n).to(matrix.device)
        core = (basis.mT @ matrix.double() @ basis).to(matrix)
        self.core: Linear = PositiveDefinite(core) if positive else invertible(core)

    @property
    def matrix(self) -> Tensor:
        core = dense(self.core)
        basis = log_ratio_basis(self.n).to(core)
        return 1 / self.n + basis @ core @ basis.mT

    def _multiply(self, logs: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        basis = log_ratio_basis(self.n).to(logs)  # made anew, so that its digits are those of the data
        ratios = logs @ basis
        moved = self.core.solve(ratios) if inverse else self.core.multiply(ratios)
        log_scale = self.core.log_abs_det()
        return moved @ basis.mT, -log_scale if inverse else log_scale


def _require_equal_sums(matrix: Tensor) -> None:
    sums = matrix.sum(1)
    mean, spread = sums.mean().item(), (sums.max() - sums.min()).item()
    if not spread <= 1e-4 * max(abs(mean), matrix.abs().max().item()):
        raise ValueError(f"all rows of the matrix must have the same sum λ (A1 = λ1), theirs differ by {spread:.3g}")
    if not abs(mean) > 1e-6 * matrix.abs().max().item():
        raise ValueError("the rows of the matrix have sum 0, so it is singular: add a multiple of the matrix of ones")


@checked
@torch.no_grad()
def compose(*calibrations: LogAffine) -> Calibration | GeneralizedCalibration:
    """The composition of several calibrations as one new calibration; the first one is applied first.

    `(A₂, c₂) ∘ (A₁, c₁) = (A₂A₁, A₂c₁ + c₂)`; for temperatures, `(a₂, c₂) ∘ (a₁, c₁) = (a₁a₂, c₁/a₂ + c₂)`.

    Args:
        calibrations: One or more, all with the same n and without context.

    Raises:
        ValueError: No calibration, or different n.
        TypeError: One of them has a context.

    Example:
        >>> compose(Calibration(3, temperature=2.0), Calibration(3, temperature=3.0)).temperature.detach()
        tensor(6.)
    """
    if len({calibration.n for calibration in calibrations}) != 1:
        sizes = [calibration.n for calibration in calibrations]
        raise ValueError(f"compose takes one or more calibrations of the same n, got n = {sizes}")
    if any(calibration.context_dim for calibration in calibrations):
        raise TypeError("a calibration with a context differs from row to row: chain it with cnf.Compose instead")
    first, n = calibrations[0], calibrations[0].n
    matrix, shift = torch.eye(n).to(first.matrix), first.matrix.new_zeros(n)
    for calibration in calibrations:
        matrix, shift = calibration.matrix @ matrix, calibration.matrix @ shift + calibration.shift
    bias = any(calibration.constant is not None for calibration in calibrations)
    start = shift if bias else None
    if all(isinstance(calibration, Calibration) for calibration in calibrations):
        return Calibration(n, temperature=1 / matrix[0, 0], shift=start, bias=bias)
    return GeneralizedCalibration(n, matrix=matrix, shift=start, bias=bias)
