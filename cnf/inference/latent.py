"""Marginal likelihoods of models with latent variables, by importance sampling with their posterior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnf.arguments import Size, checked
from cnf.flows import Flow
from cnf.metrics import LogMean
from cnf.objectives import ELBO

AT_ONCE = 65_536  # pairs of a row and a sample that are in memory together


@checked
@torch.no_grad()
def marginal_log_prob(objective: ELBO, flow: Flow, x: Tensor, *, samples: Size = 500) -> LogMean:
    """`log p(x) ≈ log 1/K Σₖ p(x | zₖ) p(zₖ) / q(zₖ | x)` of a variational autoencoder, for each row.

    In expectation it is a lower bound, which becomes tight as K grows; K = 1 is the ELBO. The standard error is that of
    the delta method.

    Args:
        objective: Holds encoder, decoder and prior.
        flow: The posterior, whose log-determinants must be exact.
        x: Rows `(N, *shape)`.
        samples: K, at least 2.

    Raises:
        ValueError: Fewer than 2 samples, or estimated log-determinants.

    References:
        Burda et al. 2016, Importance weighted autoencoders, arXiv 1509.00519.

    Example:
        >>> import torch, cnf
        >>> from torch.distributions import Independent, Normal
        >>> posterior = cnf.build("iaf", 2, context_dim=3, hidden=8)
        >>> decoder = lambda z: Independent(Normal(z, 1.0), 1)
        >>> objective = cnf.ELBO(torch.nn.Linear(2, 3), decoder, cnf.StandardNormal(2))
        >>> marginal_log_prob(objective, posterior, torch.zeros(4, 2), samples=10).value.shape
        torch.Size([4])
    """
    if samples < 2:
        raise ValueError(f"a standard error needs at least 2 samples, got {samples}")
    if not flow.exact:
        raise ValueError("weights need exact log-determinants: give cnf.reconfigure(flow, divergence=cnf.Exact())")
    pieces = [objective.log_weights(flow, rows, samples) for rows in x.split(max(1, AT_ONCE // samples))]
    log_weights = torch.cat([log_likelihood + log_ratio for log_likelihood, log_ratio in pieces], 1).double()
    value = log_weights.logsumexp(0) - math.log(samples)
    return LogMean(value, (log_weights - value).exp().std(0) / samples**0.5)
