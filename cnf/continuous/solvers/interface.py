"""What a solver is given and gives back, and how it says that it cannot.

A flow's state has three parts. `x` is the only one that the right-hand side reads. The log-determinant is an integral
along the path of `x`, held to the tolerance. Path costs are integrals too, but what they cost in accuracy is nobody's
concern, so they stay out of the error norm. Integrals need no stages of their own, only a final sum.
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
    """What a solve carries, and the derivative of it.

    Attributes:
        x: `(N, *event)`.
        integrals: Integrals along the path, each `(N,)`, held to the tolerance (the log-determinant).
        costs: Integrals along the path, each `(N,)`, outside the error norm.

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
    """What a solve took; where rows have their own steps, the numbers of the row that took most.

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
    """The state at the end of a solve, and what it took.

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
    """A right-hand side whose rows can be solved apart, since it can be restricted to some of them.

    What it holds of each row (a context, noise) is restricted with them.

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
        """The same for the rows of these numbers alone."""

    @abstractmethod
    def anew(self, x: Tensor) -> RowWise:
        """The same with its noise drawn again for points like x; itself where it has none."""

    @abstractmethod
    def takes_times(self, x: Tensor) -> bool:
        """Whether the field takes a time for each row."""


def anew(rhs: RightHandSide, x: Tensor) -> RightHandSide:
    """A right-hand side with its noise drawn again, if it has any."""
    return rhs.anew(x) if isinstance(rhs, RowWise) else rhs


class Count:
    """Evaluations and steps seen by one `count_evaluations` block.

    Attributes:
        evaluations: Evaluations of right-hand sides, those of an adjoint's backward solve included.
        solves: Solves begun.
        accepted: Accepted steps.
        rejected: Rejected steps.
        row_evaluations: Evaluations of single rows, where rows that have ended are not evaluated any more.
    """

    def __init__(self) -> None:
        self.evaluations = self.solves = self.accepted = self.rejected = self.row_evaluations = 0


_counts: list[Count] = []


@contextmanager
def count_evaluations() -> Iterator[Count]:
    """Count what every solve within the block takes.

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

    The integrals and costs of the state do not enter the right-hand side.

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
        """Solve.

        Args:
            rhs: `(t, x)` to the derivative of the state.
            state: Where it begins.
            start: Time at which it begins.
            end: Time at which it ends; may be smaller than `start`.
            parameters: Tensors that `rhs` depends on and that want gradients; solvers that differentiate through
                their own steps find them by themselves.

        Raises:
            SolverError: The end cannot be reached within the tolerance.
        """

    def grid(self, rhs: RightHandSide, state: State, start: float, end: float) -> Sequence[float]:
        """The times between its steps, from `start` to `end`, both included.

        Args:
            rhs: The right-hand side; only read by solvers that have to solve to know.
            state: Where it begins.
            start: Time at which it begins.
            end: Time at which it ends.

        Raises:
            TypeError: The solver does not tell.
        """
        raise TypeError(f"{type(self).__name__} does not tell its steps")

    def tighter(self) -> Solver:
        """A solver whose error is small beside that of this one, to measure this one's by.

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
    """The error of a solve that ends early; names the samples beyond the tolerance, or else the one nearest to it."""
    beyond = (~(errors <= 1)).nonzero().flatten().tolist()
    worst = [int(errors.argmax())] if len(errors) else []
    return SolverError(reason, time=time, samples=beyond or worst, advice=ADVICE)


def check_finite(state: State, time: float) -> None:
    """Raise the error of a solve whose state is NaN or infinite in some row."""
    parts = [part.flatten(1) if part.dim() > 1 else part.unsqueeze(1) for part in (state.x, *state.integrals)]
    bad = ~torch.cat([part.isfinite().all(1, keepdim=True) for part in parts], 1).all(1)
    if visible(bad) and bad.any():
        raise SolverError(
            NOT_FINITE, time=time, samples=bad.nonzero().flatten().tolist(),
            advice="check the inputs of these samples and the weights of the field; " + ADVICE,
        )  # fmt: skip
