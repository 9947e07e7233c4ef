"""Vector fields `dx/dt = f(t, x, context)`, the networks of an ODE."""

from cnf.continuous.fields.convolutional import ConvField
from cnf.continuous.fields.fourier import FourierField, Frequency
from cnf.continuous.fields.interface import VectorField
from cnf.continuous.fields.mlp import MLPField, TimeName
from cnf.continuous.fields.module import ModuleField, as_field
from cnf.continuous.fields.partial import PartialField
from cnf.continuous.fields.planar import PlanarField
from cnf.continuous.fields.potential import PotentialField
from cnf.continuous.fields.unet import UNetField

__all__ = [
    "ConvField",
    "FourierField",
    "Frequency",
    "MLPField",
    "ModuleField",
    "PartialField",
    "PlanarField",
    "PotentialField",
    "TimeName",
    "UNetField",
    "VectorField",
    "as_field",
]
