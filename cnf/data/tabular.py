"""Tables of numbers in files: reading and checking."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnf.data.npy_files import open_npy, read_npy
from cnf.data.reading import Reading, ending_of, read_file
from cnf.data.table import Table, check_finite, default_columns, positions
from cnf.errors import DataError

if TYPE_CHECKING:
    import polars as pl

LONGEST = 60  # characters of a cell that a message shows


def load_table(
    path: str | Path, *, header: bool | None = None, only: Sequence[str] | None = None, sheet: str | None = None
) -> Table:
    r"""Read a table from a file, and check that every cell is a finite number.

    Files are read as by `cnf.tables.read`: text in all its forms, Parquet, Arrow, Excel. Without a header, and for
    `.npy`, the columns are called `x0, x1, …`. For tables with text, dates or empty cells, see `cnf.tables`.

    A `.npy` file holds numbers `(N, D)`, or `(N,)` for one column. float32 and float64 stay a read-only memory map,
    so the table may be larger than memory; other types are converted to float64 in memory.

    Args:
        path: The file.
        header: Whether the first line of a text file holds the names of the columns; None to see it by its cells.
        only: Names of the columns to read, in the order wanted. The other columns may hold anything, text too.
        sheet: Which sheet of an Excel file, where it has several.

    Returns:
        The table; its `header` says which line was taken as the header.

    Raises:
        DataError: The file is missing, empty or of another kind, a column is missing, or a cell is not a finite
            number. The message names the file, the column and the row (for text the line of the file, counted from 1).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "pump.csv"
        ...     _ = path.write_text("flow,power\n1.5,20\n2.5,31\n")
        ...     table = load_table(path)
        >>> table.columns, table.values.tolist()
        (('flow', 'power'), [[1.5, 20.0], [2.5, 31.0]])
    """
    return open_table(path, header=header, sheet=sheet).table(only)


class OpenTable:
    """A table in a file whose columns are known and whose numbers are not checked yet.

    Attributes:
        columns: Names of all columns.
        header: Line that they are from; None if the file has no names.
        reading: What was read; None of a `.npy` file, which stays on disk.
    """

    def __init__(self, path: Path, reading: Reading | None) -> None:
        self.path, self.reading = path, reading
        if reading is None:
            self.columns, self.header = default_columns(open_npy(path).shape[1]), None
        else:
            self.columns, self.header = tuple(reading.frame.columns), reading.header

    @property
    def named(self) -> bool:
        """Whether the file names its columns: text says so in its header, Parquet, Arrow and Excel always."""
        return self.header is not None or (self.reading is not None and self.reading.lines is None)

    def table(self, only: Sequence[str] | None = None) -> Table:
        """The given columns as finite numbers; see `load_table`."""
        if self.reading is None:
            return read_npy(self.path, only)
        return numbers_of(self.path, self.reading, only)


def open_table(
    path: str | Path, *, header: bool | None = None, sheet: str | None = None, text: Collection[str] = ()
) -> OpenTable:
    """A table in a file; see `load_table`. Columns of `text` are kept as they are written."""
    path = Path(path).expanduser()
    is_npy = ending_of(path) == ".npy" and path.is_file()
    return OpenTable(path, None if is_npy else read_file(path, header=header, sheet=sheet, text=text))


def numbers_of(path: Path, reading: Reading, only: Sequence[str] | None = None) -> Table:
    """Columns of a table as finite numbers.

    Raises:
        DataError: A column is missing, or a cell is not a finite number; the message names it.
    """
    wanted = [reading.frame.columns[place] for place in positions(path, reading.frame.columns, only)]
    for name in wanted:
        if name in reading.mixed:
            raise reading.mixed[name]
        _check_numeric(path, reading, reading.frame[name])
    values = np.stack([reading.frame[name].cast(_double()).fill_null(np.nan).to_numpy() for name in wanted], 1)
    table = Table(values, tuple(wanted), reading.name, reading.header)
    check_finite(path, table, reading.located, what="empty or infinite", advice=", or model them with cnf.TableFlow")
    return table


def _double() -> type[pl.Float64]:
    import polars as pl

    return pl.Float64


def _check_numeric(path: Path, reading: Reading, cells: pl.Series) -> None:
    import polars as pl

    if cells.dtype.is_numeric() or cells.dtype in (pl.Boolean, pl.Null):
        return
    is_text = cells.dtype == pl.String
    row = _not_a_number(cells) if is_text else int(cells.is_not_null().arg_max() or 0)
    cell = str(cells[row])
    shown = repr(cell if len(cell) <= LONGEST else cell[:LONGEST] + "…")
    kind = "text" if is_text else f"{cells.dtype}".lower()
    raise DataError(
        f"{path}, {reading.located([row])}, column {cells.name!r}: expected a number, got the {kind} {shown}; encode "
        "it as numbers or drop the column, or model the table as it is with cnf.TableFlow (cnf fit --model any_cnf)"
    )


def _not_a_number(cells: pl.Series) -> int:
    import polars as pl

    return int((cells.is_not_null() & cells.cast(pl.Float64, strict=False).is_null()).arg_max() or 0)
