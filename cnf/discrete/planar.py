"""Planar and radial flows: layers that move along one direction, or towards and away from one point."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Size, SizeOrZero, Vector, checked
from cnf.discrete.implicit import solution
from cnf.discrete.roots import Monotone
from cnf.inputs import require_context, require_vectors
from cnf.transforms import Mapped, Transform

UNIT = math.log(math.e - 1)  # softplus(UNIT) = 1


@checked
class Parameters(nn.Module):
    """A parameter vector that a context may move: `θ + h(context)`, with `h = 0` at the start.

    Args:
        start: θ, `(P,)`.
        context_dim: Length of the context; 0 for none.
        hidden: Hidden units of h; 0 for a linear map.

    Example:
        >>> import torch
        >>> Parameters(torch.zeros(3), context_dim=2, hidden=0)(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, start: Vector, *, context_dim: SizeOrZero, hidden: SizeOrZero) -> None:
        super().__init__()
        self.value = nn.Parameter(start.clone())
        self.hyper: nn.Module | None = None
        if context_dim:
            last = nn.Linear(hidden or context_dim, len(start), bias=False)
            nn.init.zeros_(last.weight)
            self.hyper = nn.Sequential(nn.Linear(context_dim, hidden), nn.Tanh(), last) if hidden else last

    def forward(self, context: Tensor | None) -> Tensor:
        """`(1, P)`, or with a context `(N, P)`."""
        if self.hyper is None:
            return self.value.unsqueeze(0)
        moved: Tensor = self.value + self.hyper(require_context(context, "layer", None))
        return moved


@checked
class Planar(Transform):
    """`x = z + û tanh(wᵀz + b)`, decode in closed form; its `log_det = log(1 + (1 − tanh²) wᵀû)`.

    It is invertible if `wᵀû ≥ −1`, which `û = u + (m(wᵀu) − wᵀu) w / ‖w‖²` with `m(a) = −1 + log(1 + eᵃ)` ensures.
    Encode has no closed form: `a + wᵀû tanh(a + b) = wᵀx` is increasing in `a = wᵀz` and is solved by bracketed Newton
    steps to the precision of the dtype. Its derivatives, of every order, come from the implicit function theorem.
    `Inverse(Planar(...))` has the closed form in encode.

    Args:
        dim: D.
        context_dim: Length of the context, which moves u, w and b.
        hidden: Hidden units of the map from the context; 0 for a linear one.

    Raises:
        ConvergenceError: From encode, if the root is not found (NaN or infinite values); it names the samples.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Planar(2)
        >>> x = torch.ones(3, 2)
        >>> torch.allclose(layer.decode(layer.encode(x).value).value, x, atol=1e-5)
        True
    """

    def __init__(self, dim: Size, *, context_dim: SizeOrZero = 0, hidden: SizeOrZero = 0) -> None:
        super().__init__()
        self.dim, self.context_dim = dim, context_dim
        w = torch.randn(dim) / dim**0.5
        u = UNIT * w / w.dot(w) + 0.01 * torch.randn(dim)  # û = 0 but for the noise: near the identity
        self.parameters_of = Parameters(torch.cat([u, w, torch.zeros(1)]), context_dim=context_dim, hidden=hidden)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        u, w, b, margin = self._constrained(x, context)
        a = solution(Monotone(_beyond, _reach), (x * w).sum(1), b, margin)
        h = torch.tanh(a + b)
        return Mapped(x - u * h.unsqueeze(1), -_slope(h, margin).log())

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        u, w, b, margin = self._constrained(z, context)
        h = torch.tanh((z * w).sum(1) + b)
        return Mapped(z + u * h.unsqueeze(1), _slope(h, margin).log())

    def _constrained(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """û and w `(·, D)`, b and `1 + wᵀû > 0` `(·,)`."""
        require_vectors(x, self.dim)
        u, w, b = self.parameters_of(context).split([self.dim, self.dim, 1], 1)
        inner, square = (w * u).sum(1), w.square().sum(1)
        margin = F.softplus(inner)
        return u + ((margin - 1 - inner) / square).unsqueeze(1) * w, w, b.squeeze(1), margin


@checked
class Radial(Transform):
    """`x = z + β̂ h(r) (z − z₀)`, `h(r) = 1 / (α + r)`, `r = ‖z − z₀‖`; both directions in closed form.

    The `log_det` of decode is `(D − 1) log(1 + β̂h) + log(1 + β̂h + β̂h'r)`; `α > 0` and `β̂ = −α + softplus(β)` make
    it invertible. Encode solves a quadratic equation for r: with `y = ‖x − z₀‖ = r + β̂ r / (α + r)`, `r² + (α + β̂ −
    y) r − α y = 0`.

    Args:
        dim: D.
        context_dim: Length of the context, which moves z₀, α and β.
        hidden: Hidden units of the map from the context; 0 for a linear one.

    References:
        Rezende and Mohamed 2015, arXiv 1505.05770.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Radial(2)
        >>> x = torch.ones(3, 2)
        >>> torch.allclose(layer.decode(layer.encode(x).value).value, x, atol=1e-5)
        True
    """

    def __init__(self, dim: Size, *, context_dim: SizeOrZero = 0, hidden: SizeOrZero = 0) -> None:
        super().__init__()
        self.dim, self.context_dim = dim, context_dim
        start = torch.cat([torch.randn(dim), torch.tensor([UNIT, UNIT]) + 0.01 * torch.randn(2)])  # α ≈ 1, β̂ ≈ 0
        self.parameters_of = Parameters(start, context_dim=context_dim, hidden=hidden)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        centre, raw_alpha, raw_gain = self._raw(x, context)
        alpha, gain = F.softplus(raw_alpha), F.softplus(raw_gain)
        y = _length(x - centre)
        half = (y - gain) / 2
        size = (half.abs() + alpha + 1).detach()  # out of the squares, so that they stay in range
        root = size * ((half / size).square() + (alpha / size) * (y / size)).sqrt()
        share = y / (root - half.clamp(max=0))  # r / α where half < 0, a sum without cancellation
        r = torch.where(half > 0, half + root, alpha * share)
        z = centre + (x - centre) * ((alpha + r) / (gain + r)).unsqueeze(1)
        log_sum = torch.where(
            half > 0, (alpha + half.clamp(min=0) + root).log(), _log_softplus(raw_alpha) + share.log1p()
        )
        part = torch.where(half > 0, r / (alpha + half.clamp(min=0) + root), share / (1 + share))
        return Mapped(z, -self._log_slope(r, log_sum, part, raw_alpha, raw_gain))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        centre, raw_alpha, raw_gain = self._raw(z, context)
        alpha, gain = F.softplus(raw_alpha), F.softplus(raw_gain)
        r = _length(z - centre)
        x = centre + (z - centre) * ((gain + r) / (alpha + r)).unsqueeze(1)
        return Mapped(x, self._log_slope(r, (alpha + r).log(), r / (alpha + r), raw_alpha, raw_gain))

    def _raw(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """z₀ `(·, D)`, and α and `α + β̂` `(·,)` before the softplus that makes them positive."""
        require_vectors(x, self.dim)
        centre, alpha, gain = self.parameters_of(context).split([self.dim, 1, 1], 1)
        return centre, alpha.squeeze(1), gain.squeeze(1)

    def _log_slope(self, r: Tensor, log_sum: Tensor, part: Tensor, raw_alpha: Tensor, raw_gain: Tensor) -> Tensor:
        """The log-determinant of decode, from `log(α + r)` and `t = r / (α + r)`, for any α and r.

        `1 + β̂h = (α + β̂ + r) / (α + r)` and `1 + β̂h + β̂h'r = t (2 − t) + α (α + β̂) / (α + r)²`, sums of positive
        numbers, of which the last may be out of range.
        """
        across = (F.softplus(raw_gain) + r).log() - log_sum
        far = (part * (2 - part)).clamp(min=torch.finfo(part.dtype).tiny).log()
        near = _log_softplus(raw_alpha) + _log_softplus(raw_gain) - 2 * log_sum
        return (self.dim - 1) * across + torch.logaddexp(far, near)


def _length(v: Tensor) -> Tensor:
    """The length of each row, for numbers of any size."""
    size = v.abs().amax(1).clamp(min=1).detach()
    return size * torch.linalg.vector_norm(v / size.unsqueeze(1), dim=1)


def _log_softplus(raw: Tensor) -> Tensor:
    """`log log(1 + eʳ)`, also where `eʳ` is 0 to the dtype."""
    high, low = raw.clamp(min=-15), raw.clamp(max=-15)
    return torch.where(raw > -15, F.softplus(high).log(), low - low.exp() / 2)


def _beyond(a: Tensor, target: Tensor, b: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """How far `a + wᵀû tanh(a + b)` is above its target, and its slope."""
    h = torch.tanh(a + b)
    return a + (margin - 1) * h - target, _slope(h, margin)


def _reach(target: Tensor, b: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Where `a` may be: tanh moves it by no more than `|wᵀû|`."""
    reach = (margin - 1).abs() * (1 + 1e-6) + 1e-6
    return target - reach, target + reach


def _slope(h: Tensor, margin: Tensor) -> Tensor:
    """`1 + (1 − h²) wᵀû`, from `1 + wᵀû`, as a sum of positive numbers."""
    return margin * (1 - h) * (1 + h) + h.square()
