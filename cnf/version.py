"""Which release this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "0+unknown"  # of a clone that is on the path and not installed


def installed_version() -> str:
    """The version that is installed, or `UNKNOWN`."""
    try:
        return version("cnf")
    except PackageNotFoundError:
        return UNKNOWN
