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
    """The logarithm of a mean for each row.

    Attributes:
        value: `(*batch)`.
        standard_error: `(*batch)`, of `value`.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(1))
        >>> importance_log_prob(flow, torch.zeros(1, 1))  # an exact density has no error
        LogMean(value=tensor([-0.9189]), standard_error=tensor([0.]))
    """

    value: Tensor
    standard_error: Tensor


@checked
@torch.no_grad()
def importance_log_prob(flow: Flow, x: Tensor, context: Tensor | None = None, *, samples: Size = 64) -> LogMean:
    """Log-density of a flow with noise (`Augment`, `Dequantize`): `log 1/K Σₖ p(x, eₖ)/q(eₖ)`, `eₖ ~ q`.

    In expectation it is a lower bound of `log p(x)`, which becomes tight as K grows; `flow.log_prob` is the case K = 1.
    The standard error is that of the delta method, `s/(m √K)` with mean m and standard deviation s of the ratios. All
    samples of all rows are in memory together. For exact densities it is `flow.log_prob`, with an error of 0.

    Args:
        flow: The density.
        x: Data `(*batch, *event)`.
        context: As for `flow.log_prob`.
        samples: K, the number of samples of each row.

    Raises:
        ValueError: Fewer than 2 samples, or log-determinants that are estimated: the exponential of their noise
            would make the mean too large.

    References:
        Burda et al. 2016, Importance weighted autoencoders, arXiv 1509.00519.

    Example:
        >>> import torch, cnf
        >>> _ = torch.manual_seed(0)
        >>> flow = cnf.build("augmented_cnf", 1, extra=1, hidden=8)
        >>> value, standard_error = importance_log_prob(flow, torch.zeros(3, 1), samples=10)
        >>> value.shape, bool((standard_error > 0).all())
        (torch.Size([3]), True)
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
