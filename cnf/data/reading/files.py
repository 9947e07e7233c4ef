"""Tables in files: text in all its forms, Parquet, Arrow, Excel, numpy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnf.data.npy_files import open_npy
from cnf.data.reading.result import Reading, filled
from cnf.data.reading.text import read_text
from cnf.data.table import default_columns
from cnf.errors import DataError

if TYPE_CHECKING:
    import polars as pl

LONGEST = 200  # characters of another library's message that are shown


def read_file(
    path: str | Path, *, header: bool | None = None, sheet: str | None = None, text: Collection[str] = ()
) -> Reading:
    """The table in a file; see `cnf.tables.read`."""
    path = Path(path).expanduser()
    ending = ending_of(path)
    if ending not in READERS:
        raise DataError(
            f"{path}: expected a file ending in {', '.join(READERS)}, got the ending {ending!r}; "
            "export the table as .csv or .parquet"
        )
    check_exists(path)
    return READERS[ending](path, header, sheet, text)


def check_exists(path: Path) -> None:
    """Raise a `DataError` if there is no such file."""
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; check the path (the current folder is {Path.cwd()})")


def ending_of(path: str | Path) -> str:
    """The last suffix in lower case, that before `.gz` of a file that is compressed."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def is_table(path: str | Path) -> bool:
    """Whether a path has the ending of a table."""
    return ending_of(path) in READERS


def _read_text(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    return read_text(path, header, text)


def _read_parquet(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    import polars as pl

    return Reading(filled(str(path), _opened(path, pl.read_parquet, "Parquet")), path.stem)


def _read_arrow(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    import polars as pl

    return Reading(filled(str(path), _opened(path, pl.read_ipc, "Arrow")), path.stem)


def _opened(path: Path, reader: Callable[[Path], pl.DataFrame], kind: str) -> pl.DataFrame:
    with whole(path, kind):
        return reader(path)


@contextmanager
def whole(path: Path, kind: str) -> Iterator[None]:
    """Errors of a binary file that cannot be read name the file."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path}: expected a whole {kind} file, got one that cannot be read ({first_line(error)}); write it again"
        ) from error


def first_line(error: Exception) -> str:
    """The beginning of another library's message."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= LONGEST else lines[0][:LONGEST] + "…"


def _read_excel(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    full = {name: frame for name, frame in _sheets(path, header).items() if frame.height}
    if sheet is None and len(full) != 1:
        raise DataError(
            f"{path}: expected one sheet with rows, got {', '.join(full) or 'none'}; "
            "choose one by its name, sheet=… in Python and --sheet on the command line"
        )
    if sheet is not None and sheet not in full:
        raise DataError(f"{path} has no sheet {sheet!r} with rows: it has {', '.join(full)}")
    return Reading(filled(str(path), full[sheet or next(iter(full))]), path.stem, 1 if header is not False else None)


def _sheets(path: Path, header: bool | None) -> dict[str, pl.DataFrame]:
    """All sheets by their names."""
    import polars as pl

    try:
        sheets = pl.read_excel(path, sheet_id=0, has_header=header is not False)
    except ModuleNotFoundError as error:
        raise ImportError('Excel files need a reader: pip install "cnf[excel]", or save the sheet as .csv') from error
    except Exception as error:  # of the reader, which has a class of its own
        raise DataError(
            f"{path}: expected an Excel file, got one that cannot be read ({first_line(error)}); save it again"
        ) from error
    if header is False:
        sheets = {name: frame.rename(_by_place(frame.columns)) for name, frame in sheets.items()}
    return sheets


def _by_place(columns: list[str]) -> dict[str, str]:
    return dict(zip(columns, default_columns(len(columns)), strict=True))


def _read_npy(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    return Reading(filled(str(path), frame_of_array(np.asarray(open_npy(path)))), path.stem)


def frame_of_array(values: np.ndarray) -> pl.DataFrame:
    """An array `(N,)` or `(N, D)` as a frame with the columns `x0, x1, …`."""
    import polars as pl

    columns = values.reshape(len(values), -1)
    return pl.DataFrame(dict(zip(default_columns(columns.shape[1]), columns.T, strict=True)))


READERS: dict[str, Callable[[Path, bool | None, str | None, Collection[str]], Reading]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".data", ".dat"), _read_text),
    ".parquet": _read_parquet,
    **dict.fromkeys((".feather", ".arrow"), _read_arrow),
    ".xlsx": _read_excel,
    ".npy": _read_npy,
}
