"""The continuous normalizing flow: a field, a divergence, regularizers and a solver as one transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cnf.arguments import checked
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import VectorField, as_field
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import RandomEnd, RightHandSide, RowWise, RungeKutta, Solution, Solver, State
from cnf.transforms import ContinuousPart, Mapped, Transform
from cnf.twin import parts_of, twin


@checked
class CNF(Transform):
    """`dx/dt = f(t, x)`, `d log_det/dt = tr ∂f/∂x`: base at t = 0, data at t = 1.

    `decode` integrates from 0 to 1, `encode` from 1 to 0. Regularizers are integrated along the path and returned as
    costs; a weight in the objective makes them count.

    Args:
        field: A `VectorField`, or any `nn.Module` with `(t, x, context)`.
        divergence: How the trace is found.
        regularizers: Path costs by name.
        solver: How the equation is integrated.

    References:
        Chen et al. 2018, arXiv 1806.07366; Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.
    """

    continuous = True

    def __init__(
        self,
        field: nn.Module,
        divergence: Divergence = Exact(),
        regularizers: Mapping[str, Regularizer] = {},
        solver: Solver = RungeKutta(),
    ) -> None:
        super().__init__()
        self.field = as_field(field)
        self.divergence = divergence
        self.regularizers = dict(regularizers)
        self.solver = solver
        self.context_dim = self.field.context_dim

    @property
    def exact(self) -> bool:
        return self.divergence.exact and not isinstance(self.solver, RandomEnd)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self._mapped(self.solve(x, 1.0, 0.0, context))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self._mapped(self.solve(z, 0.0, 1.0, context))

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.move(z, 0.0, 1.0, context).state.x

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        states, before = [], 0.0
        for time in times.tolist():
            z, before = self.move(z, before, time, context).state.x, time
            states.append(z)
        return torch.stack(states)

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        return ContinuousPart(self.field, z, x, context)

    def move(self, x: Tensor, start: float, end: float, context: Tensor | None = None) -> Solution:
        """Integrate `x` alone, without log-determinant and costs."""
        rhs = Motion(self.field, context, self.field.prepare(context))
        return self.solver(rhs, State(x), start, end, self._differentiable(context))

    def solve(self, x: Tensor, start: float, end: float, context: Tensor | None = None) -> Solution:
        """Integrate `x`, its log-determinant and the path costs.

        Args:
            x: `(N, *event)`.
            start: Time of x.
            end: Time to go to.
            context: `(N, C)` or None.

        Returns:
            The solution; `integrals` of its state are `(log_det,)`, `costs` those of the regularizers in their order.

        Raises:
            SolverError: The end cannot be reached within the tolerance.
        """
        direction = 1.0 if end > start else -1.0

        def new_rhs() -> RightHandSide:
            probe = self.divergence.probe(x)
            parts = tuple((part, part.probe(x, probe)) for part in self.regularizers.values())
            prepared = self.divergence.prepare(self.field, context, probe)
            return Growth(self.field, context, prepared, self.divergence, probe, parts, direction)

        zero = x.new_zeros(len(x))
        state, parameters = State(x, (zero,), tuple(zero for _ in self.regularizers)), self._differentiable(context)
        if self.solver.redraw:
            return self.solver.stepwise(new_rhs, state, start, end, parameters)
        return self.solver(new_rhs(), state, start, end, parameters)

    def _mapped(self, solution: Solution) -> Mapped:
        x, (log_det,), costs = solution.state
        return Mapped(x, log_det, dict(zip(self.regularizers, costs, strict=True)))

    def _differentiable(self, context: Tensor | None) -> tuple[Tensor, ...]:
        tensors = (*self.field.parameters(), *([] if context is None else [context]))
        return tuple(tensor for tensor in tensors if tensor.requires_grad)


@dataclass(frozen=True)
class Motion(RowWise):
    """The derivative of x alone."""

    field: VectorField
    context: Tensor | None
    prepared: Any

    def __call__(self, t: float | Tensor, x: Tensor) -> State:
        return State(self.field.velocity(as_time(t, x), x, self.context, self.prepared))

    def of(self, rows: Tensor) -> Motion:
        if self.context is None:
            return self
        context = self.context[rows]
        return Motion(self.field, context, self.field.prepare(context))

    def takes_times(self, x: Tensor) -> bool:
        return self.field.takes_times(x, self.context)


@dataclass(frozen=True)
class Growth(RowWise):
    """The derivatives of x, the log-determinant and the path costs, each with the noise of its solve.

    Args:
        field, context, prepared: As in `VectorField.linearize`.
        divergence: How the trace is found.
        probe: Its noise.
        costs: Regularizers with their noise.
        direction: 1 forwards in time, −1 backwards: costs grow in both.
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
        costs = tuple(self.direction * part(at, noise) for part, noise in self.costs)  # first: products are shared
        trace = self.divergence(at, self.probe)  # before the velocity, which comes along
        return State(at.velocity, (trace,), costs)

    def of(self, rows: Tensor) -> Growth:
        if self.context is None and self.probe is None and all(noise is None for _, noise in self.costs):
            return self
        context = None if self.context is None else self.context[rows]
        probe = None if self.probe is None else self.probe[:, rows]
        costs = tuple((part, self._noise(noise, probe, rows)) for part, noise in self.costs)
        prepared = self.divergence.prepare(self.field, context, probe)
        return replace(self, context=context, prepared=prepared, probe=probe, costs=costs)

    def _noise(self, noise: Tensor | None, probe: Tensor | None, rows: Tensor) -> Tensor | None:
        if noise is None or noise is self.probe:
            return None if noise is None else probe  # the same tensor, whose products are known
        return noise[:, rows]

    def takes_times(self, x: Tensor) -> bool:
        return self.field.takes_times(x, self.context)


def as_time(t: float | Tensor, x: Tensor) -> Tensor:
    """A time, or one of each row, as a tensor of the dtype and device of x."""
    return t.to(x) if isinstance(t, Tensor) else x.new_full((), t)


def as_times(times: Tensor | Sequence[float], x: Tensor) -> Tensor:
    """Times along a path as a tensor of the dtype and device of x.

    Raises:
        ValueError: No times, times outside [0, 1] or not increasing.
    """
    times = torch.as_tensor(times, dtype=x.dtype, device=x.device)
    if times.dim() != 1 or not times.numel() or not ((times >= 0) & (times <= 1)).all() or (times.diff() < 0).any():
        raise ValueError(f"times must be an increasing sequence within [0, 1], got {times.tolist()}")
    return times


Module = TypeVar("Module", bound=nn.Module)


@checked
def reconfigure(
    flow: Module,
    *,
    divergence: Divergence | None = None,
    solver: Solver | None = None,
    regularizers: Mapping[str, Regularizer] | None = None,
) -> Module:
    """A copy that shares all parameters and buffers but has other settings in all of its CNFs.

    This is how one trains with `Hutchinson` and reports with `Exact`. Convert or move a flow before, not after: `.to()`
    replaces buffers, which only one of the two would see.

    Args:
        flow: A flow, or any module that holds CNFs.
        divergence: The new divergence; None keeps each CNF's own.
        solver: The new solver; None keeps each CNF's own.
        regularizers: The new path costs; None keeps each CNF's own.

    Raises:
        ValueError: There is no CNF in it.
    """
    if not cnfs_of(flow):
        raise ValueError(f"{type(flow).__name__} holds no CNF, so there is nothing to reconfigure")

    def settings(cnf: CNF) -> dict[str, Any]:
        return {
            "divergence": divergence or cnf.divergence,
            "solver": solver or cnf.solver,
            "regularizers": cnf.regularizers if regularizers is None else dict(regularizers),
        }

    return twin(flow, CNF, settings)


def without_costs(flow: Module) -> Module:
    """A copy that shares all parameters and has no path costs to compute, for those who want densities only."""
    return reconfigure(flow, regularizers={}) if any(cnf.regularizers for cnf in cnfs_of(flow)) else flow


def smoothed(flow: Module) -> Module:
    """A copy that shares all parameters and estimates with `smoothed` noise, for a standard error that means something.

    Rademacher estimates take few values in few dimensions, which agree by chance.
    """
    if all(cnf.divergence.exact for cnf in cnfs_of(flow)):
        return flow
    return twin(flow, CNF, lambda cnf: {"divergence": cnf.divergence.smoothed()})


def refined(flow: Module) -> Module:
    """A copy in float64 with a `tighter` solver in all of its CNFs, by which the error of their solves is measured.

    Raises:
        TypeError: A solver has no tighter one.
    """
    return twin(flow, CNF, lambda cnf: {"solver": cnf.solver.tighter()}, shared=False).double()


def cnfs_of(module: nn.Module) -> list[CNF]:
    """All CNFs in a module."""
    return parts_of(module, CNF)
