"""Training a flow, on one processor or many."""

from cnf.training.run import fit
from cnf.training.settings import FitConfig, FitResult, TrainingError

__all__ = ["FitConfig", "FitResult", "TrainingError", "fit"]
