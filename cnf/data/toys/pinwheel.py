"""The pinwheel: five bent arms, whose density is a sum over the points that the bend maps to one place."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from cnf.data.toys.blurred import log_gaussian, polar
from cnf.data.toys.draws import choice, normal


def _swirl(a: Tensor) -> Tensor:
    """The pinwheel's angle `α(a) = e^a / 4`, held where no floating point number could tell one turn more."""
    return 0.25 * a.clamp(max=20.0).exp()


def pinwheel(n: int, generator: Generator | None) -> Tensor:
    """Five bent arms: `2R(-2πk/5 - α(a)) (a, b)` with `R` a rotation, `a ~ N(1, .3²)`, `b ~ N(0, .1²)`."""
    noise, arm = normal(n, generator), choice(5, n, generator)
    a, b = 1 + 0.3 * noise[:, 0], 0.1 * noise[:, 1]
    return 2 * polar(torch.hypot(a, b), torch.atan2(b, a) - arm * (2 * math.pi / 5) - _swirl(a))


def pinwheel_log_prob(x: Tensor) -> Tensor:
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
    a, b = polar(radius, theta).unbind(-1)
    # A step of Newton's polishes the root, and carries its derivative with respect to x.
    theta = theta - (theta - _swirl(a) - angle - level) / (1 + _swirl(a) * b)
    a, b = polar(radius, theta).unbind(-1)
    log_det = (4 * (1 + _swirl(a) * b)).abs().log()
    log_feature = log_gaussian(a - 1, 0.3) + log_gaussian(b, 0.1)
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
