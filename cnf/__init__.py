"""Continuous normalizing flows on PyTorch: exact densities and samples from neural ODEs.

`build` makes a published model by its name in `MODELS`, `fit` trains it, `save` and `load` keep it. A `Flow` is a
`Transform` and a base; a `CNF` is a transform made of a `VectorField`, a `Divergence`, `Regularizer`s and a `Solver`.
Each of these is public and says how to write one of your own. The folders are `cnf.continuous`, `cnf.discrete`,
`cnf.manifolds`, `cnf.distributions`, `cnf.networks`, `cnf.objectives`, `cnf.models`, `cnf.training`, `cnf.data`,
`cnf.tables`, `cnf.inference`, `cnf.calibration`, `cnf.metrics`, `cnf.plotting` and `cnf.interop`.

Conventions, the same everywhere:

- `encode` leads from data to base, the direction of densities; `decode` from base to data, the direction of sampling.
  Each returns its own `log_det = log |det ∂out/∂in|`, so the two of a round trip sum to zero.
- Time: t = 0 is the base, t = 1 the data, for every way of training.
- Arguments come as `(t, x, context)`; `t` is a scalar tensor or `(N,)`, `context` is `(N, C)` or None.
- A transform sees `(N, *event)`. Log-determinants, log-densities and costs are one number per sample, summed over
  dimensions, in nats. A flow takes any leading batch shape and gives it back.
- Path costs are positive integrals over [0, 1], the same in both directions. The objective weighs them.
- Calling a module never changes its state (batch norm in training excepted). Starts from the data happen in
  `flow.initialize(x)`, which `fit` calls.
- Noise is drawn once per solve, one probe for each sample; `RungeKutta(steps=n, redraw=True)` draws it at every step.

Example:
    >>> import torch, cnf
    >>> flow = cnf.build("realnvp", 2, hidden=8)
    >>> result = cnf.fit(flow, torch.randn(200, 2), config=cnf.FitConfig(steps=5, batch_size=50, progress=False))
    >>> flow.log_prob(torch.zeros(3, 2)).shape, flow.sample(4).shape
    (torch.Size([3]), torch.Size([4, 2]))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cnf.checkpoints import load, save
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Bottleneck, Divergence, Exact, Hutchinson, HutchPP
from cnf.continuous.fields import (
    ConvField,
    FourierField,
    MLPField,
    PlanarField,
    PotentialField,
    UNetField,
    VectorField,
)
from cnf.continuous.guidance import guided
from cnf.continuous.linearization import Linearization
from cnf.continuous.neural_ode import NeuralODE
from cnf.continuous.regularizers import (
    DirectionalJacobian,
    HamiltonJacobi,
    HigherDerivative,
    JacobianFrobenius,
    KineticEnergy,
    Regularizer,
)
from cnf.continuous.solvers import RandomEnd, RungeKutta, Solver, Torchdiffeq, count_evaluations
from cnf.continuous.twins import reconfigure
from cnf.discrete import Augment, Destructor, ElementwiseMap
from cnf.distributions import BaseDensity, DiagonalNormal, GaussianMixture, StandardNormal, Uniform
from cnf.errors import (
    CheckpointError,
    CnfError,
    ConvergenceError,
    DataError,
    DataWarning,
    FailedRowsWarning,
    SampleError,
    SolverError,
    TrainingError,
)
from cnf.flows import Density, Flow, FlowDistribution, Uncertain
from cnf.manifolds import Manifold
from cnf.models import MODELS, Model, build, from_velocity
from cnf.objectives import (
    ELBO,
    AlphaDivergence,
    Annealed,
    BridgePath,
    Coupling,
    EntropicCoupling,
    FlowMatching,
    FreeForm,
    GeodesicPath,
    IndependentCoupling,
    LinearAnnealing,
    LipmanPath,
    Loss,
    MaximumLikelihood,
    Objective,
    OptimalTransport,
    Path,
    Phase,
    Reflow,
    ReverseKL,
    StableCoupling,
    StraightPath,
    VariancePreservingPath,
)
from cnf.transforms import Compose, Flatten, Inverse, Mapped, Transform, Wrapper
from cnf.version import installed_version

if TYPE_CHECKING:
    from cnf.tables import TableFlow
    from cnf.training import FitConfig, FitResult, fit

# Loaded when asked for: they bring the training engine, matplotlib and the like.
_TABLES = ("TableFlow",)
_TRAINING = ("FitConfig", "FitResult", "fit")
_FOLDERS = (
    "arguments", "calibration", "checkpoints", "continuous", "data", "discrete", "distributions", "errors", "inference",
    "interop", "manifolds", "metrics", "models", "networks", "objectives", "plotting", "tables", "training",
    "transforms",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return installed_version()
    if name in _TRAINING:
        return getattr(importlib.import_module("cnf.training"), name)
    if name in _TABLES:
        return getattr(importlib.import_module("cnf.tables"), name)
    if name in _FOLDERS:
        return importlib.import_module(f"cnf.{name}")
    raise AttributeError(f"module 'cnf' has no attribute {name!r}")


def __dir__() -> list[str]:
    own = [name for name in globals() if name.startswith("__") and name not in ("__getattr__", "__dir__")]
    return sorted({*__all__, *_FOLDERS, *own, "__version__"})


__all__ = [
    "CNF",
    "ELBO",
    "MODELS",
    "AlphaDivergence",
    "Annealed",
    "Augment",
    "BaseDensity",
    "Bottleneck",
    "BridgePath",
    "CheckpointError",
    "CnfError",
    "Compose",
    "ConvField",
    "ConvergenceError",
    "Coupling",
    "DataError",
    "DataWarning",
    "Density",
    "Destructor",
    "DiagonalNormal",
    "DirectionalJacobian",
    "Divergence",
    "ElementwiseMap",
    "EntropicCoupling",
    "Exact",
    "FailedRowsWarning",
    "FitConfig",
    "FitResult",
    "Flatten",
    "Flow",
    "FlowDistribution",
    "FlowMatching",
    "FourierField",
    "FreeForm",
    "GaussianMixture",
    "GeodesicPath",
    "HamiltonJacobi",
    "HigherDerivative",
    "HutchPP",
    "Hutchinson",
    "IndependentCoupling",
    "Inverse",
    "JacobianFrobenius",
    "KineticEnergy",
    "LinearAnnealing",
    "Linearization",
    "LipmanPath",
    "Loss",
    "MLPField",
    "Manifold",
    "Mapped",
    "MaximumLikelihood",
    "Model",
    "NeuralODE",
    "Objective",
    "OptimalTransport",
    "Path",
    "Phase",
    "PlanarField",
    "PotentialField",
    "RandomEnd",
    "Reflow",
    "Regularizer",
    "ReverseKL",
    "RungeKutta",
    "SampleError",
    "Solver",
    "SolverError",
    "StableCoupling",
    "StandardNormal",
    "StraightPath",
    "TableFlow",
    "Torchdiffeq",
    "TrainingError",
    "Transform",
    "UNetField",
    "Uncertain",
    "Uniform",
    "VariancePreservingPath",
    "VectorField",
    "Wrapper",
    "build",
    "count_evaluations",
    "fit",
    "from_velocity",
    "guided",
    "load",
    "reconfigure",
    "save",
]
