"""Tables from files and objects: CSV in all its forms, Parquet, Arrow, Excel, numpy, pandas, Polars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.data.npy_files import open_npy
from cnf.data.table import default_columns
from cnf.errors import DataError
from cnf.tables.result import Reading, filled
from cnf.tables.text import read_text

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
        path = Path(source).expanduser()
        return _reader(path)(path, header, sheet, text)
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
        columns = table.reshape(len(table), -1)
        return pl.DataFrame(dict(zip(default_columns(columns.shape[1]), columns.T, strict=True)))
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


def _reader(path: Path) -> Callable[[Path, bool | None, str | None, Collection[str]], Reading]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in READERS:
        raise DataError(
            f"{path}: expected a file ending in {', '.join(READERS)}, got the ending {suffix!r}; "
            "export the table as .csv or .parquet"
        )
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; check the path (the current folder is {Path.cwd()})")
    return READERS[suffix]


def _read_text(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    return read_text(path, header, text)


def _read_parquet(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    import polars as pl

    return Reading(filled(str(path), _opened(path, pl.read_parquet, "Parquet")), path.stem)


def _read_arrow(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    import polars as pl

    return Reading(filled(str(path), _opened(path, pl.read_ipc, "Arrow")), path.stem)


def _opened(path: Path, reader: Callable[[Path], pl.DataFrame], kind: str) -> pl.DataFrame:
    import polars as pl

    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: expected a whole {kind} file, got one that cannot be read ({reason}); write it again"
        ) from error


def _read_excel(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    import polars as pl

    try:
        sheets: dict[str, pl.DataFrame] = pl.read_excel(path, sheet_id=0, has_header=header is not False)
    except ModuleNotFoundError as error:
        raise ImportError('Excel files need a reader: pip install "cnf[excel]", or save the sheet as .csv') from error
    full = {name: frame for name, frame in sheets.items() if frame.height}
    if sheet is None and len(full) != 1:
        raise DataError(f"{path}: expected one sheet with rows, got {', '.join(full) or 'none'}; name one of them")
    if sheet is not None and sheet not in full:
        raise DataError(f"{path} has no sheet {sheet!r} with rows: it has {', '.join(full)}")
    return Reading(filled(str(path), full[sheet or next(iter(full))]), path.stem, 1 if header is not False else None)


def _read_npy(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    return Reading(filled(str(path), frame_of(np.asarray(open_npy(path)))), path.stem)


READERS: dict[str, Callable[[Path, bool | None, str | None, Collection[str]], Reading]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".data", ".dat"), _read_text),
    ".parquet": _read_parquet,
    **dict.fromkeys((".feather", ".arrow"), _read_arrow),
    ".xlsx": _read_excel,
    ".npy": _read_npy,
}
