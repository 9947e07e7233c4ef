"""Models by name: builders of published flows and of the default, each with its recipe of training and reference."""

from cnf.models.assembly import OF_LEVELS, PREPROCESSING
from cnf.models.catalogue import MODELS, build
from cnf.models.model import Model
from cnf.models.velocity import from_velocity

__all__ = ["MODELS", "OF_LEVELS", "PREPROCESSING", "Model", "build", "from_velocity"]
