"""The conventions of scikit-learn that need nothing of it."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

Own = TypeVar("Own", bound="Estimator")


class Estimator:
    """An object whose arguments can be read and changed before `fit`; each is kept as an attribute of its name."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments it was made with."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self: Own, **params: Any) -> Own:
        """Change arguments, which `fit` will read.

        Raises:
            ValueError: An unknown argument.
        """
        known = self.get_params()
        if unknown := [name for name in params if name not in known]:
            raise ValueError(f"unknown argument {', '.join(unknown)}: {type(self).__name__} has {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self
