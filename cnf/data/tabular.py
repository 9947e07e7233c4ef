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
    r"""Read a table from a `.csv` or `.npy` file, and check that every cell is a finite number.

    A CSV file may begin with blank lines and `#` comments. Its first row is a header if one of its cells is text,
    unless `header` says otherwise. The separator is `,`, `;` or tab, whichever is most frequent in the first row.
    Without a header, and for `.npy`, the columns are called `x0, x1, …`.

    A `.npy` file holds numbers `(N, D)`, or `(N,)` for one column. float32 and float64 stay a read-only memory map,
    so the table may be larger than memory; other types are converted to float64 in memory.

    Args:
        path: The file.
        header: Whether the first row of a CSV file holds the names of the columns; None to detect it from the cells.
        only: Names of the columns to read, in the order wanted. The other columns may hold anything, text too.

    Returns:
        The table; its `header` says which line was taken as the header.

    Raises:
        DataError: The file is missing, empty or of another kind, a column is missing, or a cell is not a finite
            number. The message names the file, the column and the row (for CSV the line of the file, counted from 1).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "pump.csv"
        ...     _ = path.write_text("flow,power\n1.5,20\n2.5,31\n")
        ...     table = load_table(path)
        >>> table.columns, table.values.tolist()
        (('flow', 'power'), [[1.5, 20.0], [2.5, 31.0]])
    """
    path = Path(path)
    if _suffix(path) == ".npy":
        return read_npy(path, only)
    return read_csv(path, header, only)


def table_columns(path: str | Path, *, header: bool | None = None) -> tuple[tuple[str, ...], int | None]:
    """Names of a table's columns and the line that holds them, as `load_table` reads them, without the rows.

    Raises:
        DataError: As for `load_table`.
    """
    path = Path(path)
    if _suffix(path) == ".npy":
        return default_columns(open_npy(path).shape[1]), None
    layout = layout_of(path, header)
    return layout.columns, layout.header


def _suffix(path: Path) -> str:
    """The suffix of a file that exists and can be read."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(
            f"{path}: expected a file ending in {' or '.join(READERS)}, got the ending {path.suffix!r}; "
            "convert the table to one of them (cells separated by ',', ';' or tab need only the name .csv)"
        )
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; check the path (the current folder is {Path.cwd()})")
    return suffix
