"""Saving and loading: weights as safetensors, everything else as JSON that a person can read. No pickle."""

from cnf.checkpoints.checking import check_state
from cnf.checkpoints.loading import load
from cnf.checkpoints.saving import save

__all__ = ["check_state", "load", "save"]
