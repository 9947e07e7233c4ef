"""Tables of numbers: reading, checking and splitting."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cnf.arguments import Finite, Seed, Whole, checked
from cnf.errors import DataError

CHUNK = 2**21  # cells looked at together: 16 MB of float64, whatever the size of a memory map
SHOWN = 5  # rows and columns that an error message lists before it says "..."
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}  # how tables write a cell without a value
LONGEST = 60  # characters of a cell that an error message shows
ENCODING = "utf-8-sig"  # UTF-8, with or without the byte order mark that spreadsheets put first


@dataclass(frozen=True, eq=False)
class Table:
    """Finite numbers in named columns.

    Args:
        values: The cells, `(N, D)`, float32 or float64; possibly a read-only memory map.
        columns: The `D` names.
        name: What to call the table, the file's name without its ending.
        header: The line of the file that the names are from, counted from 1; None where the file names no columns.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    name: str
    header: int | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """The row numbers of the three parts of a table, integer arrays without common elements."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


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
        return _read_npy(path, only)
    return _read_csv(path, header, only)


def table_columns(path: str | Path, *, header: bool | None = None) -> tuple[tuple[str, ...], int | None]:
    """The names of a table's columns and the line they are from, as `load_table` takes them, without its rows.

    Raises:
        DataError: As for `load_table`.
    """
    path = Path(path)
    if _suffix(path) == ".npy":
        return _default_columns(open_npy(path).shape[1]), None
    layout = _checked_layout(path, header)
    return layout.columns, layout.header


def select(table: Table, context: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray | None]:
    """Separates the columns to model from those to condition on.

    Both are views of the table (nothing is read from a memory map) if their columns are evenly spaced, copies
    otherwise.

    Example:
        >>> table = Table(np.arange(6.0).reshape(2, 3), ("a", "b", "c"), "example")
        >>> x, context = select(table, ["b"])
        >>> x.tolist(), context.tolist()
        ([[0.0, 2.0], [3.0, 5.0]], [[1.0], [4.0]])

    Args:
        table: The `(N, D)` cells.
        context: Names of `C` columns, in the order wanted.

    Returns:
        `x (N, D - C)` in the table's order, and `context (N, C)`, or `None` when no name is given.

    Raises:
        DataError: A name is unknown or given twice, or no column is left.
    """
    known = f"the columns of {table.name} are {', '.join(table.columns)}"
    unknown = [name for name in context if name not in table.columns]
    if unknown:
        raise DataError(f"expected context columns that exist, got {', '.join(map(repr, unknown))}; {known}")
    if len(set(context)) < len(context):
        raise DataError(f"expected each context column once, got {', '.join(context)}; {known}")
    chosen = [table.columns.index(name) for name in context]
    kept = [index for index in range(len(table.columns)) if index not in chosen]
    if not kept:
        raise DataError(f"expected a column to model, got all as context; leave one out of the context ({known})")
    return take(table.values, kept), take(table.values, chosen) if chosen else None


def take(values: np.ndarray, columns: list[int]) -> np.ndarray:
    """Columns of an array: a view if a slice can name them, as a list of indices would read a memory map whole."""
    step = columns[1] - columns[0] if len(columns) > 1 else 1
    if step > 0 and columns == list(range(columns[0], columns[-1] + 1, step)):
        return values[:, columns[0] : columns[-1] + 1 : step]
    return values[:, columns]


def check_columns(table: Table) -> None:
    """Checks that no column is constant: its density is infinite, and standardisation would divide by zero.

    Args:
        table: The `(N, D)` cells; a memory map is read in chunks.

    Raises:
        DataError: A column has one value in all rows; the message names it and the value.
    """
    low, high = table.values[0], table.values[0]
    for _, chunk in _chunks(table.values):
        low, high = np.minimum(low, chunk.min(0)), np.maximum(high, chunk.max(0))
    constant = [f"{table.columns[i]!r} (always {low[i]:g})" for i in np.flatnonzero(low == high)]
    if constant:
        raise DataError(
            f"{table.name}: expected columns that vary, got the same value in all {len(table.values)} "
            f"rows for {_shortened(constant)}; drop such columns, a constant has no density"
        )


@checked
def split(
    n: Whole,
    *,
    seed: Seed = 0,
    fractions: Sequence[Finite] = (0.8, 0.1, 0.1),
    copies: np.ndarray | None = None,
) -> Split:
    """Shuffles `n` rows and cuts them in three: first training, then validation, last test.

    The order is `numpy.random.default_rng(seed).permutation(n)`. Validation and test have `⌊fraction · n⌋`
    rows, training has the others. Copies of a row go to the same part, about as large: validation is of rows that
    training has not seen. (Where fewer than a quarter of the rows differ, they are what repeats by itself, and are cut
    as they come.)

    Example:
        >>> parts = split(25, seed=1)
        >>> len(parts.train), len(parts.validation), len(parts.test)
        (21, 2, 2)

    Args:
        n: Number of rows.
        seed: Of the shuffle.
        fractions: The shares of training, validation and test.
        copies: A number for each row, `(n,)`, equal for copies; by default all rows count as different.

    Raises:
        DataError: The fractions are not three positive numbers of sum 1, or a part would be empty.
    """
    if len(fractions) != 3 or not all(f > 0 for f in fractions) or not math.isclose(sum(fractions), 1):
        raise DataError(
            f"expected three positive fractions of sum 1 (train, validation, test), got {fractions}; "
            "take for example (0.8, 0.1, 0.1)"
        )
    needed = math.ceil(1 / min(fractions[1:]) - 1e-9)
    if n < needed:
        raise DataError(
            f"expected at least {needed} rows, got {n}: each of the parts {fractions} needs a row; "
            "add rows, or make the smallest fraction larger"
        )
    validation, test = (int(fraction * n + 1e-9) for fraction in fractions[1:])  # 0.29 * 100 is 28.999...
    order = np.random.default_rng(seed).permutation(n)
    cuts = [n - validation - test, n - test]
    if copies is not None:
        order, cuts = _gathered(order, cuts, copies)
    return Split(*np.split(order, cuts))


def data_root(root: str | Path | None = None) -> Path:
    """The folder of downloaded data: the argument, otherwise the environment variable `CNF_DATA`.

    Raises:
        DataError: Neither is given, or there is no such folder.
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
            f"expected a folder of downloaded data, got {folder}, which is none; correct --data-root "
            "(root=... in Python) or the environment variable CNF_DATA"
        )
    return folder


# Parts of the above -----------------------------------------------------------------------------------------


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


def _positions(path: Path, columns: Sequence[str], only: Sequence[str] | None) -> list[int]:
    """Where the wanted columns are."""
    if only is None:
        return list(range(len(columns)))
    missing = [name for name in only if name not in columns]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}: expected {', '.join(only)}, "
            f"the table has {', '.join(columns)}"
        )
    return [columns.index(name) for name in only]


def _gathered(order: np.ndarray, cuts: list[int], copies: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The order with copies moved to where the first of them is, and the cuts between groups nearest to those given."""
    _, first, group = np.unique(copies[order], return_index=True, return_inverse=True)
    if len(first) == len(order) or 4 * len(first) < len(order):
        return order, cuts
    place = first[group.reshape(-1)]
    by_place = np.argsort(place, kind="stable")
    begins = np.flatnonzero(np.diff(place[by_place], prepend=-1))
    return order[by_place], [int(begins[np.abs(begins - cut).argmin()]) for cut in cuts]


def _chunks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive rows, with the number of the first: a table larger than memory is never held at once."""
    step = max(1, CHUNK // values.shape[1])
    for start in range(0, len(values), step):
        yield start, values[start : start + step]


def _shortened(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items[:SHOWN]) + (", ..." if len(items) > SHOWN else "")


def _check_distinct(names: Sequence[str], where: object) -> None:
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: expected distinct column names, got {', '.join(twice)} twice; rename them")


def _check_finite(path: Path, table: Table, locate: Callable[[Sequence[int]], str]) -> None:
    """Raises if a cell is NaN or infinite; `locate` turns row indices into the words of the message."""
    counts = np.zeros(len(table.columns), dtype=int)
    rows: list[list[int]] = [[] for _ in table.columns]
    for start, chunk in _chunks(table.values):
        bad = ~np.isfinite(chunk)
        counts += bad.sum(0)
        for column in np.flatnonzero(bad.any(0)):
            rows[column] += (start + np.flatnonzero(bad[:, column]))[: SHOWN + 1].tolist()
    bad_columns = np.flatnonzero(counts)
    found = [f"{counts[i]} in column {table.columns[i]!r} at {locate(rows[i])}" for i in bad_columns[: SHOWN + 1]]
    if found:
        raise DataError(
            f"{path}: expected finite numbers, got {counts.sum()} NaN or infinite cells: "
            f"{_shortened(found)}; remove these rows or fill the cells (a number beyond 1.8e308 reads as infinite)"
        )


# CSV --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """How a CSV file is written: its delimiter, its columns, how many lines come before the numbers."""

    delimiter: str
    columns: tuple[str, ...]
    skip: int
    header: int | None


def _read_csv(path: Path, header: bool | None, only: Sequence[str] | None) -> Table:
    layout = _checked_layout(path, header)
    wanted = _positions(path, layout.columns, only)
    with _named(path):
        values = _numbers(path, layout, wanted)
        table = Table(values, tuple(layout.columns[i] for i in wanted), path.stem, layout.header)
        _check_finite(path, table, lambda rows: _lines_of(path, layout, rows))
    return table


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of a file that is no text, or no table, name it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a text file in UTF-8, got one that cannot be read ({error}); save it as CSV in UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{path}: expected rows of cells, got a file that cannot be cut into them ({error}); "
            "look for a quotation mark that is not closed, and save the table as CSV"
        ) from error


def _checked_layout(path: Path, header: bool | None) -> _Layout:
    with _named(path):
        return _layout(path, header)


def _layout(path: Path, header: bool | None) -> _Layout:
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
        return _Layout(delimiter, _default_columns(len(cells)), number - 1, None)
    _check_header(f"{path}, line {number}", cells)
    return _Layout(delimiter, tuple(cells), number, number)


def _is_skipped(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _check_header(where: str, cells: list[str]) -> None:
    if "" in cells:
        raise DataError(
            f"{where}: expected a name for each column, got none for column {cells.index('') + 1} of "
            f"{len(cells)}; name it, or drop it if it is a row index or an empty last column"
        )
    _check_distinct(cells, where)


def _default_columns(count: int) -> tuple[str, ...]:
    return tuple(f"x{index}" for index in range(count))


def _numbers(path: Path, layout: _Layout, wanted: Sequence[int]) -> np.ndarray:
    """numpy's parser, which is fast, and where it fails Python's, which can name the cell."""
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


def _rows(path: Path, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    """The rows after the header that are not blank, each with the number of its line in the file."""
    with open(path, encoding=ENCODING, newline="") as file:
        for _ in range(layout.skip):
            next(file)
        reader = csv.reader(file, delimiter=layout.delimiter)
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield layout.skip + reader.line_num, [cell.strip() for cell in cells]


def _parse(path: Path, layout: _Layout, wanted: Sequence[int]) -> np.ndarray:
    """Parses cell by cell, and raises at the first that is not a number."""
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
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number, nobody else does
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


def _lines_of(path: Path, layout: _Layout, rows: Sequence[int]) -> str:
    lines = {row: line for row, (line, _) in enumerate(_rows(path, layout))}
    return "lines " + _shortened([lines[row] for row in rows])


# NPY --------------------------------------------------------------------------------------------------------


def _read_npy(path: Path, only: Sequence[str] | None) -> Table:
    values = open_npy(path)
    columns = _default_columns(values.shape[1])
    wanted = _positions(path, columns, only)
    table = Table(take(values, wanted), tuple(columns[i] for i in wanted), path.stem)
    _check_finite(path, table, lambda rows: f"rows {_shortened(rows)} (counted from 0)")
    return table


def open_npy(path: Path) -> np.ndarray:
    """An array `(N, D)` of float32 or float64, as a memory map if the file holds that.

    Raises:
        DataError: The file holds something else, or is damaged.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the head of the file as Python, which can fail in any way
        raise DataError(
            f"{path}: expected an array of numbers, got a file that numpy cannot map "
            f"({type(error).__name__}: {str(error)[:200]}); "
            "write it again with numpy.save, with a dtype of numbers and not of objects, or download it again"
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        came = getattr(values, "dtype", "several arrays")
        remedy = "save the numbers alone, as array.astype('float32')"
        if getattr(came, "kind", "") == "c":
            remedy = "save real and imaginary parts as columns, as array.view(array.real.dtype)"
        raise DataError(f"{path}: expected one array of real numbers, got {came}; {remedy}")
    if values.ndim not in (1, 2) or values.size == 0:
        raise DataError(
            f"{path}: expected an array of shape (rows, columns), got {values.shape}; "
            "reshape it to one row per sample, none empty"
        )
    values = values if values.ndim == 2 else values[:, None]
    return values if values.dtype in (np.float32, np.float64) else _as_doubles(path, values)


def _as_doubles(path: Path, values: np.ndarray) -> np.ndarray:
    try:
        return values.astype(np.float64)
    except MemoryError as error:
        raise DataError(
            f"{path}: {values.shape} numbers of {values.dtype} do not fit in memory as float64; "
            "save them as float32 or float64, which stay on disk"
        ) from error


READERS = (".csv", ".npy")
