"""What a flow says of the density at its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Density(NamedTuple):
    """What a flow returns for data `(*batch, *event)`.

    Attributes:
        log_prob: Log-density in nats, `(*batch)`.
        z: The base point, `(*batch, *event)`, with the event shape of the base.
        costs: Path integrals by name, each `(*batch)`; empty for discrete flows.

    Example:
        >>> import torch, cnf
        >>> log_prob, z, costs = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))(torch.zeros(3, 2))
        >>> log_prob
        tensor([-1.8379, -1.8379, -1.8379])
    """

    log_prob: Tensor
    z: Tensor
    costs: Mapping[str, Tensor]


class Uncertain(NamedTuple):
    """A log-density and its two errors, each `(*batch)`; see `Flow.log_prob_with_error`.

    Attributes:
        value: Log-density in nats; the mean over independent estimates if it is estimated.
        standard_error: The standard error of `value`, `s/√n` over n estimates; 0 if log-determinants are exact.
        solver_error: Size of the error in `value` due to solving the ODE, rounding included; 0 without a CNF.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> flow.log_prob_with_error(torch.zeros(2))
        Uncertain(value=tensor(-1.8379), standard_error=tensor(0.), solver_error=tensor(0.))
    """

    value: Tensor
    standard_error: Tensor
    solver_error: Tensor
