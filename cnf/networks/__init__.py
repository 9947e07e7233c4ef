"""Networks and activations, the components of fields and conditioners."""

from cnf.networks.activations import (
    ACTIVATIONS,
    CONDITIONER_ACTIVATIONS,
    Activation,
    ActivationName,
    ConditionerActivation,
    activation,
    softplus,
)
from cnf.networks.lipschitz import LipschitzMLP, lipswish, spectral_norm
from cnf.networks.masked import MADE, MaskedLinear
from cnf.networks.residual import Conditioner, ConvResNet, ResidualMLP, ResidualNet, Skip, circular

__all__ = [
    "ACTIVATIONS",
    "CONDITIONER_ACTIVATIONS",
    "MADE",
    "Activation",
    "ActivationName",
    "Conditioner",
    "ConditionerActivation",
    "ConvResNet",
    "LipschitzMLP",
    "MaskedLinear",
    "ResidualMLP",
    "ResidualNet",
    "Skip",
    "activation",
    "circular",
    "lipswish",
    "softplus",
    "spectral_norm",
]
