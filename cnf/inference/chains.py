"""Markov chains for an unnormalised density: Metropolis with a flow's proposals, and NUTS in a flow's coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cnf.arguments import Seed, Size, Whole, checked
from cnf.flows import Flow
from cnf.inference.diagnosis import convergence
from cnf.inference.evidence import LogDensity, checked_values


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws of Markov chains.

    Attributes:
        samples: `(chains, n, *event)`, in the coordinates of the density.
        acceptance: Share of accepted proposals.
        gradients: Gradients of the density that were computed, warm-up included; 0 where none are needed.

    Example:
        >>> import cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> metropolis(flow, lambda x: -x.square().sum(1) / 2, 50).samples.shape[1:]
        torch.Size([50, 2])
    """

    samples: Tensor
    acceptance: float
    gradients: int = 0

    @cached_property
    def _convergence(self) -> tuple[Tensor, Tensor]:
        return convergence(self.samples)

    @property
    def r_hat(self) -> Tensor:
        """Split R̂ of each dimension: above 1.01, the chains have not met."""
        return self._convergence[0]

    @property
    def ess(self) -> Tensor:
        """Bulk effective sample size of each dimension, all chains together."""
        return self._convergence[1]


@checked
@torch.no_grad()
def metropolis(
    flow: Flow, log_density: LogDensity, n: Size = 1000, *, chains: Size = 4, context: Tensor | None = None
) -> Chains:
    """Chains whose proposals are independent draws x' of a flow, accepted with `min(1, w(x') / w(x))`, `w = p̃ / q`.

    They are exact in the limit, whatever the flow; how long they stay at one place tells how good it is.

    Args:
        flow: The proposal q.
        log_density: `log p̃`, from points `(N, *event)` to `(N,)`.
        n: Draws of each chain.
        chains: Number of chains.
        context: A condition `(C,)` of the flow.

    Raises:
        ValueError: The flow's density is an estimate, or `log_density` gives another shape, NaN or +∞.

    References:
        Tierney 1994, Markov chains for exploring posterior distributions.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> metropolis(flow, lambda x: -x.square().sum(1) / 2, 50).acceptance  # the proposal is exact
        1.0
    """
    if not flow.exact:
        raise ValueError("proposals need exact densities: give cnf.reconfigure(flow, divergence=cnf.Exact())")
    proposals, log_q = flow.sample_and_log_prob(chains * (n + 1), context)
    log_weights = (checked_values(log_density, proposals) - log_q).view(n + 1, chains)
    thresholds = torch.rand_like(log_weights).log()
    place, current, places = torch.zeros(chains, dtype=torch.long), log_weights[0], []
    for step in range(1, n + 1):
        accepted = thresholds[step] <= log_weights[step] - current
        place = torch.where(accepted.cpu(), step, place)
        current = torch.where(accepted, log_weights[step], current)
        places.append(place)
    visited = torch.stack(places)  # (n, chains)
    moved = (visited.diff(dim=0, prepend=torch.zeros(1, chains, dtype=torch.long)) > 0).double().mean().item()
    drawn = proposals.view(n + 1, chains, *proposals.shape[1:])
    return Chains(drawn[visited, torch.arange(chains)].transpose(0, 1), moved)


def potential(log_density: LogDensity, flow: Flow) -> Callable[[Tensor], Tensor]:
    """`U(z) = −log p̃(T(z)) − log |det ∂T/∂z|`, T = decode: the density in the coordinates of a flow's base.

    Any sampler that follows gradients moves more easily there, for the closer the flow is to p, the closer is U to that
    of the base.

    Args:
        log_density: `log p̃`, from points `(N, *event)` to `(N,)`.
        flow: Its log-determinants must be exact.

    Raises:
        ValueError: They are estimated.

    References:
        Hoffman et al. 2019, NeuTra, arXiv 1903.03704.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.discrete.Affine(2, scale=3.0), cnf.StandardNormal(2))
        >>> U = potential(lambda x: -x.square().sum(1) / 18, flow)
        >>> (U(torch.ones(1, 2)) - U(torch.zeros(1, 2))).item()  # a standard normal
        1.0
    """
    if not flow.exact:
        raise ValueError("a potential needs exact log-determinants: give cnf.reconfigure(flow, divergence=cnf.Exact())")

    def energy(z: Tensor) -> Tensor:
        x, log_det, _ = flow.transform.decode(z)
        return -log_density(x) - log_det

    return energy


@checked
def nuts(
    log_density: LogDensity,
    flow: Flow,
    n: Size = 1000,
    *,
    warmup: Whole = 500,
    chains: Size = 4,
    seed: Seed = 0,
    progress: bool = True,
) -> Chains:
    """The no-U-turn sampler of Pyro in the coordinates of a flow, its draws brought back to those of the density.

    `cnf.Flow(cnf.Compose([]), cnf.StandardNormal(D))` is the plain sampler.

    Args:
        log_density: `log p̃`, from points `(N, *event)` to `(N,)`, differentiable.
        flow: T.
        n: Draws of each chain.
        warmup: Steps before them, which set step size and masses.
        chains: Number of chains, one after another.
        seed: Of starts, drawn from the base, and of the sampler.
        progress: Whether to show a bar for each chain.

    Raises:
        ImportError: Pyro is not installed.
        ValueError: The flow's log-determinants are estimated.

    References:
        Hoffman and Gelman 2014, NUTS, arXiv 1111.4246; Hoffman et al. 2019, NeuTra, arXiv 1903.03704.

    Example:
        >>> import cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> nuts(flow=flow, log_density=lambda x: -x.square().sum(1) / 2).samples.shape  # doctest: +SKIP
        torch.Size([4, 1000, 2])
    """
    try:
        from pyro.infer import MCMC, NUTS
    except ImportError as error:
        raise ImportError('nuts is the sampler of Pyro: pip install "cnf[inference]"') from error
    energy, gradients = potential(log_density, flow), 0

    def counted(point: dict[str, Tensor]) -> Tensor:
        nonlocal gradients
        gradients += 1
        return energy(point["z"].unsqueeze(0)).squeeze(0)

    drawn: list[Tensor] = []
    accepted: list[float] = []
    for chain in range(chains):
        with torch.random.fork_rng():
            torch.manual_seed(seed * 1_000_003 + chain)
            start = flow.base.sample(1).squeeze(0)
            sampler = MCMC(NUTS(potential_fn=counted), n, warmup, {"z": start}, disable_progbar=not progress)
            sampler.run()
        drawn.append(sampler.get_samples()["z"])
        accepted.append(_acceptance(sampler))
    with torch.no_grad():
        samples = torch.stack([flow.transform.push(z) for z in drawn])
    return Chains(samples, sum(accepted) / chains, gradients)


def _acceptance(sampler: Any) -> float:
    rates = sampler.diagnostics().get("acceptance rate", {"chain 0": float("nan")})
    return float(rates["chain 0"])
