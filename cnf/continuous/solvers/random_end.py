"""Random end times, a regularizer of training that costs nothing."""

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
    """STEER: integrates to `end + (2u − 1) · width · (end − start)`, `u` uniform on [0, 1), drawn once a solve.

    For training only, as `FitConfig.solver` or in a `reconfigure`d copy: every solve ends somewhere else, so densities
    and samples are those of another map each time, and encode and decode are no inverses. One end for the whole batch,
    from the global torch generator of the CPU; a flow of several CNFs draws one for each.

    Args:
        solver: What integrates.
        width: STEER's b by the length of the interval, `b / |t_1 − t_0|`. The released code for CNFs draws the end
            from `t_1 ± (|t_1 − t_0| − 0.25)`, a width of 0.75 on our [0, 1], whatever b is said to be.

    Raises:
        ValueError: A width outside (0, 1): at 1 a solve might have no length.
        TypeError: What should integrate is no solver.

    References:
        Ghosh et al. 2020, STEER, arXiv 2006.10711.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2, hidden=8)
        >>> phase = cnf.Phase(cnf.MaximumLikelihood(), solver=cnf.RandomEnd(cnf.RungeKutta("rk4", steps=4), 0.5))
        >>> cnf.fit(flow, torch.randn(64, 2), [phase], config=cnf.FitConfig(steps=1, progress=False)).steps
        1
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
