"""Tables in CSV files: read by numpy, with messages that name the line and the column of a mistake."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cnf.data.table import Table, check_distinct, check_finite, default_columns, positions, shortened
from cnf.errors import DataError

MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}  # how tables write a cell without a value
LONGEST = 60  # characters of a cell that an error message shows
ENCODING = "utf-8-sig"  # UTF-8, with or without the byte order mark that spreadsheets put first


@dataclass(frozen=True)
class Layout:
    """How a CSV file is written: separator, names of the columns, lines before the numbers, line of the header."""

    delimiter: str
    columns: tuple[str, ...]
    skip: int
    header: int | None


def read_csv(path: Path, header: bool | None, only: Sequence[str] | None) -> Table:
    """Read a CSV file; see `cnf.data.load_table`."""
    layout = layout_of(path, header)
    wanted = positions(path, layout.columns, only)
    with _named(path):
        values = _numbers(path, layout, wanted)
        table = Table(values, tuple(layout.columns[i] for i in wanted), path.stem, layout.header)
        check_finite(path, table, lambda rows: _lines_of(path, layout, rows))
    return table


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of a file that is not a text or not a table name the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a text file in UTF-8, got one that cannot be read ({error}); save it as CSV in UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{path}: expected rows of cells, got a file that cannot be divided into rows ({error}); "
            "look for a quotation mark that is not closed, and save the table as CSV"
        ) from error


def layout_of(path: Path, header: bool | None) -> Layout:
    """How a CSV file is written, by its first rows."""
    with _named(path):
        return _layout(path, header)


def _layout(path: Path, header: bool | None) -> Layout:
    """Looks at the first row, and whether there is a second if the first is a header."""
    with open(path, encoding=ENCODING, newline="") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if not _is_skipped(line))
        number, line = next(lines, (0, ""))
        if "\0" in line:
            raise DataError(
                f"{path}, line {number}: expected text, got a zero byte; save the table as CSV in UTF-8, not UTF-16"
            )
        delimiter = max(",;\t", key=line.count)
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
        if header is None:
            header = any(_number(cell) is None and cell.lower() not in MISSING for cell in cells)
        if not cells or (header and next(lines, None) is None):
            came = "a header and no rows" if cells else "an empty file"
            raise DataError(f"{path}: expected rows of numbers, got {came}; check that it was written completely")
    if not header:
        return Layout(delimiter, default_columns(len(cells)), number - 1, None)
    _check_header(f"{path}, line {number}", cells)
    return Layout(delimiter, tuple(cells), number, number)


def _is_skipped(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _check_header(where: str, cells: list[str]) -> None:
    if "" in cells:
        raise DataError(
            f"{where}: expected a name for each column, got none for column {cells.index('') + 1} of "
            f"{len(cells)}; name it, or drop it if it is a row index or an empty last column"
        )
    check_distinct(cells, where)


def _numbers(path: Path, layout: Layout, wanted: Sequence[int]) -> np.ndarray:
    """Read by the parser of numpy, which is fast; where it fails by that of Python, which can name the cell."""
    width = len(layout.columns)
    ignored = {column: _nothing for column in range(width) if column not in wanted}
    try:
        loadtxt = partial(np.loadtxt, comments=None, quotechar='"', ndmin=2, encoding=ENCODING)
        values: np.ndarray = loadtxt(path, delimiter=layout.delimiter, skiprows=layout.skip, converters=ignored or None)
    except ValueError:
        return _parse(path, layout, wanted)
    if values.shape[1] != width:
        return _parse(path, layout, wanted)
    return values[:, wanted] if ignored or list(wanted) != sorted(wanted) else values


def _nothing(cell: str) -> float:
    return 0.0


def _rows(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """The rows after the header that are not blank, each with the number of its line in the file."""
    with open(path, encoding=ENCODING, newline="") as file:
        for _ in range(layout.skip):
            next(file)
        reader = csv.reader(file, delimiter=layout.delimiter)
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield layout.skip + reader.line_num, [cell.strip() for cell in cells]


def _parse(path: Path, layout: Layout, wanted: Sequence[int]) -> np.ndarray:
    """Parse cell by cell, and raise at the first that is not a number."""
    parsed = []
    for line, cells in _rows(path, layout):
        if len(cells) != len(layout.columns):
            raise DataError(
                f"{path}, line {line}: expected {len(layout.columns)} cells as in the first row, "
                f"got {len(cells)}; complete or remove the line"
            )
        numbers = [_number(cells[column]) for column in wanted]
        if None in numbers:
            column = wanted[numbers.index(None)]
            raise _cell_error(f"{path}, line {line}, column {layout.columns[column]!r}", cells[column])
        parsed.append(numbers)
    if not parsed:
        raise DataError(f"{path}: expected rows of numbers, got none; check that it was written completely")
    return np.array(parsed, dtype=np.float64)


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)  # only Python reads 1_000 as a number
    except ValueError:
        return None


def _cell_error(where: str, cell: str) -> DataError:
    if cell.lower() in MISSING:
        return DataError(f"{where}: expected a number, got a missing value ({cell!r}); fill it or remove the row")
    if "\n" in cell or "\r" in cell:
        return DataError(f"{where}: expected a number, got several lines; close the quotation mark before them")
    shown = repr(cell if len(cell) <= LONGEST else cell[:LONGEST] + "…")
    return DataError(
        f"{where}: expected a number, got the text {shown}; encode text as numbers or drop "
        "the column (the decimal sign is '.', cells are separated by ',', ';' or tab)"
    )


def _lines_of(path: Path, layout: Layout, rows: Sequence[int]) -> str:
    lines = {row: line for row, (line, _) in enumerate(_rows(path, layout))}
    return "lines " + shortened([lines[row] for row in rows])
