"""The right-hand sides of a flow's solves: of points alone, and of points, log-determinants and path costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from cnf.continuous.divergences import Divergence
from cnf.continuous.fields import VectorField
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import RowWise, State
from cnf.continuous.times import as_time
from cnf.row_values import one_a_row


@dataclass(frozen=True)
class Motion(RowWise):
    """The derivative of x alone."""

    field: VectorField
    context: Tensor | None
    prepared: Any

    def __call__(self, t: float | Tensor, x: Tensor) -> State:
        return State(_like(x, self.field, self.field.velocity(as_time(t, x), x, self.context, self.prepared)))

    def of(self, rows: Tensor) -> Motion:
        if self.context is None:
            return self
        context = self.context[rows]
        return Motion(self.field, context, self.field.prepare(context))

    def anew(self, x: Tensor) -> Motion:
        return self

    def takes_times(self, x: Tensor) -> bool:
        return self.field.takes_times(x, self.context)


@dataclass(frozen=True)
class Growth(RowWise):
    """The right-hand side for x, the log-determinant and the path costs, with the random vectors of one solve.

    Args:
        field, context, prepared: As in `VectorField.linearize`.
        divergence: Computes or estimates the trace.
        probe: Its random vectors.
        costs: Regularizers, each with its random vectors.
        direction: 1 forwards in time, −1 backwards, so that costs grow in both.
    """

    field: VectorField
    context: Tensor | None
    prepared: Any
    divergence: Divergence
    probe: Tensor | None
    costs: tuple[tuple[Regularizer, Tensor | None], ...]
    direction: float

    def __call__(self, t: float | Tensor, x: Tensor) -> State:
        at = self.field.at(as_time(t, x), x, self.context, self.prepared)
        costs = tuple(self.direction * one_a_row(part, part(at, noise), len(x)) for part, noise in self.costs)
        trace = one_a_row(self.divergence, self.divergence(at, self.probe), len(x))  # after the costs: shares products
        return State(_like(x, self.field, at.velocity), (trace,), costs)  # last: it comes along

    def of(self, rows: Tensor) -> Growth:
        if self.context is None and self.probe is None and all(noise is None for _, noise in self.costs):
            return self
        context = None if self.context is None else self.context[rows]
        probe = None if self.probe is None else self.probe[:, rows]
        costs = tuple((part, self._noise(noise, probe, rows)) for part, noise in self.costs)
        prepared = self.divergence.prepare(self.field, context, probe)
        return replace(self, context=context, prepared=prepared, probe=probe, costs=costs)

    def anew(self, x: Tensor) -> Growth:
        regularizers = tuple(part for part, _ in self.costs)
        return growth(self.field, self.context, self.divergence, regularizers, self.direction, x)

    def _noise(self, noise: Tensor | None, probe: Tensor | None, rows: Tensor) -> Tensor | None:
        if noise is None or noise is self.probe:
            return None if noise is None else probe  # the same tensor, whose products are known
        return noise[:, rows]

    def takes_times(self, x: Tensor) -> bool:
        return self.field.takes_times(x, self.context)


def growth(
    field: VectorField,
    context: Tensor | None,
    divergence: Divergence,
    regularizers: tuple[Regularizer, ...],
    direction: float,
    x: Tensor,
) -> Growth:
    """The right-hand side of a solve that begins at x, with newly drawn random vectors."""
    probe = divergence.probe(x)
    costs = tuple((part, part.probe(x, probe)) for part in regularizers)
    return Growth(field, context, divergence.prepare(field, context, probe), divergence, probe, costs, direction)


def _like(x: Tensor, field: VectorField, velocity: Tensor) -> Tensor:
    """The velocity, which must have the shape of x: another one would broadcast."""
    if velocity.shape != x.shape:
        raise ValueError(
            f"a field must return the shape of x, {tuple(x.shape)}; "
            f"{type(field).__name__} returned {tuple(velocity.shape)}"
        )
    return velocity
