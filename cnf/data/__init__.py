"""Data sets: numbers in, tensors out. What has a log-determinant is a Transform, in `cnf.discrete`."""

from cnf.data.toys import TOYS, Toy, toy
from cnf.errors import DataError

__all__ = ["TOYS", "DataError", "Toy", "toy"]
