"""Densities of flows with noise beside the data, by importance sampling."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cnf.arguments import Size, checked
from cnf.continuous.cnf import CNF
from cnf.discrete import Residual
from cnf.flows import Flow


class LogMean(NamedTuple):
    """The logarithm of a mean for each row, `(*batch)`, and its standard error."""

    value: Tensor
    standard_error: Tensor


@checked
@torch.no_grad()
def importance_log_prob(flow: Flow, x: Tensor, context: Tensor | None = None, *, samples: Size = 64) -> LogMean:
    """`log 1/K Σ_k p(x, e_k)/q(e_k)`, `e_k ~ q`: the density of a flow with noise beside the data, see `Augment`.

    A lower bound of `log p(x)` in expectation, tighter with every sample and tight as K grows; with K = 1 that of
    `flow.log_prob`. The error is that of the logarithm by the delta method, `s/(m √K)` with mean m and standard
    deviation s of the ratios. All samples of all rows are in memory at once. Where the density is exact there is
    nothing to average.

    Args:
        flow: The density.
        x: Data `(*batch, *event)`.
        context: As for `flow.log_prob`.
        samples: K.

    Raises:
        ValueError: Fewer than 2 samples, or log-determinants that are estimated: the exponential of their noise
            would push the mean above the truth.

    References:
        Burda et al. 2016, Importance weighted autoencoders, arXiv 1509.00519.
    """
    if samples < 2:
        raise ValueError(f"a standard error needs at least 2 samples, got {samples}")
    if any(not part.exact for part in flow.modules() if isinstance(part, (CNF, Residual))):
        raise ValueError(
            "importance weights need exact log-determinants: give cnf.reconfigure(flow, divergence=cnf.Exact()), "
            "or with_log_det(flow, ExactLogDet()) for residual layers"
        )
    ratios = flow.log_prob(x.expand(1 if flow.exact else samples, *x.shape), context)
    value = ratios.logsumexp(0) - math.log(len(ratios))
    if flow.exact:
        return LogMean(value, torch.zeros_like(value))
    return LogMean(value, (ratios - value).exp().std(0) / samples**0.5)
