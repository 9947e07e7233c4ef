"""Densities and samples of many rows with any states of cells, in pieces of bounded memory and repeatable noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cnf.continuous.twins import without_costs
from cnf.discrete import States
from cnf.flows import Flow
from cnf.metrics import importance_log_prob

PIECE = 4096  # rows evaluated together, copies counted


@torch.no_grad()
def log_prob_of_cells(flow: Flow, x: Tensor, context: Tensor | None, *, draws: int, seed: int) -> np.ndarray:
    """`log p(x_u | x_o)`, `(N,)`: exact where no cell has levels, else a lower bound from so many draws.

    Args:
        flow: Whose transform is an `AnyConditional`, or one without a context.
        x: `(N, D)`.
        context: `(N, 2D)` or None.
        draws: Of the noise within levels.
        seed: Of this noise.
    """
    flow, result = without_costs(flow), np.empty(len(x))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for rows in _pieces(context, len(x), 1 if flow.exact else draws):
            some = None if context is None else context[rows]
            if draws > 1:
                log_prob = importance_log_prob(flow, x[rows], some, samples=draws).value
            else:
                log_prob = flow.log_prob(x[rows], some)
            result[rows.numpy()] = log_prob.double().numpy()
    return result


@torch.no_grad()
def sample_cells(flow: Flow, n: int, context: Tensor | None, *, generator: torch.Generator) -> np.ndarray:
    """Rows `(n, D)` with sampled cells where a context `(n, 2D)` has them modelled, NaN where they are absent."""
    z, x = flow.base.draw(n, generator), np.empty((n, *flow.event_shape))
    for rows in _pieces(context, n, 1):
        x[rows.numpy()] = flow.transform.push(z[rows], None if context is None else context[rows]).double().numpy()
    return x


def _pieces(context: Tensor | None, n: int, copies: int) -> tuple[Tensor, ...]:
    """Numbers of rows in pieces, those with the same states of cells together."""
    order = torch.arange(n)
    if context is not None:
        like = context[:, : context.shape[1] // 2]
        states = States.of(context, like)
        order = torch.unique(states.modelled.int() + 2 * states.given.int(), dim=0, return_inverse=True)[1].argsort()
    return order.split(max(1, PIECE // copies))
