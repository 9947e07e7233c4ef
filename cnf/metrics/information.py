"""Entropies and divergences by Monte Carlo."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from cnf.arguments import Ambient, Count, checked
from cnf.data.energies import Energy
from cnf.data.toys import Toy
from cnf.distributions import BaseDensity
from cnf.flows import Flow, FlowDistribution
from cnf.metrics.estimates import Estimate, mean_and_error
from cnf.metrics.rows import log_prob_of_rows
from cnf.transforms import Compose

Law = Flow | Distribution | BaseDensity | Toy | Energy  # what has samples and a normalised density


@checked
@torch.no_grad()
def kl_divergence(p: Law, q: Law, *, samples: Ambient = 10_000) -> Estimate:
    """`KL(p ‖ q) = E_p[log p(x) − log q(x)]` in nats, by samples of p; infinite where a sample has no density under q.

    With a toy or another known density as p, it is how far a trained flow is from the truth.

    Args:
        p: What is sampled: a flow, a distribution of torch, a base density, a toy or an energy; conditional flows as
            `flow.distribution(context)` with one condition `(C,)`.
        q: What it is compared with, any of these.
        samples: Number of samples.

    Returns:
        The mean and its standard error.

    Raises:
        ValueError: A batch of distributions, a toy without a density, or fewer than 2 samples.

    Example:
        >>> import torch, cnf
        >>> _ = torch.manual_seed(0)
        >>> mean, error = cnf.metrics.kl_divergence(cnf.data.toy("moons"), cnf.StandardNormal(2), samples=500)
        >>> print(f"{mean:.2f} ± {error:.2f} nats")
        1.47 ± 0.07 nats
    """
    p, q = _one_law(p), _one_law(q)
    x, log_prob = _drawn(p, samples)
    return mean_and_error(log_prob - q.log_prob(_as_taken_by(q, x)))


@checked
def kl_to(flow: Flow, rows: Any, log_prob: Tensor, *, batch_size: Count = 2048) -> Estimate:
    """`KL(p ‖ flow) = E_p[log p(x) − log q(x)]` in nats, by rows of p whose exact log-densities are known.

    `kl_divergence` draws the rows itself; with this function several flows are compared on the same rows, whose noise
    is then common to them.

    Args:
        flow: The density q.
        rows: N rows drawn from p.
        log_prob: `(N,)`, their log-densities under p.
        batch_size: Rows evaluated together.

    Returns:
        The mean and its standard error over the rows.

    Raises:
        ValueError: Not one log-density a row.

    Example:
        >>> import torch, cnf
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> kl_to(flow, x, flow.log_prob(x) + 0.5)
        Estimate(mean=0.5, standard_error=0.0)
    """
    ours = log_prob_of_rows(flow, rows, batch_size=batch_size).double()
    if log_prob.shape != ours.shape:
        raise ValueError(
            f"each of the {len(ours)} rows needs its log-density under p, got shape {tuple(log_prob.shape)}"
        )
    return mean_and_error(log_prob.detach().double() - ours)


@checked
@torch.no_grad()
def entropy(p: Law, *, samples: Ambient = 10_000) -> Estimate:
    """`H(p) = −E_p[log p(x)]` in nats, by samples of p.

    Args:
        p: As in `kl_divergence`.
        samples: Number of samples.

    Returns:
        The mean and its standard error.

    Raises:
        ValueError: A batch of distributions, a toy without a density, or fewer than 2 samples.

    Example:
        >>> import torch, cnf
        >>> _ = torch.manual_seed(0)
        >>> estimate = cnf.metrics.entropy(cnf.StandardNormal(2), samples=500)
        >>> abs(estimate.mean - 2.84) < 4 * estimate.standard_error  # exactly log 2πe = 2.84
        True
    """
    return mean_and_error(-_drawn(_one_law(p), samples)[1])


def _one_law(p: Law) -> Distribution | Toy | Energy:
    if isinstance(p, (Toy, Energy)):
        return p
    flow = Flow(Compose([]), p) if isinstance(p, BaseDensity) else p
    distribution = flow.distribution() if isinstance(flow, Flow) else flow
    if distribution.batch_shape:
        raise ValueError(
            f"one distribution is needed, got a batch {tuple(distribution.batch_shape)} of them: take one condition, "
            "flow.distribution(context[i]), or make the batch an event with torch.distributions.Independent"
        )
    return distribution


def _drawn(p: Distribution | Toy | Energy, samples: int) -> tuple[Tensor, Tensor]:
    if isinstance(p, FlowDistribution):
        return p.rsample_and_log_prob((samples,))
    x = p.sample((samples,))
    log_prob: Tensor = p.log_prob(x)
    return x, log_prob


def _as_taken_by(q: Distribution | Toy | Energy, x: Tensor) -> Tensor:
    """Samples in the precision and on the device of a flow; others take what comes."""
    flow = q.flow if isinstance(q, FlowDistribution) else None
    return x.to(flow.base.device, flow.base.dtype) if isinstance(flow, Flow) else x
