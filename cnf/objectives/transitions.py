"""Annealed importance sampling: draws of a flow that are moved towards a target, with weights that stay right."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FAR = 100.0  # scales within one transition, beyond which a path is a failure of its step size

Points = Callable[[Tensor], tuple[Tensor, Tensor]]  # x to log q(x) and α (log p̃(x) − log q(x)), each (N,)


class Moved(NamedTuple):
    """Draws that were moved.

    Attributes:
        x: `(N, *event)`.
        log_weights: Of the target, `(N,)`.
        acceptance: Share of the transitions that were accepted; 1 without any.

    Example:
        >>> import torch
        >>> moved = Moved(torch.zeros(1, 2), torch.zeros(1), torch.tensor(1.0))
    """

    x: Tensor
    log_weights: Tensor
    acceptance: Tensor


def annealed(points: Points, x: Tensor, temperatures: int, step: float, leapfrog: int) -> Moved:
    """Draws of q, moved along `log q + b (log g − log q)`, b = k/(T + 1), with weights for g.

    Args:
        points: `log q` and `log g − log q`.
        x: Draws of q, `(N, *event)`.
        temperatures: T, of transitions; without any, the weights are those of plain importance sampling.
        step: Of the transitions, in standard deviations of the draws.
        leapfrog: Steps of each.

    References:
        Neal 2001, Annealed importance sampling, arXiv physics/9803008.

    Example: From N(0, 1) to N(1, 1), whose mass is the same.
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> def points(x):
        ...     return -x.square().sum(1) / 2, x.sum(1) - 0.5
        >>> moved = annealed(points, torch.randn(1000, 1), temperatures=8, step=0.5, leapfrog=3)
        >>> round(moved.log_weights.exp().mean().item(), 1)
        1.0
    """
    share, log_weights, accepted = 1 / (temperatures + 1), torch.zeros(len(x)).to(x), []
    scale = x.std(0) if temperatures else torch.ones(()).to(x)
    for k in range(1, temperatures + 1):
        log_weights = log_weights + share * points(x)[1]
        x, moved = hamiltonian(lambda at, b=k * share: _mixed(points, at, b), x, step * scale, leapfrog)  # type: ignore[misc]
        accepted.append(moved.to(x).mean())
    rate = torch.stack(accepted).mean() if accepted else torch.ones(())
    return Moved(x, log_weights + share * points(x)[1], rate)


def _mixed(points: Points, x: Tensor, b: float) -> Tensor:
    log_q, gap = points(x)
    return log_q + b * gap


def hamiltonian(
    log_density: Callable[[Tensor], Tensor], x: Tensor, step: Tensor, leapfrog: int
) -> tuple[Tensor, Tensor]:
    """One transition of Hamiltonian Monte Carlo of each row, and which rows moved.

    Args:
        log_density: From `(N, *event)` to `(N,)`, differentiable.
        x: Where the rows are.
        step: Of each dimension, `(*event)`.
        leapfrog: Steps of the path.

    References:
        Neal 2011, MCMC using Hamiltonian dynamics, arXiv 1206.1901.

    Example:
        >>> import torch
        >>> x, moved = hamiltonian(lambda x: -x.square().sum(1) / 2, torch.randn(5, 2), 0.1 * torch.ones(2), 3)
        >>> x.shape, moved.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """
    momentum = start = torch.randn_like(x)
    before, slope = _with_slope(log_density, x)
    at, value = x, before
    lost = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(leapfrog):
        momentum = momentum + step / 2 * slope
        at = at + step * momentum
        away = ~((at - x).abs() < FAR * step * leapfrog).flatten(1).all(1)  # NaN too
        at, lost = _rows(away, x, at), lost | away
        value, slope = _with_slope(log_density, at)
        momentum = momentum + step / 2 * slope
    change = value - before + (start.square() - momentum.square()).flatten(1).sum(1) / 2
    moved = (torch.rand_like(change).log() < change) & ~lost
    return _rows(moved, at, x), moved


def _rows(which: Tensor, these: Tensor, others: Tensor) -> Tensor:
    return torch.where(which.view(-1, *[1] * (these.dim() - 1)), these, others)


def _with_slope(log_density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The log-density and its gradient, 0 where it has none."""
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        value = log_density(points)
        (slope,) = torch.autograd.grad(value.sum(), points)
    return value.detach(), slope.nan_to_num(0.0, 0.0, 0.0)
