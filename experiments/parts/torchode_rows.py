"""torchode as a solver: rows with steps of their own, and all rows are evaluated until the last of them ends."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import cnf
from cnf.continuous import RightHandSide, Solution, State, Statistics
from cnf.continuous.solvers.interface import record


def installed() -> bool:
    """Whether torchode is there; it says so where it is not."""
    there = importlib.util.find_spec("torchode") is not None
    if not there:
        print("left out: torchode, which is not installed (pip install torchode)")
    return there


@dataclass(frozen=True)
class TorchodeRows(cnf.Solver):
    """Dopri5 with the integral controller of torchode; no gradients, no path costs.

    Args:
        tolerance: Relative and absolute.
    """

    tolerance: float = 1e-5

    def __call__(
        self, rhs: RightHandSide, state: State, start: float, end: float, parameters: Sequence[Tensor] = ()
    ) -> Solution:
        import torchode

        calls, sign = [0], 1.0 if end > start else -1.0
        count, dim = state.x.shape

        def slope(t: Tensor, y: Tensor) -> Tensor:  # time runs upwards from 0
            calls[0] += 1
            at = rhs(start + sign * t, y[:, :dim])
            return sign * torch.cat([at.x, *(part.unsqueeze(1) for part in at.integrals)], 1)

        term: Any = torchode.ODETerm(slope)
        controller = torchode.IntegralController(atol=self.tolerance, rtol=self.tolerance, term=term)
        solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller)
        y = torch.cat([state.x, *(part.unsqueeze(1) for part in state.integrals)], 1)
        times = y.new_tensor([0.0, abs(end - start)]).expand(count, 2)
        solved = solver.solve(torchode.InitialValueProblem(y0=y, t_eval=times)).ys[:, -1]
        record(solves=1, evaluations=calls[0], row_evaluations=calls[0] * count)
        integrals = tuple(solved[:, dim + i] for i in range(len(state.integrals)))
        return Solution(State(solved[:, :dim], integrals), Statistics(calls[0], 0, 0))
