"""Rows of states: taken out, put back, joined and chosen between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cnf.continuous.solvers.interface import RightHandSide, RowWise, State


def of_rows(rhs: RightHandSide, rows: Tensor) -> RightHandSide:
    """The right-hand side for some rows; a plain function has no data of its own for any."""
    return rhs.of(rows) if isinstance(rhs, RowWise) else rhs


def take(state: State, rows: Tensor) -> State:
    """The state of these rows."""
    return _each(lambda part: part[rows], state)


def put(state: State, rows: Tensor, new: State) -> State:
    """The state with that of these rows replaced."""
    return _each(lambda old, part: old.index_copy(0, rows, part), state, new)


def joined(states: Sequence[State]) -> State:
    """The rows of all states, one after another."""
    return _each(lambda *parts: torch.cat(parts), *states)


def chosen(mask: Tensor, new: State, old: State) -> State:
    """The new state where the mask is true, else the old one; `mask` is `(N,)`."""
    return _each(lambda a, b: torch.where(mask.reshape(-1, *[1] * (a.dim() - 1)), a, b), new, old)


def finite(state: State) -> Tensor:
    """Which rows are finite, path costs left out, `(N,)`."""
    found = state.x.flatten(1).isfinite().all(1)
    for part in state.integrals:
        found = found & part.isfinite()
    return found


def _each(function: Callable[..., Tensor], *states: State) -> State:
    xs, integrals, costs = zip(*states, strict=True)
    return State(
        function(*xs),
        tuple(function(*parts) for parts in zip(*integrals, strict=True)),
        tuple(function(*parts) for parts in zip(*costs, strict=True)),
    )
