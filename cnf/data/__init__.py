"""Data sets: numbers in, tensors out. What has a log-determinant is a Transform, in `cnf.discrete`."""

from cnf.errors import DataError

__all__ = ["DataError"]
