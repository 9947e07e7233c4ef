"""Flows on manifolds, the simplex, the sphere and the torus, with densities in the Riemannian volume."""

import importlib
from typing import Any

from cnf.continuous import Space, TangentField
from cnf.continuous.fields import FourierField
from cnf.discrete import EncoderDecoder
from cnf.manifolds.continuous import ManifoldCNF
from cnf.manifolds.fields import SphereField, TorusField
from cnf.manifolds.free_form import ManifoldEncoderDecoder
from cnf.manifolds.geometry import Simplex, Sphere, Torus
from cnf.manifolds.manifold import Manifold
from cnf.manifolds.simplex import Calibration, GeneralizedCalibration, compose, smooth
from cnf.manifolds.sphere import NormalizedAffine, NormalizedLinear, NormalizedTranslation
from cnf.manifolds.volumes import volume_ratio

__all__ = [
    "Calibration",
    "EncoderDecoder",
    "FourierField",
    "GeneralizedCalibration",
    "Manifold",
    "ManifoldCNF",
    "ManifoldEncoderDecoder",
    "NormalizedAffine",
    "NormalizedLinear",
    "NormalizedTranslation",
    "Simplex",
    "Space",
    "Sphere",
    "SphereField",
    "TangentField",
    "Torus",
    "TorusField",
    "compose",
    "smooth",
    "volume_ratio",
]


def __getattr__(name: str) -> Any:
    if name in ("DirichletCalibration", "fit_calibration"):  # as in version 0.1; they build on this folder
        return getattr(importlib.import_module("cnf.calibration"), name)
    raise AttributeError(f"module 'cnf.manifolds' has no attribute {name!r}")
