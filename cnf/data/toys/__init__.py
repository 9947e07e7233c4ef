"""Two-dimensional toy distributions: FFJORD's ten, with exact densities and entropies where they exist."""

from cnf.data.toys.catalogue import TOYS, toy
from cnf.data.toys.interface import Toy

__all__ = ["TOYS", "Toy", "toy"]
