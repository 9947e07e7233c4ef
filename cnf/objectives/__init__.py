"""Objectives: what training minimises, each a callable `(flow, x, context) -> Loss`.

`MaximumLikelihood`, `FlowMatching` (with a `Path` and a `Coupling`), `Reflow` and `FreeForm` learn from data;
`ReverseKL` and `AlphaDivergence` learn from a density that is known up to a constant, `ELBO` from data with latent
variables. A `Phase` is an objective with settings of training.
"""

from cnf.objectives.alpha import AlphaDivergence
from cnf.objectives.couplings import (
    COUPLINGS,
    Coupling,
    EntropicCoupling,
    IndependentCoupling,
    OptimalTransport,
    StableCoupling,
)
from cnf.objectives.free_form import FreeForm
from cnf.objectives.geodesic import GeodesicPath
from cnf.objectives.interface import Loss, Objective
from cnf.objectives.latent import ELBO
from cnf.objectives.likelihood import MaximumLikelihood
from cnf.objectives.matching import FlowMatching, Reflow
from cnf.objectives.partial import AnyGiven
from cnf.objectives.paths import PATHS, BridgePath, LipmanPath, Path, StraightPath, VariancePreservingPath
from cnf.objectives.phases import OPTIMIZERS, Phase
from cnf.objectives.variational import Annealed, LinearAnnealing, ReverseKL

__all__ = [
    "COUPLINGS",
    "ELBO",
    "OPTIMIZERS",
    "PATHS",
    "AlphaDivergence",
    "Annealed",
    "AnyGiven",
    "BridgePath",
    "Coupling",
    "EntropicCoupling",
    "FlowMatching",
    "FreeForm",
    "GeodesicPath",
    "IndependentCoupling",
    "LinearAnnealing",
    "LipmanPath",
    "Loss",
    "MaximumLikelihood",
    "Objective",
    "OptimalTransport",
    "Path",
    "Phase",
    "Reflow",
    "ReverseKL",
    "StableCoupling",
    "StraightPath",
    "VariancePreservingPath",
]
