"""Training a flow, on one processor or many: `fit`, with its settings and its result.

A run is a plan (its phases and rows), a schedule (how far it is, and the learning rate there), a learner (what it
changes), a judge (the validation likelihood) and a record (checkpoint and log).
"""

from cnf.errors import TrainingError
from cnf.objectives.phases import OPTIMIZERS, Phase
from cnf.training.fitting import fit
from cnf.training.settings import PRECISIONS, FitConfig, FitResult

__all__ = ["OPTIMIZERS", "PRECISIONS", "FitConfig", "FitResult", "Phase", "TrainingError", "fit"]
