"""Data sets: numbers in, tensors out. What has a log-determinant is a Transform, in `cnf.discrete`."""


class DataError(ValueError):
    """Data that cannot be used; the message says what was expected, what came, and what to do."""
