"""The folder of downloaded data."""

from __future__ import annotations

import os
from pathlib import Path

from cnf.errors import DataError


def data_root(root: str | Path | None = None) -> Path:
    """The folder of downloaded data: the argument, or else the environment variable `CNF_DATA`.

    Args:
        root: The folder.

    Raises:
        DataError: Neither is given, or there is no such folder.

    Example:
        >>> data_root(".").is_dir()
        True
    """
    given = root or os.environ.get("CNF_DATA")
    if not given:
        raise DataError(
            "expected a folder of downloaded data, got none; pass --data-root (root=... in Python) "
            "or set the environment variable CNF_DATA"
        )
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"expected a folder of downloaded data, got {folder}, which is no folder; correct --data-root "
            "(root=... in Python) or the environment variable CNF_DATA"
        )
    return folder
