"""Tables from files and objects: all kinds of files, pandas, Polars, Arrow, numpy."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.data.reading import Reading, filled, frame_of_array, read_file

if TYPE_CHECKING:
    import polars as pl


def read(source: Any, *, header: bool | None = None, sheet: str | None = None, text: Collection[str] = ()) -> Reading:
    r"""A table from a file or an object, with the types its cells have.

    Text files (`.csv`, `.tsv`, `.txt`, `.data`, `.dat`, also with `.gz`) may be separated by comma, semicolon, tab, bar
    or blanks, in UTF-8, UTF-16 or Latin-1, with or without header, units below it, `#` comments above it, a row index,
    empty last columns, decimal commas, thousands separators and per cent signs. Parquet (`.parquet`), Arrow
    (`.feather`, `.arrow`) and `.npy` files keep their types. So do DataFrames of pandas and Polars, Arrow tables and
    numpy arrays.

    Args:
        source: A path, or the object.
        header: Whether the first line of a text file names the columns; None to see it by its cells.
        sheet: Which sheet of an Excel file, where it has several.
        text: Names of columns that are kept as they are written.

    Raises:
        DataError: The file cannot be read; the message names the line, the column and what to do.
        ImportError: A package that reads this kind of file is not installed; the message names the extra.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "shops.csv"
        >>> _ = path.write_text("city;turnover\nLyon;1.204,5\nBrest;980,0\n")
        >>> read(path).frame.rows()
        [('Lyon', 1204.5), ('Brest', 980.0)]
    """
    if isinstance(source, str | Path):
        return read_file(source, header=header, sheet=sheet, text=text)
    return Reading(filled("the table", frame_of(source)), "table")


def frame_of(table: Any) -> pl.DataFrame:
    """A DataFrame or lazy frame of Polars, a DataFrame of pandas, an Arrow table, a mapping or an array, as Polars'.

    Raises:
        TypeError: Something else.
    """
    import polars as pl

    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(table, pandas.DataFrame):
        return pl.DataFrame({str(name): pl.Series(_plain(table[name])) for name in table.columns})
    if isinstance(table, np.ndarray) and table.ndim in (1, 2) and table.dtype.kind in "fiub":
        return frame_of_array(table)
    if hasattr(table, "__arrow_c_stream__") or isinstance(table, dict):
        return pl.DataFrame(table)
    raise TypeError(
        f"expected a path, a DataFrame of pandas or Polars, an Arrow table or a numpy array of numbers, "
        f"got {type(table).__name__}"
    )


def _plain(series: Any) -> Any:
    """A pandas column as numpy where it is numbers, else as a list with None for empty cells."""
    if series.dtype.kind in "iufbM" and type(series.dtype).__module__.startswith("numpy"):
        return series.to_numpy()
    return [None if empty else value for value, empty in zip(series.tolist(), series.isna(), strict=True)]
