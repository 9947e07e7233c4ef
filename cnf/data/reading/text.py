"""Tables as text: CSV in all the forms in which people write it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnf.data.reading.cells import Typed, has_decimal_comma, typed
from cnf.data.reading.layout import BLANKS, Layout, decoded, layout_of
from cnf.data.reading.result import Reading, Style, filled
from cnf.errors import DataError

if TYPE_CHECKING:
    import polars as pl

LONGEST = 60  # characters of a cell that a message shows


def read_text(path: Path, header: bool | None, text: Collection[str]) -> Reading:
    """The table in a file of text; see `read`."""
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
    return Reading(
        filled(str(path), values), path.name.split(".")[0], layout.header, tuple(notes), mixed,
        lambda: [line for line, _ in _rows(path, decoded(path), layout)],
        Style(layout.separator, "," if comma else ".", {name: c.form for name, c in read_columns.items() if c.form}),
    )  # fmt: skip


def _strings(path: Path, content: str, layout: Layout) -> pl.DataFrame:
    """All cells as they are written."""
    import polars as pl

    body = content.split("\n", layout.first - 1)[layout.first - 1]
    separator = layout.separator
    if separator == BLANKS:
        body, separator = "\n".join("\t".join(line.split()) for line in body.split("\n")), "\t"
    try:
        frame = pl.read_csv(
            io.BytesIO(body.encode()), has_header=False, separator=separator, infer_schema=False, quote_char='"'
        )
    except pl.exceptions.PolarsError as error:
        _check_lines(path, content, layout, of_one_line=True)
        raise DataError(
            f"{path}: expected rows of cells, got a file that cannot be cut into them "
            f"({(str(error).splitlines() or [''])[0][:LONGEST]}); look for a quotation mark that is not closed"
        ) from error
    width = len(layout.names) + layout.row_names
    if frame.width != width or frame.width == 1 or frame[:, -1].null_count():
        _check_lines(path, content, layout)
        first, *others = frame.columns
        blank = pl.col(first).fill_null("").str.strip_chars() == ""
        frame = frame.filter(~pl.all_horizontal(blank, *(pl.col(other).is_null() for other in others)))
    if frame.width != width:
        raise DataError(f"{path}: expected {width} cells in each row, got {frame.width}; look at its quotation marks")
    names = ["", *layout.names] if layout.row_names else layout.names
    return frame.rename(
        {old: f"{place} {new}" for place, (old, new) in enumerate(zip(frame.columns, names, strict=True))}
    )


def _check_lines(path: Path, content: str, layout: Layout, *, of_one_line: bool = False) -> None:
    """Raises at the first line with another number of cells than the others, or with nothing but empty ones."""
    width = len(layout.names) + layout.row_names
    for line, cells in _rows(path, content, layout):
        if of_one_line and any("\n" in cell for cell in cells):
            raise DataError(
                f"{path}, line {line}: expected cells of one line, got several lines in one; close its quotation mark"
            )
        if len(cells) != width:
            raise DataError(
                f"{path}, line {line}: expected {width} cells, got {len(cells)}; complete or remove the line"
            )
        if not any(cells):
            raise DataError(f"{path}, line {line}: expected values, got nothing but empty cells; remove the line")


def _rows(path: Path, content: str, layout: Layout) -> Sequence[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its first line."""
    lines = content.split("\n")[layout.first - 1 :]
    if layout.separator == BLANKS:
        return [(number, line.split()) for number, line in enumerate(lines, layout.first) if line.strip()]
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=layout.separator)
    rows, first = [], layout.first
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                rows.append((first, [cell.strip() for cell in cells]))
            first = layout.first + reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path}: expected rows of cells, got a file that cannot be cut into them ({error}); "
            "look for a quotation mark that is not closed"
        ) from error
    return rows


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
