"""Plain networks and activations, the parts that fields and conditioners are made of."""

from cnf.networks.activations import (
    ACTIVATIONS,
    CONDITIONER_ACTIVATIONS,
    Activation,
    ActivationName,
    ConditionerActivation,
    activation,
    softplus,
)
from cnf.networks.masked import MADE
from cnf.networks.residual import Conditioner, ConvResNet, ResidualMLP, Skip

__all__ = [
    "ACTIVATIONS",
    "CONDITIONER_ACTIVATIONS",
    "MADE",
    "Activation",
    "ActivationName",
    "Conditioner",
    "ConditionerActivation",
    "ConvResNet",
    "ResidualMLP",
    "Skip",
    "activation",
    "softplus",
]
