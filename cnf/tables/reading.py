"""Tables from files and objects: CSV in all its forms, Parquet, Arrow, Excel, numpy, pandas, Polars."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.errors import DataError
from cnf.tables.cells import Typed, has_decimal_comma, typed
from cnf.tables.layout import BLANKS, Layout, decoded, default_names, layout_of

if TYPE_CHECKING:
    import polars as pl

SHOWN = 5  # rows that a message lists before it says "…"
LONGEST = 60  # characters of a cell that a message shows


@dataclass(frozen=True, eq=False)
class Reading:
    """A table as it was read, and what was understood.

    Attributes:
        frame: The rows; empty cells are null.
        name: What to call the table, the file's name without its ending.
        header: The line of the file that the names are from, counted from 1; None where the file names no columns.
        notes: What a person should know of how the file was read, a sentence each.
        mixed: For columns of text in which nearly all cells are numbers or dates: an error that names the first other.
    """

    frame: pl.DataFrame
    name: str
    header: int | None = None
    notes: tuple[str, ...] = ()
    mixed: dict[str, DataError] = field(default_factory=dict)


def read(source: Any, *, header: bool | None = None, sheet: str | None = None, text: Collection[str] = ()) -> Reading:
    """A table from a file or an object, with the types its cells have.

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
        >>> _ = path.write_text("city;turnover\\nLyon;1.204,5\\nBrest;980,0\\n")
        >>> read(path).frame.rows()
        [('Lyon', 1204.5), ('Brest', 980.0)]
    """
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        return _reader(path)(path, header, sheet, text)
    return Reading(_checked("the table", frame_of(source)), "table")


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
        return pl.DataFrame(dict(zip(default_names(columns.shape[1]), columns.T, strict=True)))
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


def _checked(where: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, with rows and columns, and null in the place of NaN."""
    if not frame.width or not frame.height:
        raise DataError(f"{where}: expected rows and columns, got a table of shape {frame.shape}")
    return frame.fill_nan(None)


# Text -------------------------------------------------------------------------------------------------------


def _read_text(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    content = decoded(path)
    layout = layout_of(str(path), content, header)
    frame = _strings(path, content, layout)
    frame, notes = _without_indices(frame, layout)
    _check_names(path, frame.columns, layout)
    comma = layout.separator != "," and has_decimal_comma(frame.iter_columns())
    read_columns = {
        name: Typed(frame[name]) if name in text else typed(frame[name], decimal_comma=comma) for name in frame.columns
    }
    if layout.units is not None:
        notes.append(f"line {layout.units} was taken for the units of the columns")
    notes += [f"{name}: {column.note}" for name, column in read_columns.items() if column.note]
    mixed = {
        name: _mixed(path, content, layout, name, frame[name], column)
        for name, column in read_columns.items()
        if column.bad is not None
    }
    values = frame.with_columns(column.values.alias(name) for name, column in read_columns.items())
    return Reading(_checked(str(path), values), path.name.split(".")[0], layout.header, tuple(notes), mixed)


def _strings(path: Path, content: str, layout: Layout) -> pl.DataFrame:
    """All cells as they are written."""
    import polars as pl

    body = content.split("\n", layout.first - 1)[layout.first - 1]
    separator = layout.separator
    if separator == BLANKS:
        body, separator = "\n".join("\t".join(line.split()) for line in body.splitlines()), "\t"
    try:
        frame = pl.read_csv(
            io.BytesIO(body.encode()), has_header=False, separator=separator, infer_schema=False, quote_char='"'
        )
    except pl.exceptions.PolarsError as error:
        _check_lines(path, content, layout)
        raise DataError(f"{path}: expected rows of cells, got a file that cannot be cut into them ({error})") from error
    width = len(layout.names) + layout.row_names
    if frame.width != width or frame[:, -1].null_count():
        _check_lines(path, content, layout)
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    names = ["", *layout.names] if layout.row_names else layout.names
    return frame.rename(
        {old: f"{place} {new}" for place, (old, new) in enumerate(zip(frame.columns, names, strict=True))}
    )


def _check_lines(path: Path, content: str, layout: Layout) -> None:
    """Raises at the first line with another number of cells than the others, or with nothing but empty ones."""
    width = len(layout.names) + layout.row_names
    for line, cells in _rows(path, content, layout):
        if len(cells) != width:
            raise DataError(
                f"{path}, line {line}: expected {width} cells, got {len(cells)}; complete or remove the line"
            )
        if not any(cells):
            raise DataError(f"{path}, line {line}: expected values, got nothing but empty cells; remove the line")


def _rows(path: Path, content: str, layout: Layout) -> Sequence[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its last line."""
    lines = content.splitlines()[layout.first - 1 :]
    if layout.separator == BLANKS:
        return [(number, line.split()) for number, line in enumerate(lines, layout.first) if line.strip()]
    reader = csv.reader(lines, delimiter=layout.separator)
    try:
        return [
            (layout.first - 1 + reader.line_num, [cell.strip() for cell in cells])
            for cells in reader
            if len(cells) > 1 or "".join(cells).strip()
        ]
    except csv.Error as error:
        raise DataError(
            f"{path}: expected rows of cells, got a file that cannot be cut into them ({error}); "
            "look for a quotation mark that is not closed"
        ) from error


def _without_indices(frame: pl.DataFrame, layout: Layout) -> tuple[pl.DataFrame, list[str]]:
    """The frame without names of rows, a numbering of the rows and empty last columns, and what was left out."""
    notes, names = [], [column.split(" ", 1)[1] for column in frame.columns]
    while names and not names[-1] and frame[:, -1].null_count() == frame.height:
        frame, names = frame[:, :-1], names[:-1]
        notes.append("an empty last column was left out")
    if layout.row_names or (layout.header and not names[0] and frame[:, 0].n_unique() == frame.height):
        frame, names = frame[:, 1:], names[1:]
        notes.append("the first column has no name and no value twice: it was taken for names of the rows and left out")
    return frame.rename(dict(zip(frame.columns, _distinguished(names), strict=True))), notes


def _distinguished(names: Sequence[str]) -> list[str]:
    """The names, those that stand there again with their place, for a frame takes none twice."""
    return [name if names.index(name) == place else f"{name}\n{place}" for place, name in enumerate(names)]


def _check_names(path: Path, names: Sequence[str], layout: Layout) -> None:
    where, counts = f"{path}, line {layout.header}", Counter(name.split("\n")[0] for name in names)
    if "" in counts:
        raise DataError(
            f"{where}: expected a name for each column, got none for column {list(names).index('') + 1} of "
            f"{len(names)}; name it, or drop it"
        )
    if twice := [repr(name) for name, count in counts.items() if count > 1]:
        raise DataError(f"{where}: expected distinct column names, got {', '.join(twice)} twice; rename them")


def _mixed(path: Path, content: str, layout: Layout, name: str, cells: pl.Series, column: Typed) -> DataError:
    assert column.bad is not None
    line = _rows(path, content, layout)[column.bad][0]
    cell = cells[column.bad]
    shown = repr(cell if len(cell) <= LONGEST else cell[:LONGEST] + "…")
    return DataError(
        f"{path}, line {line}, column {name!r}: expected {column.wanted} as in the other rows, got {shown}; "
        "correct the cell, empty it, declare the column a category, or drop it"
    )


# Other files ------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    import polars as pl

    return Reading(_checked(str(path), _opened(path, pl.read_parquet, "Parquet")), path.stem)


def _read_arrow(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    import polars as pl

    return Reading(_checked(str(path), _opened(path, pl.read_ipc, "Arrow")), path.stem)


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
    return Reading(_checked(str(path), full[sheet or next(iter(full))]), path.stem, 1 if header is not False else None)


def _read_npy(path: Path, header: bool | None, sheet: str | None, text: Collection[str]) -> Reading:
    from cnf.data.npy_files import open_npy

    return Reading(_checked(str(path), frame_of(np.asarray(open_npy(path)))), path.stem)


READERS: dict[str, Callable[[Path, bool | None, str | None, Collection[str]], Reading]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".data", ".dat"), _read_text),
    ".parquet": _read_parquet,
    **dict.fromkeys((".feather", ".arrow"), _read_arrow),
    ".xlsx": _read_excel,
    ".npy": _read_npy,
}
