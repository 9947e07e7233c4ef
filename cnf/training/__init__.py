"""Training a flow, on one processor or many."""

from cnf.errors import TrainingError
from cnf.training.fitting import fit
from cnf.training.settings import FitConfig, FitResult

__all__ = ["FitConfig", "FitResult", "TrainingError", "fit"]
