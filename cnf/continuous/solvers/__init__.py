"""Solvers of ordinary differential equations, written for what a continuous flow carries."""

from cnf.continuous.solvers.interface import (
    RightHandSide,
    RowWise,
    Solution,
    Solver,
    State,
    Statistics,
    count_evaluations,
)
from cnf.continuous.solvers.random_end import RandomEnd
from cnf.continuous.solvers.runge_kutta import RungeKutta
from cnf.continuous.solvers.torchdiffeq import Torchdiffeq
from cnf.errors import SolverError

__all__ = [
    "RandomEnd",
    "RightHandSide",
    "RowWise",
    "RungeKutta",
    "Solution",
    "Solver",
    "SolverError",
    "State",
    "Statistics",
    "Torchdiffeq",
    "count_evaluations",
]
