"""The import of another library, with an error that names the extra."""

from __future__ import annotations

import importlib
from types import ModuleType


def guest(module: str, extra: str, what: str) -> ModuleType:
    """A module of another library.

    Args:
        module: Its full name.
        extra: The extra of this package that installs it.
        what: What needs it, for the message.

    Raises:
        ImportError: The library is not installed.

    Example:
        >>> guest("no_such_library", "sklearn", "FlowDensity")
        Traceback (most recent call last):
        ImportError: FlowDensity needs no_such_library: pip install "cnf[sklearn]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(f'{what} needs {error.name}: pip install "cnf[{extra}]"') from error
