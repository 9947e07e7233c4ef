"""Counts of spikes of a population, with a known distribution."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 60  # spikes in a bin, beyond which the probability is less than 1e-20


class Population:
    """Eight neurons that fire with a common state, each more regularly than a Poisson process.

    `P(n) = Σ_s P(s) Π_i CMP(n_i; λ_si, ν)` with `CMP(n) ∝ λⁿ / (n!)^ν`, of Conway and Maxwell; ν = 1 is Poisson's
    distribution, and ν = 2 has about half of its variance, as a refractory period leaves it.
    """

    def __init__(self, neurons: int = 8, regularity: float = 2.0) -> None:
        gains = torch.tensor([0.3, 1.0, 2.0, 3.0]).double()  # of the states
        rates = torch.linspace(0.8, 2.5, neurons).double()
        n = torch.arange(MOST).double()
        weights = n * regularity * (gains[:, None, None] * rates[:, None]).log() - regularity * torch.lgamma(n + 1)
        self.log_states = torch.tensor([0.4, 0.3, 0.2, 0.1]).double().log()
        self.log_counts = weights.log_softmax(-1)  # (states, neurons, n)

    def sample(self, rows: int) -> Tensor:
        """Counts, `(rows, neurons)`."""
        states = torch.multinomial(self.log_states.exp(), rows, replacement=True)
        tables = self.log_counts.exp()[states]
        return torch.multinomial(tables.flatten(0, 1), 1).reshape(rows, -1).float()

    def log_prob(self, counts: Tensor) -> Tensor:
        """`log P(n)`, `(N,)`."""
        places = counts.long().T  # (neurons, N)
        each = self.log_counts.gather(2, places.expand(len(self.log_states), *places.shape)).sum(1)
        return (self.log_states[:, None] + each).logsumexp(0)
