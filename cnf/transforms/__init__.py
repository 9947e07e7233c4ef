"""Transforms: invertible maps between data and base, with their log-determinants."""

from cnf.transforms.composition import Compose
from cnf.transforms.interface import ContinuousPart, Mapped, Transform
from cnf.transforms.wrappers import Embedded, Flatten, Inverse, Wrapper

__all__ = ["Compose", "ContinuousPart", "Embedded", "Flatten", "Inverse", "Mapped", "Transform", "Wrapper"]
