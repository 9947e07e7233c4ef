"""Two-dimensional toy distributions: FFJORD's ten, with exact densities and entropies where they exist."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor

from cnf.arguments import Finite, checked

ROWS = 512  # points evaluated at once: bounds the (points, nodes) tables, which then also fit a cache


@checked
@dataclass(frozen=True)
class Toy:
    """A distribution on the plane that is easy to sample and whose density is known.

    The constants are those of the authors' code, and every draw is independent: where that code spaces the
    angles of `circles`, `rings` and `moons` equally, they are uniform here, its smooth limit for many points.

    Args:
        name: Its key in `TOYS`.
        sampler: Maps a number of points and a generator to points `(n, 2)` in float64.
        density: Maps points `(N, 2)` to log-densities `(N,)`; `None` where the points lie on a curve.
        entropy: `-E[log p(x)]` in nats, the least mean negative log-likelihood that a model can reach.

    Example:
        >>> moons = toy("moons")
        >>> x = moons.sample(5, generator=torch.Generator().manual_seed(0))
        >>> x.shape, moons.log_prob(x).shape
        (torch.Size([5, 2]), torch.Size([5]))

    References:
        Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, FFJORD, 2019, arXiv:1810.01367.
    """

    event_shape: ClassVar[tuple[int, ...]] = (2,)

    name: str
    sampler: Callable[[int, Generator | None], Tensor]
    density: Callable[[Tensor], Tensor] | None = None
    entropy: Finite | None = None

    def sample(self, n: int, generator: Generator | None = None, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw `n` independent points.

        Args:
            n: Number of points, zero or more.
            generator: The source of every random number; torch's global one if `None`.
            dtype: Type of the result. Numbers are drawn in float64, so a seed means the same points in all.

        Returns:
            Points `(n, 2)`.

        Raises:
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"expected a number of points n >= 0, got {n}")
        return self.sampler(n, generator).to(dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """The exact log-density in nats, in the dtype of `x` and differentiable.

        Args:
            x: Points `(N, 2)`, or any other batch shape before the 2.

        Returns:
            Log-densities `(N,)`, one for each point.

        Raises:
            TypeError: `x` does not hold floating point numbers.
            ValueError: `x` has another shape, or the distribution has no density.
        """
        if self.density is None:
            others = ", ".join(name for name, other in TOYS.items() if other.density is not None)
            raise ValueError(
                f"{self.name!r} has no density, its points lie on a curve: "
                f"compare samples instead, or take one of {others}"
            )
        if not x.is_floating_point():
            raise TypeError(f"expected floating point numbers, got {x.dtype}: convert them with x.float()")
        if x.shape[-1:] != self.event_shape:
            raise ValueError(f"expected points of shape (N, 2), got {tuple(x.shape)}")
        rows = torch.split(x.reshape(-1, 2), ROWS)
        return torch.cat([self.density(points) for points in rows]).reshape(x.shape[:-1])


# Random numbers, in float64 and on the generator's device.


def _device(generator: Generator | None) -> torch.device | None:
    return None if generator is None else generator.device


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=_device(generator))
    return low + (high - low) * unit


def _normal(n: int, generator: Generator | None) -> Tensor:
    return torch.randn(n, 2, generator=generator, dtype=torch.float64, device=_device(generator))


def _choice(options: int, n: int, generator: Generator | None) -> Tensor:
    """Draw one of `0, ..., options - 1` for each of `n` points."""
    return torch.randint(options, (n,), generator=generator, device=_device(generator))


def _sign(n: int, generator: Generator | None) -> Tensor:
    """Draw `+1` or `-1` for each of `n` points, as a column."""
    return 2.0 * _choice(2, n, generator)[:, None] - 1


# Densities of blurred points and curves.


def _polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def _log_gaussian(d: Tensor, std: float) -> Tensor:
    return -0.5 * (d / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))


def _log_blurred_box(d: Tensor, half: float, std: float) -> Tensor:
    """Log-density at `d` of a uniform variable on `[-half, half]` plus Gaussian noise.

    It is `log (Q(near) - Q(far)) - log (2 half)`, where `Q(a) = exp(-a²/2) erfcx(a/√2) / 2` is the Gaussian
    tail beyond an edge of the box. With one exponential out of the bracket, nothing underflows far away.
    """
    near, far = (d.abs() - half) / std, (d.abs() + half) / std
    ratio = torch.exp(0.5 * (near - far) * (near + far))  # of the two exponentials, at most 1
    tails: Tensor = torch.special.erfcx(near / math.sqrt(2)) - ratio * torch.special.erfcx(far / math.sqrt(2))
    return tails.log() - 0.5 * near**2 - math.log(4 * half)


def _log_mixture(x: Tensor, points: Tensor, weights: Tensor, log_kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Log-density `log Σⱼ wⱼ k(x₁ - pⱼ₁) k(x₂ - pⱼ₂)` of weighted points, blurred by the kernel `k`.

    A blurred curve is one of these too: the points are quadrature nodes on it.

    Args:
        x: Where to evaluate, `(N, 2)`.
        points: The centres `p`, `(M, 2)`.
        weights: Their probabilities `w`, `(M,)`.
        log_kernel: The logarithm of `k`, elementwise.

    Returns:
        Log-densities `(N,)`.
    """
    p, log_weights = points.to(x), weights.log().to(x)
    kernels = log_kernel(x[:, :1] - p[:, 0]) + log_kernel(x[:, 1:] - p[:, 1])
    return torch.logsumexp(kernels + log_weights, dim=1)


def _quadrature(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre's rule, with 32 nodes in each panel between two edges.

    The nodes are the eigenvalues of the Jacobi matrix of Legendre's polynomials (Golub and Welsch, 1969).
    """
    k = torch.arange(1, 32, dtype=torch.float64)
    off_diagonal = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(off_diagonal.diag(1) + off_diagonal.diag(-1))
    half, middle = edges.diff()[:, None] / 2, (edges[1:, None] + edges[:-1, None]) / 2
    return (middle + half * nodes).flatten(), (2 * half * vectors[0] ** 2).flatten()


def _edges(start: float, end: float, panels: int) -> Tensor:
    return torch.linspace(start, end, panels + 1, dtype=torch.float64)


# The distributions: each a sampler and, but for the last two, a log-density. ε is standard normal.


def _rings(n: int, generator: Generator | None, *, radii: tuple[float, ...], std: float) -> Tensor:
    """Circles of equal weight: `r (cos φ, sin φ) + std ε` with `φ ~ U(0, 2π)`."""
    angle = _uniform(0, 2 * math.pi, (n,), generator)
    radius = angle.new_tensor(radii)[_choice(len(radii), n, generator)]
    return _polar(radius, angle) + std * _normal(n, generator)


def _rings_log_prob(x: Tensor, *, radii: tuple[float, ...], std: float) -> Tensor:
    """Integrate over the angle: `p(x) = mean_r exp(-(|x|² + r²) / 2std²) I₀(|x| r / std²) / 2π std²`.

    The Bessel function comes scaled, `I₀(a) exp(-a)`, which turns `|x|² + r²` into `(|x| - r)²`.
    """
    distance, r = torch.linalg.vector_norm(x, dim=1, keepdim=True), x.new_tensor(radii)
    log_bessel = torch.special.i0e(distance * r / std**2).log()
    log_ring = log_bessel - 0.5 * ((distance - r) / std) ** 2 - math.log(2 * math.pi * std**2)
    return torch.logsumexp(log_ring, dim=1) - math.log(len(radii))


def _moon(u: Tensor) -> Tensor:
    """The upper moon; the lower is its mirror image in the origin."""
    return 2 * _polar(1.0, u) - u.new_tensor([1.0, 0.5])


def _moons(n: int, generator: Generator | None) -> Tensor:
    """Two half circles: `±(2 (cos u, sin u) - (1, .5)) + (0, .3) + .2ε` with `u ~ U(0, π)`."""
    u = _uniform(0, math.pi, (n,), generator)
    return _sign(n, generator) * _moon(u) + u.new_tensor([0.0, 0.3]) + 0.2 * _normal(n, generator)


def _moons_log_prob(x: Tensor) -> Tensor:
    u, weights = _quadrature(_edges(0, math.pi, 8))
    points = torch.cat([_moon(u), -_moon(u)]) + u.new_tensor([0.0, 0.3])
    return _log_mixture(x, points, weights.repeat(2) / (2 * math.pi), partial(_log_gaussian, std=0.2))


def _swissroll(n: int, generator: Generator | None) -> Tensor:
    """A spiral: `(u (cos u, sin u) + ε) / 5` with `u ~ U(1.5π, 4.5π)`."""
    u = _uniform(1.5 * math.pi, 4.5 * math.pi, (n,), generator)
    return (_polar(u, u) + _normal(n, generator)) / 5


def _swissroll_log_prob(x: Tensor) -> Tensor:
    u, weights = _quadrature(_edges(1.5 * math.pi, 4.5 * math.pi, 12))
    return _log_mixture(x, _polar(u, u) / 5, weights / (3 * math.pi), partial(_log_gaussian, std=0.2))


def _spiral(u: Tensor) -> Tensor:
    """The middle of the first arm, with the mean 1/4 of its offsets; the second arm is its mirror image."""
    return (u[:, None] * torch.stack([-u.cos(), u.sin()], dim=1) + 0.25) / 3


def _spirals(n: int, generator: Generator | None) -> Tensor:
    """Two arms: `±(u (-cos u, sin u) + v) / 3 + .1ε` with `u = 3π √U(0, 1)` and `v ~ U(0, .5)²`."""
    u = 3 * math.pi * _uniform(0, 1, (n,), generator).sqrt()
    offset = _uniform(-0.25, 0.25, (n, 2), generator) / 3
    return _sign(n, generator) * (_spiral(u) + offset) + 0.1 * _normal(n, generator)


def _spirals_log_prob(x: Tensor) -> Tensor:
    u, weights = _quadrature(3 * math.pi * _edges(0, 1, 12) ** 0.6)  # about equal lengths of the arm
    density = 2 * u / (3 * math.pi) ** 2
    kernel = partial(_log_blurred_box, half=0.25 / 3, std=0.1)
    return _log_mixture(x, torch.cat([_spiral(u), -_spiral(u)]), (weights * density).repeat(2) / 2, kernel)


def _gaussian_centres(k: Tensor) -> Tensor:
    return _polar(4 / 1.414, k.double() * (math.pi / 4))


def _gaussians(n: int, generator: Generator | None) -> Tensor:
    """Eight Gaussians on a circle: `(4 (cos kπ/4, sin kπ/4) + .5ε) / 1.414`; the source rounds √2 so."""
    return _gaussian_centres(_choice(8, n, generator)) + 0.5 / 1.414 * _normal(n, generator)


def _gaussians_log_prob(x: Tensor) -> Tensor:
    weights = torch.full((8,), 1 / 8, dtype=torch.float64)
    return _log_mixture(x, _gaussian_centres(torch.arange(8)), weights, partial(_log_gaussian, std=0.5 / 1.414))


def _swirl(a: Tensor) -> Tensor:
    """The pinwheel's angle `α(a) = e^a / 4`, held where no floating point number could tell one turn more."""
    return 0.25 * a.clamp(max=20.0).exp()


def _pinwheel(n: int, generator: Generator | None) -> Tensor:
    """Five bent arms: `2R(-2πk/5 - α(a)) (a, b)` with `R` a rotation, `a ~ N(1, .3²)`, `b ~ N(0, .1²)`."""
    noise, arm = _normal(n, generator), _choice(5, n, generator)
    a, b = 1 + 0.3 * noise[:, 0], 0.1 * noise[:, 1]
    return 2 * _polar(torch.hypot(a, b), torch.atan2(b, a) - arm * (2 * math.pi / 5) - _swirl(a))


def _pinwheel_log_prob(x: Tensor) -> Tensor:
    """Sum over all features `(a, b)` and arms that are mapped to `x`.

    A rotation keeps the radius, so `(a, b) = ρ (cos θ, sin θ)` with `ρ = |x| / 2`, and some arm leads to `x`
    where `g(θ) = θ - α(ρ cos θ) - arg x` is a multiple of `2π/5`. The map's Jacobian determinant is
    `4 (1 + α'(a) b) = 4 g'(θ)`, hence `p(x) = Σ_θ N(a; 1, .3²) N(b; 0, .1²) / (5 · 4 |g'(θ)|)`.

    Each of 256 cells of θ is searched. Multiples of `2π/5` that `g` passes within one cell count alike, an
    approximation that begins where `|α'(a) b| > 50`, more than ten standard deviations out.
    """
    radius, angle = torch.linalg.vector_norm(x, dim=1) / 2, torch.atan2(x[:, 1], x[:, 0])
    rows, cells, theta, level, count = _pinwheel_roots(radius.detach(), angle.detach())
    radius, angle = radius[rows], angle[rows]
    a, b = _polar(radius, theta).unbind(-1)
    # A step of Newton's polishes the root, and carries its derivative with respect to x.
    theta = theta - (theta - _swirl(a) - angle - level) / (1 + _swirl(a) * b)
    a, b = _polar(radius, theta).unbind(-1)
    log_det = (4 * (1 + _swirl(a) * b)).abs().log()
    log_feature = _log_gaussian(a - 1, 0.3) + _log_gaussian(b, 0.1)
    terms = log_feature - log_det + (count / 5).log()
    return torch.logsumexp(x.new_full((len(x), 256), -math.inf).index_put((rows, cells), terms), dim=1)


def _pinwheel_roots(radius: Tensor, angle: Tensor) -> tuple[Tensor, ...]:
    """Find a root of `g(θ) = level` in each cell of θ in which `g` passes a level, a multiple of `2π/5`.

    Returns:
        Row of `x`, cell, θ to within 1e-9, level, and how many levels `g` passes; each `(roots,)`.
    """
    step = 2 * math.pi / 5
    edges = torch.linspace(-math.pi, math.pi, 257).to(radius)
    steps = ((edges - _swirl(radius[:, None] * edges.cos()) - angle[:, None]) / step).floor()
    rows, cells = steps.diff(dim=1).nonzero(as_tuple=True)
    before, after = steps[rows, cells], steps[rows, cells + 1]
    level, rising = torch.maximum(before, after) * step, after > before
    low, high = edges[cells], edges[cells + 1]
    for _ in range(24):
        middle = (low + high) / 2
        above = middle - _swirl(radius[rows] * middle.cos()) - angle[rows] >= level
        low, high = torch.where(above == rising, low, middle), torch.where(above == rising, middle, high)
    return rows, cells, (low + high) / 2, level, (after - before).abs()


def _black_corners() -> Tensor:
    return torch.tensor([(2.0 * i, 2.0 * j) for i in range(-2, 2) for j in range(-2, 2) if (i + j) % 2 == 0])


def _checkerboard(n: int, generator: Generator | None) -> Tensor:
    """Uniform on the eight black squares, of side 2, of a board on `[-4, 4]²`."""
    offset = _uniform(0, 2, (n, 2), generator)
    return _black_corners().to(offset)[_choice(8, n, generator)] + offset


def _checkerboard_log_prob(x: Tensor) -> Tensor:
    offset = x[:, None] - _black_corners().to(x)
    inside = ((offset >= 0) & (offset <= 2)).all(dim=2).any(dim=1)  # closed: rounding puts samples on edges
    return x.new_full((len(x),), -math.log(32)).masked_fill(~inside, -math.inf)


def _line(n: int, generator: Generator | None) -> Tensor:
    """A diagonal: `(u, u)` with `u ~ U(-2.5, 2.5)`."""
    return _uniform(-2.5, 2.5, (n, 1), generator).repeat(1, 2)


def _cos(n: int, generator: Generator | None) -> Tensor:
    """A wave: `(u, 2.5 sin u)` with `u ~ U(-2.5, 2.5)`, whose name is the source's."""
    u = _uniform(-2.5, 2.5, (n, 1), generator)
    return torch.cat([u, 2.5 * u.sin()], dim=1)


@checked
def toy(name: str) -> Toy:
    """Look up a toy distribution.

    Args:
        name: A key of `TOYS`.

    Raises:
        ValueError: The name is unknown; the message lists the known ones.
    """
    if name not in TOYS:
        raise ValueError(f"unknown toy distribution {name!r}: expected one of {', '.join(TOYS)}")
    return TOYS[name]


def _concentric(name: str, radii: tuple[float, ...], std: float, entropy: float) -> Toy:
    sampler, density = partial(_rings, radii=radii, std=std), partial(_rings_log_prob, radii=radii, std=std)
    return Toy(name, sampler, density, entropy)


# Entropies by the trapezoid rule, the same to all digits on grids of step .04 and .02. The mean of -log p over
# 10⁶ draws (3·10⁵ of 2spirals) agrees with each of them within its standard error of .0007 to .0013.
TOYS: dict[str, Toy] = {
    "swissroll": Toy("swissroll", _swissroll, _swissroll_log_prob, 2.669646),
    "circles": _concentric("circles", (3.0, 1.5), 0.24, 3.268136),
    "rings": _concentric("rings", (3.0, 2.25, 1.5, 0.75), 0.08, 2.623183),
    "moons": Toy("moons", _moons, _moons_log_prob, 2.393879),
    "8gaussians": Toy("8gaussians", _gaussians, _gaussians_log_prob, 2.831880),
    "pinwheel": Toy("pinwheel", _pinwheel, _pinwheel_log_prob, 2.317788),
    "2spirals": Toy("2spirals", _spirals, _spirals_log_prob, 2.645450),
    "checkerboard": Toy("checkerboard", _checkerboard, _checkerboard_log_prob, math.log(32)),
    "line": Toy("line", _line),
    "cos": Toy("cos", _cos),
}
