"""Base densities: the simple end of a flow, as modules so that they move, save and train with it."""

from cnf.distributions.euclidean import LOG_2PI, DiagonalNormal, GaussianMixture, StandardNormal, Uniform
from cnf.distributions.interface import BaseDensity, as_event_shape
from cnf.distributions.simplex import Dirichlet, LogisticNormal
from cnf.distributions.sphere import AngularCentralGaussian, SphereUniform, SphericalCauchyMixture, VonMisesFisher
from cnf.distributions.torch import TorchBase, as_base
from cnf.distributions.torus import TorusUniform

__all__ = [
    "LOG_2PI",
    "AngularCentralGaussian",
    "BaseDensity",
    "DiagonalNormal",
    "Dirichlet",
    "GaussianMixture",
    "LogisticNormal",
    "SphereUniform",
    "SphericalCauchyMixture",
    "StandardNormal",
    "TorchBase",
    "TorusUniform",
    "Uniform",
    "VonMisesFisher",
    "as_base",
    "as_event_shape",
]
