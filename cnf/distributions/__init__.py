"""Base densities: the simple end of a flow, as modules so that they move, save and train with it."""

from cnf.distributions.euclidean import (
    LOG_2PI,
    DiagonalNormal,
    GaussianMixture,
    StandardNormal,
    Uniform,
    standard_normal_log_prob,
)
from cnf.distributions.interface import BaseDensity, as_event_shape
from cnf.distributions.simplex import Dirichlet, LogisticNormal
from cnf.distributions.sphere import AngularCentralGaussian, SphereDensity, SphereUniform, UnitVectors
from cnf.distributions.spherical_cauchy import SphericalCauchyMixture
from cnf.distributions.torch import TorchBase, as_base
from cnf.distributions.torus import TorusUniform
from cnf.distributions.von_mises_fisher import VonMisesFisher

__all__ = [
    "LOG_2PI",
    "AngularCentralGaussian",
    "BaseDensity",
    "DiagonalNormal",
    "Dirichlet",
    "GaussianMixture",
    "LogisticNormal",
    "SphereDensity",
    "SphereUniform",
    "SphericalCauchyMixture",
    "StandardNormal",
    "TorchBase",
    "TorusUniform",
    "Uniform",
    "UnitVectors",
    "VonMisesFisher",
    "as_base",
    "as_event_shape",
    "standard_normal_log_prob",
]
