"""Tables of numbers in files: reading and checking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnf.data.csv_files import layout_of, read_csv
from cnf.data.npy_files import open_npy, read_npy
from cnf.data.table import Table, default_columns
from cnf.errors import DataError

READERS = (".csv", ".npy")


def load_table(path: str | Path, *, header: bool | None = None, only: Sequence[str] | None = None) -> Table:
    """Reads a table from a `.csv` or a `.npy` file, and checks that every cell is a finite number.

    A CSV file may begin with blank lines and `#` comments. Its first row is a header if one of its cells is
    text, unless `header` says otherwise; `Table.header` says what was taken. Cells are separated by `,`, `;` or tab,
    whichever the first row has most of. Without a header, and for `.npy`, columns are called `x0, x1, ...`.

    A `.npy` file holds `(N, D)` numbers, or `(N,)` for one column. float32 and float64 stay a read-only memory
    map, so the table may be larger than memory; other types are converted to float64 in memory.

    Args:
        path: The file.
        header: Whether the first row of a CSV file names the columns; None to see it by its cells.
        only: Names of the columns to read, in the order wanted. The others may hold anything, text too.

    Returns:
        The table, `(N, D)` cells.

    Raises:
        DataError: The file is missing, empty or of another kind, a column is missing, or a cell is not a finite
            number; it names the file, the column and the row (for CSV the line of the file, counted from 1).
    """
    path = Path(path)
    if _suffix(path) == ".npy":
        return read_npy(path, only)
    return read_csv(path, header, only)


def table_columns(path: str | Path, *, header: bool | None = None) -> tuple[tuple[str, ...], int | None]:
    """The names of a table's columns and the line they are from, as `load_table` takes them, without its rows.

    Raises:
        DataError: As for `load_table`.
    """
    path = Path(path)
    if _suffix(path) == ".npy":
        return default_columns(open_npy(path).shape[1]), None
    layout = layout_of(path, header)
    return layout.columns, layout.header


def _suffix(path: Path) -> str:
    """The ending of a file that exists and can be read."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(
            f"{path}: expected a file ending in {' or '.join(READERS)}, got the ending {path.suffix!r}; "
            "convert the table to one of them (cells separated by ',', ';' or tab need only the name .csv)"
        )
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; check the path (the current folder is {Path.cwd()})")
    return suffix
