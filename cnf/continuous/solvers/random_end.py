"""Random end times, a regularizer of training without extra cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnf.arguments import Fraction, checked
from cnf.continuous.solvers.interface import RightHandSide, Solution, Solver, State
from cnf.continuous.solvers.runge_kutta import RungeKutta


@checked
@dataclass(frozen=True)
class RandomEnd(Solver):
    """STEER: integrates to `end + (2u − 1) · width · (end − start)`, `u` uniform on [0, 1), drawn once per solve.

    Use it for training only, as `FitConfig.solver`, `Phase.solver` or in a copy made by `reconfigure`. Every solve has
    another end, so every call computes another map, and `encode` and `decode` are not inverse. The whole batch has one
    end, drawn with the global torch generator of the CPU. In a flow of several CNFs each one draws its own.

    Args:
        solver: The ODE solver.
        width: STEER's b relative to the length of the interval, `b / |t_1 − t_0|`, in (0, 1). The released code for
            CNFs always draws the end from `t_1 ± (|t_1 − t_0| − 0.25)`, which is a width of 0.75 on [0, 1].

    Raises:
        ValueError: `width` is outside (0, 1).
        TypeError: `solver` is no `Solver`.

    References:
        Ghosh et al. 2020, STEER, arXiv 2006.10711.

    Example:
        >>> import torch
        >>> from cnf.continuous import RandomEnd, RungeKutta, State
        >>> solver = RandomEnd(RungeKutta("rk4", steps=4), width=0.5)
        >>> x = State(torch.zeros(1, 1))
        >>> ends = [solver(lambda t, x: State(torch.ones_like(x)), x, 0.0, 1.0).state.x.item() for _ in range(9)]
        >>> 0.5 <= min(ends) < max(ends) < 1.5
        True
    """

    solver: Solver = RungeKutta()
    width: Fraction = 0.5

    def __call__(
        self,
        rhs: RightHandSide,
        state: State,
        start: float,
        end: float,
        parameters: Sequence[Tensor] = (),
    ) -> Solution:
        return self.solver(rhs, state, start, self._drawn(start, end), parameters)

    def _drawn(self, start: float, end: float) -> float:
        return end + (2 * torch.rand(()).item() - 1) * self.width * (end - start)
