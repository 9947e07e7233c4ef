"""Whether an amortised posterior says what it knows: ranks, coverage of regions, and tests with random points."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from cnf.arguments import Count, Seed, above, checked
from cnf.flows import Flow

Draws = Annotated[Count, above(1)]


class Coverage(NamedTuple):
    """How often regions of a posterior hold the truth.

    Attributes:
        levels: Credible levels, `(L,)`.
        coverage: Share of the pairs whose truth is in the region of that level; the level itself if all is well, less
            for a posterior that is too narrow.
        standard_error: Of the shares.
        ranks: Level of the smallest region that holds the truth, one for each pair, uniform if all is well.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("maf", 1, 1, hidden=(8,))
        >>> coverage(flow, torch.randn(5, 1), torch.randn(5, 1), draws=9, levels=2).ranks.shape
        torch.Size([5])
    """

    levels: Tensor
    coverage: Tensor
    standard_error: Tensor
    ranks: Tensor


@checked
@torch.no_grad()
def sbc_ranks(flow: Flow, parameters: Tensor, data: Tensor, *, draws: Draws = 100) -> Tensor:
    """Simulation-based calibration: how many of the draws of `q(θ | x)` are below the truth, `(N, D)`, 0 to `draws`.

    For pairs θ ~ prior, x ~ simulator, the ranks of the exact posterior are uniform; a posterior that is too narrow has
    too many at both ends.

    Args:
        flow: `q(θ | x)`, events are parameters `(D,)`, contexts are data `(C,)`.
        parameters: θ, `(N, D)`.
        data: x, `(N, C)`.
        draws: Of each posterior.

    Raises:
        ValueError: Shapes that do not fit.

    References:
        Talts et al. 2018, arXiv 1804.06788.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("maf", 1, 1, hidden=(8,))
        >>> sbc_ranks(flow, torch.randn(5, 1), torch.randn(5, 1), draws=9).shape
        torch.Size([5, 1])
    """
    return (_drawn(flow, parameters, data, draws) < parameters).sum(0)


@checked
@torch.no_grad()
def coverage(flow: Flow, parameters: Tensor, data: Tensor, *, draws: Draws = 100, levels: Draws = 20) -> Coverage:
    """How often regions of highest posterior density hold the truth.

    The level of the smallest region that holds θ is the share of draws with a higher density than θ.

    Args:
        flow: `q(θ | x)`, events are parameters `(D,)`, contexts are data `(C,)`.
        parameters: θ, `(N, D)`.
        data: x, `(N, C)`.
        draws: Of each posterior.
        levels: Number L of levels, from 1/L to 1.

    References:
        Hermans et al. 2022, A trust crisis in simulation-based inference, arXiv 2110.06581.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("maf", 1, 1, hidden=(8,))
        >>> coverage(flow, torch.randn(5, 1), torch.randn(5, 1), draws=9, levels=2).levels
        tensor([0.5000, 1.0000])
    """
    drawn = _drawn(flow, parameters, data, draws)
    densities = flow.log_prob(drawn, data.expand(draws, *data.shape))
    return _covered((densities > flow.log_prob(parameters, data)).double().mean(0), levels)


@checked
@torch.no_grad()
def tarp(
    flow: Flow, parameters: Tensor, data: Tensor, *, draws: Draws = 100, levels: Draws = 20, seed: Seed = 0
) -> Coverage:
    """Coverage of balls around random points, which needs no densities and sees what regions of high density miss.

    A region is the ball around a random reference point that holds that share of the draws. The points are uniform in
    the box of the parameters, whose columns are standardised for the distances.

    Args:
        flow: `q(θ | x)`, events are parameters `(D,)`, contexts are data `(C,)`.
        parameters: θ, `(N, D)`.
        data: x, `(N, C)`.
        draws: Of each posterior.
        levels: Number L of levels, from 1/L to 1.
        seed: Of the reference points.

    References:
        Lemos et al. 2023, Sampling-based accuracy testing of posterior estimators, arXiv 2302.03026.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("maf", 1, 1, hidden=(8,))
        >>> tarp(flow, torch.randn(5, 1), torch.randn(5, 1), draws=9, levels=2).coverage[-1]
        tensor(1., dtype=torch.float64)
    """
    drawn = _drawn(flow, parameters, data, draws)
    low, high = parameters.amin(0), parameters.amax(0)
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(parameters.shape, generator=generator, dtype=torch.float64).to(parameters)
    points, scale = low + (high - low) * unit, parameters.std(0)
    nearer = ((drawn - points) / scale).norm(dim=-1) < ((parameters - points) / scale).norm(dim=-1)
    return _covered(nearer.double().mean(0), levels)


def _drawn(flow: Flow, parameters: Tensor, data: Tensor, draws: int) -> Tensor:
    """Draws of the posterior of each pair, `(draws, N, D)`."""
    if parameters.dim() != 2 or data.dim() != 2 or len(parameters) != len(data):
        shapes = f"{tuple(parameters.shape)} and {tuple(data.shape)}"
        raise ValueError(f"expected parameters (N, D) and data (N, C) with a row for each pair, got {shapes}")
    return flow.distribution(data).sample(torch.Size([draws]))


def _covered(ranks: Tensor, levels: int) -> Coverage:
    steps = torch.arange(1, levels + 1, device=ranks.device) / levels
    share = (ranks <= steps.to(ranks).unsqueeze(1)).double().mean(1)
    return Coverage(steps, share, (share * (1 - share) / len(ranks)).sqrt(), ranks)
