"""Continuous normalizing flows: vector field × divergence × regularizers × solver."""

from cnf.continuous.chains import ChainLinearization
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import DIVERGENCES, Bottleneck, Divergence, Exact, Hutchinson, HutchPP
from cnf.continuous.fields import (
    ConvField,
    FourierField,
    MLPField,
    ModuleField,
    PlanarField,
    PotentialField,
    UNetField,
    VectorField,
)
from cnf.continuous.guidance import GuidedField, guided
from cnf.continuous.linearization import FunctionalLinearization, Linearization
from cnf.continuous.neural_ode import NeuralODE
from cnf.continuous.potentials import PotentialLinearization
from cnf.continuous.regularizers import (
    REGULARIZERS,
    DirectionalJacobian,
    HamiltonJacobi,
    HigherDerivative,
    JacobianFrobenius,
    KineticEnergy,
    Regularizer,
)
from cnf.continuous.solvers import (
    RandomEnd,
    RightHandSide,
    RowWise,
    RungeKutta,
    Solution,
    Solver,
    SolverError,
    State,
    Statistics,
    Torchdiffeq,
    count_evaluations,
)
from cnf.continuous.space import Euclidean, Space, TangentField
from cnf.continuous.twins import cnfs_of, reconfigure

__all__ = [
    "CNF",
    "DIVERGENCES",
    "REGULARIZERS",
    "Bottleneck",
    "ChainLinearization",
    "ConvField",
    "DirectionalJacobian",
    "Divergence",
    "Euclidean",
    "Exact",
    "FourierField",
    "FunctionalLinearization",
    "GuidedField",
    "HamiltonJacobi",
    "HigherDerivative",
    "HutchPP",
    "Hutchinson",
    "JacobianFrobenius",
    "KineticEnergy",
    "Linearization",
    "MLPField",
    "ModuleField",
    "NeuralODE",
    "PlanarField",
    "PotentialField",
    "PotentialLinearization",
    "RandomEnd",
    "Regularizer",
    "RightHandSide",
    "RowWise",
    "RungeKutta",
    "Solution",
    "Solver",
    "SolverError",
    "Space",
    "State",
    "Statistics",
    "TangentField",
    "Torchdiffeq",
    "UNetField",
    "VectorField",
    "cnfs_of",
    "count_evaluations",
    "guided",
    "reconfigure",
]
