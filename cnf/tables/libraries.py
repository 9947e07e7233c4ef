"""Tables in the library that they came in: Polars, pandas, Arrow, numpy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def library_of(table: Any) -> str:
    """The library that a table is of; "polars" for a path, or another object.

    Example:
        >>> import numpy as np
        >>> library_of(np.zeros((2, 2)))
        'numpy'
    """
    if isinstance(table, np.ndarray):
        return "numpy"
    name = type(table).__module__.partition(".")[0]
    return {"pandas": "pandas", "pyarrow": "arrow"}.get(name, "polars")


def in_library(frame: pl.DataFrame, library: str, dtypes: dict[str, str] | None = None) -> Any:
    """A frame of Polars as a table of a library.

    Args:
        frame: The table.
        library: "polars", "pandas", "arrow" or "numpy".
        dtypes: Types of the columns in pandas, where they had others than Polars gives.

    Raises:
        DataError: The library is not there, or numpy for columns that are no numbers.
    """
    if library not in LIBRARIES:
        raise DataError(f"expected a library among {', '.join(LIBRARIES)}, got {library!r}")
    return LIBRARIES[library](frame, dtypes or {})


def pandas_types(table: Any) -> dict[str, str]:
    """The types of a pandas table's columns by their names; none for other tables."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(table, pandas.DataFrame):
        return {}
    return {str(name): str(dtype) for name, dtype in table.dtypes.items()}


def _pandas(frame: pl.DataFrame, dtypes: dict[str, str]) -> Any:
    import pandas

    columns = {}
    for series in frame.iter_columns():
        cells = series.to_numpy() if series.dtype.is_numeric() and not series.null_count() else series.to_list()
        column = pandas.Series(cells, name=series.name)
        wanted = dtypes.get(series.name, str(column.dtype))
        columns[series.name] = column if series.null_count() and wanted.startswith("int") else column.astype(wanted)
    return pandas.DataFrame(columns)


def _numpy(frame: pl.DataFrame, dtypes: dict[str, str]) -> np.ndarray:
    if strange := [name for name, dtype in frame.schema.items() if not (dtype.is_numeric() or dtype.is_(bool))]:
        raise DataError(f"columns {', '.join(strange)} are no numbers, so they do not fit into a numpy array")
    return frame.to_numpy()


LIBRARIES: dict[str, Callable[[pl.DataFrame, dict[str, str]], Any]] = {
    "polars": lambda frame, dtypes: frame,
    "pandas": _pandas,
    "arrow": lambda frame, dtypes: frame.to_arrow(),
    "numpy": _numpy,
}
