"""Flows on manifolds, the simplex, the sphere and the torus, with densities in the Riemannian volume."""

from cnf.manifolds.calibration import DirichletCalibration, fit_calibration
from cnf.manifolds.continuous import ManifoldCNF
from cnf.manifolds.fields import FourierField, SphereField, TorusField
from cnf.manifolds.freeform import EncoderDecoder
from cnf.manifolds.geometry import Manifold, Simplex, Sphere, Torus, volume_ratio
from cnf.manifolds.simplex import Calibration, GeneralizedCalibration, compose, smooth
from cnf.manifolds.sphere import NormalizedAffine, NormalizedLinear, NormalizedTranslation

__all__ = [
    "Calibration",
    "DirichletCalibration",
    "EncoderDecoder",
    "FourierField",
    "GeneralizedCalibration",
    "Manifold",
    "ManifoldCNF",
    "NormalizedAffine",
    "NormalizedLinear",
    "NormalizedTranslation",
    "Simplex",
    "Sphere",
    "SphereField",
    "Torus",
    "TorusField",
    "compose",
    "fit_calibration",
    "smooth",
    "volume_ratio",
]
