"""The interface of solvers: their state, right-hand side, solution and errors.

The state of a flow has three parts. The right-hand side depends on `x` only. The log-determinant is an integral along
the path of `x`, with error control. Path costs are integrals too, but they are excluded from the error norm. Integrals
need no stages of their own, only a final sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cnf.errors import SolverError
from cnf.tracing import visible


class State(NamedTuple):
    """The state of a solve, or its derivative in time.

    Attributes:
        x: The points, `(N, *event)`.
        integrals: Integrals along the path, each `(N,)`, with error control; for a CNF the log-determinant.
        costs: Integrals along the path, each `(N,)`, excluded from the error norm.

    Example:
        >>> import torch
        >>> state = State(torch.zeros(3, 2), integrals=(torch.zeros(3),))
        >>> state.x.shape, len(state.integrals), len(state.costs)
        (torch.Size([3, 2]), 1, 0)
    """

    x: Tensor
    integrals: tuple[Tensor, ...] = ()
    costs: tuple[Tensor, ...] = ()


class Statistics(NamedTuple):
    """The work of a solve; if rows have their own steps, the numbers of the row with the most steps.

    Attributes:
        evaluations: Evaluations of the right-hand side.
        accepted: Accepted steps.
        rejected: Rejected steps.

    Example:
        >>> Statistics(evaluations=16, accepted=4, rejected=0).accepted
        4
    """

    evaluations: int
    accepted: int
    rejected: int


class Solution(NamedTuple):
    """The state at the end of a solve, and the work it took.

    Attributes:
        state: The state at the end time.
        statistics: Evaluations and steps.

    Example:
        >>> import torch
        >>> from cnf.continuous import RungeKutta
        >>> solution = RungeKutta("rk4", steps=4)(lambda t, x: State(-x), State(torch.ones(1, 1)), 0.0, 1.0)
        >>> solution.state.x, solution.statistics
        (tensor([[0.3679]]), Statistics(evaluations=16, accepted=4, rejected=0))
    """

    state: State
    statistics: Statistics


RightHandSide = Callable[[float | Tensor, Tensor], State]


class RowWise(ABC):
    """A right-hand side that can be restricted to some rows, so that each row can have its own steps.

    Data of single rows, such as contexts and random vectors, are restricted too. To write one, define its four methods.

    Example:
        >>> import torch, cnf
        >>> from cnf.continuous import RowWise, State
        >>> class Decay(RowWise):  # dx/dt = −rate x, with a rate for each row
        ...     def __init__(self, rate):
        ...         self.rate = rate
        ...
        ...     def __call__(self, t, x):
        ...         return State(-self.rate * x)
        ...
        ...     def of(self, rows):
        ...         return Decay(self.rate[rows])
        ...
        ...     def anew(self, x):
        ...         return self
        ...
        ...     def takes_times(self, x):
        ...         return True
        >>> rate, x = torch.tensor([[1.0], [50.0]]), torch.ones(2, 1)
        >>> cnf.RungeKutta()(Decay(rate), State(x), 0.0, 1.0).state.x.round(decimals=4).abs()
        tensor([[0.3679],
                [0.0000]])
    """

    @abstractmethod
    def __call__(self, t: float | Tensor, x: Tensor) -> State:
        """The derivative of the state at a scalar time, or at a time for each row, `(N,)`."""

    @abstractmethod
    def of(self, rows: Tensor) -> RowWise:
        """The right-hand side of the rows with these indices, `(M,)`."""

    @abstractmethod
    def anew(self, x: Tensor) -> RowWise:
        """A copy with new random vectors for points of the shape of x; itself if it has none."""

    @abstractmethod
    def takes_times(self, x: Tensor) -> bool:
        """Whether it accepts a time for each row, `(N,)`."""


def anew(rhs: RightHandSide, x: Tensor) -> RightHandSide:
    """The right-hand side with new random vectors, if it has any."""
    return rhs.anew(x) if isinstance(rhs, RowWise) else rhs


class Count:
    """Evaluations and steps seen by one `count_evaluations` block.

    Attributes:
        evaluations: Evaluations of right-hand sides, including those of the backward solve of an adjoint.
        solves: Number of solves.
        accepted: Accepted steps.
        rejected: Rejected steps.
        row_evaluations: Evaluations summed over rows; rows that have reached the end are not evaluated.
    """

    def __init__(self) -> None:
        self.evaluations = self.solves = self.accepted = self.rejected = self.row_evaluations = 0


_counts: list[Count] = []


@contextmanager
def count_evaluations() -> Iterator[Count]:
    """A context manager that counts the evaluations and steps of all solves in its block.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2, solver=cnf.RungeKutta("rk4", steps=4))
        >>> with cnf.count_evaluations() as count:
        ...     _ = flow.log_prob(torch.zeros(3, 2))
        >>> count.evaluations, count.solves
        (16, 1)
    """
    count = Count()
    _counts.append(count)
    try:
        yield count
    finally:
        _counts.remove(count)


def record(
    *, evaluations: int = 0, solves: int = 0, accepted: int = 0, rejected: int = 0, row_evaluations: int = 0
) -> None:
    """Add to all open counts; solvers call it."""
    for count in _counts:
        count.row_evaluations += row_evaluations
        count.evaluations += evaluations
        count.solves += solves
        count.accepted += accepted
        count.rejected += rejected


class Solver(ABC):
    """Integrates `d state/dt = rhs(t, x)` from one time to another.

    The right-hand side does not depend on the integrals and costs of the state. To write one, define `__call__`.

    Example:
        >>> import torch, cnf
        >>> from cnf.continuous import Solution, State, Statistics
        >>> class Euler(cnf.Solver):
        ...     def __call__(self, rhs, state, start, end, parameters=()):
        ...         h = (end - start) / 100
        ...         for i in range(100):
        ...             slope = rhs(start + i * h, state.x)
        ...             x = state.x + h * slope.x
        ...             integrals = tuple(a + h * b for a, b in zip(state.integrals, slope.integrals))
        ...             state = State(x, integrals, state.costs)
        ...         return Solution(state, Statistics(100, 100, 0))
        >>> Euler()(lambda t, x: State(-x), State(torch.ones(1, 1)), 0.0, 1.0).state.x
        tensor([[0.3660]])
    """

    example: ClassVar[str] = 'cnf.RungeKutta("dopri5")'  # for messages

    @abstractmethod
    def __call__(
        self,
        rhs: RightHandSide,
        state: State,
        start: float,
        end: float,
        parameters: Sequence[Tensor] = (),
    ) -> Solution:
        """Solve the equation.

        Args:
            rhs: A function of `(t, x)` that returns the derivative of the state.
            state: The state at `start`.
            start: Initial time.
            end: Final time; may be smaller than `start`.
            parameters: Tensors that `rhs` depends on and that require gradients. Only adjoint methods use them.

        Raises:
            SolverError: The end cannot be reached within the tolerance.
        """

    def grid(self, rhs: RightHandSide, state: State, start: float, end: float) -> Sequence[float]:
        """The times of its steps, from `start` to `end`, both included.

        Args:
            rhs: The right-hand side; adaptive solvers solve the equation to find the times.
            state: The state at `start`.
            start: Initial time.
            end: Final time.

        Raises:
            TypeError: The solver cannot give its times.
        """
        raise TypeError(f"{type(self).__name__} does not tell its steps")

    def tighter(self) -> Solver:
        """A much more accurate solver, with which the error of this one is estimated.

        Raises:
            TypeError: There is none.
        """
        raise TypeError(
            f"{type(self).__name__} has no tighter() that its error could be measured by: define one, or give the flow "
            "another solver with cnf.reconfigure(flow, solver=...)"
        )


ADVICE = (
    "a larger tolerance (rtol, atol), a smaller learning rate or gradient clipping, weight decay or the kinetic and "
    "Frobenius regularizers to keep the field smooth, smooth activations, float64, or steps=n for a fixed grid."
)


NOT_FINITE = "the field or the state is NaN or infinite"


def gave_up(reason: str, time: float, errors: Tensor) -> SolverError:
    """The error of a solve that fails; it names the samples with too large errors, or else the worst one."""
    beyond = (~(errors <= 1)).nonzero().flatten().tolist()
    worst = [int(errors.argmax())] if len(errors) else []
    return SolverError(reason, time=time, samples=beyond or worst, advice=ADVICE)


def check_finite(state: State, time: float) -> None:
    """Check that the state is finite.

    Raises:
        SolverError: Some rows are NaN or infinite.
    """
    parts = [part.flatten(1) if part.dim() > 1 else part.unsqueeze(1) for part in (state.x, *state.integrals)]
    bad = ~torch.cat([part.isfinite().all(1, keepdim=True) for part in parts], 1).all(1)
    if visible(bad) and bad.any():
        raise SolverError(
            NOT_FINITE, time=time, samples=bad.nonzero().flatten().tolist(),
            advice="check the inputs of these samples and the weights of the field; " + ADVICE,
        )  # fmt: skip
