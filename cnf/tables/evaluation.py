"""Densities and samples of many rows with any states of cells, in pieces of bounded memory and repeatable noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cnf.continuous.twins import without_costs
from cnf.discrete import AnyConditional, MixedMarginals, States
from cnf.flows import Flow
from cnf.metrics import importance_log_prob
from cnf.tables.coding import Coded

PIECE = 4096  # rows evaluated together, copies counted
LARGEST = 8.0  # normal scores beyond which there is nothing
SMALLEST = 1e-12  # probability of a level that a solve still tells from 0


def log_prob_given(flow: Flow, coded: Coded, given: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """Log-probabilities of rows in the units of their table, `(N,)`: of the cells present that are not `given`, `(D,)`.

    That of one cell alone is exact. Of several, it is exact if none of the columns has levels or atoms, else a lower
    bound from so many draws. Rows that are impossible have −∞.
    """
    context, free = coded.context(given), np.flatnonzero(~given)
    if len(free) == 1:
        values = log_prob_of_one(flow, coded.x, context, int(free[0]), seed=seed)
    else:
        values = log_prob_of_cells(flow, coded.x, context, draws=draws, seed=seed)
    return np.where(coded.impossible, -np.inf, values + (coded.log_slope * ~given).sum(1))


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
def log_prob_of_one(flow: Flow, x: Tensor, context: Tensor, place: int, *, seed: int) -> np.ndarray:
    """`log p(x_j | x_o)` where one cell of each row is modelled, that of column j; exact, also of levels.

    Args:
        flow: Whose transform is an `AnyConditional`.
        x: `(N, D)`.
        context: `(N, 2D)`.
        place: j.
        seed: Of noise that does not matter.
    """
    log_prob = log_prob_of_cells(flow, x, context, draws=1, seed=seed)
    low, high = (end[:, place] for end in marginals_of(flow).intervals(x))
    jumps = ((high > low) & States.of(context, x).modelled[:, place]).nonzero().flatten()
    if len(jumps):
        ends = [share_below(flow, end[jumps], context[jumps], place) for end in (low, high)]
        log_prob[jumps.numpy()] = np.log(np.maximum(ends[1] - ends[0], SMALLEST))
    return log_prob


@torch.no_grad()
def share_below(flow: Flow, score: Tensor, context: Tensor, place: int) -> np.ndarray:
    """`P(z_j ≤ score | x_o)`, `(N,)`, where the cell of column j alone is modelled."""
    transform, shares = any_conditional(flow), np.empty(len(score))
    cells = torch.zeros(len(score), context.shape[1] // 2)
    cells[:, place] = score.clamp(-LARGEST, LARGEST)
    for rows in _pieces(context, len(score), 1):
        base = transform.base_of_scores(cells[rows], context[rows])[:, place]
        shares[rows.numpy()] = torch.special.ndtr(base.double()).numpy()
    return np.where(score.numpy() <= -LARGEST, 0.0, np.where(score.numpy() >= LARGEST, 1.0, shares))


def any_conditional(flow: Flow) -> AnyConditional:
    """The transform of a flow of tables."""
    assert isinstance(flow.transform, AnyConditional)
    return flow.transform


def marginals_of(flow: Flow) -> MixedMarginals:
    """The marginals of a flow of tables."""
    return any_conditional(flow).marginals


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
