"""How a text file with a table is written: its encoding, separator, header and units."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnf.data.reading.cells import MISSING, is_number
from cnf.data.table import default_columns
from cnf.errors import DataError

SEPARATORS = ("\t", ";", "|", ",")  # a file that can be cut by several is cut by the first of them
BLANKS = " "  # stands for any number of blanks and tabs
SAMPLE = 200  # lines that are looked at
AGREEING = 0.9  # of the lines must have the same number of cells


@dataclass(frozen=True)
class Layout:
    """How a table is written.

    Attributes:
        separator: One character between cells; `BLANKS` for runs of blanks.
        names: Of the columns.
        first: Line of the first row, counted from 1.
        header: Line that the names are from; None where the file names no columns.
        units: Line with the units of the columns, which is left out.
        row_names: Whether the rows begin with a name for which the header has none.
    """

    separator: str
    names: tuple[str, ...]
    first: int
    header: int | None = None
    units: int | None = None
    row_names: bool = False

    def cells(self, line: str) -> list[str]:
        """A line cut into its cells, without blanks around them."""
        return cut(line, self.separator)


def decoded(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or Latin-1, compressed by gzip or not.

    Raises:
        DataError: The file is damaged, or holds no text.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{path}: expected a whole gzip file, got a damaged one ({error}); copy it again"
            ) from error
    for encoding in _encodings(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise DataError(f"{path}: expected a table as text, got zero bytes in it; export it as CSV in UTF-8")


def _encodings(data: bytes) -> Sequence[str]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return ("utf-16",)
    odd, even = data[1:2000:2].count(0), data[:2000:2].count(0)
    if max(odd, even) > len(data[:2000]) / 4:  # letters of Latin scripts, figures and separators have a zero byte there
        return ("utf-16-le" if odd > even else "utf-16-be",)
    return ("utf-8-sig", "cp1252", "latin-1")


def cut(line: str, separator: str) -> list[str]:
    """A line cut into its cells, without blanks around them."""
    if separator == BLANKS:
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]


def layout_of(where: str, text: str, header: bool | None) -> Layout:
    """How a table is written, seen by its first lines.

    Args:
        where: The file, for messages.
        text: All of it.
        header: Whether the first line names the columns; None to see it by its cells.

    Raises:
        DataError: There are no rows, or columns without a name or with the same.
    """
    lines = [(number, line) for number, line in enumerate(_head(text), 1) if not _is_skipped(line)]
    if not lines:
        raise DataError(f"{where}: expected rows of cells, got an empty file; check that it was written completely")
    separator = _separator([line for _, line in lines])
    rows = [cut(line, separator) for _, line in lines]
    if header is None:
        header = _is_header(rows)
    if not header:
        return Layout(separator, default_columns(len(rows[0])), lines[0][0])
    if len(rows) == 1:
        raise DataError(
            f"{where}: expected rows of cells, got a header and no rows; check that it was written completely"
        )
    units = _is_units(rows)
    if units and len(rows) == 2:
        raise DataError(f"{where}: expected rows of cells, got a header and units and no rows")
    row_names = Counter(map(len, rows[1:])).most_common(1)[0][0] == len(rows[0]) + 1 and _are_names(rows[1 + units :])
    return Layout(
        separator, tuple(rows[0]), lines[1 + units][0], lines[0][0], lines[1][0] if units else None, row_names
    )


def _head(text: str) -> list[str]:
    end = 0
    for _ in range(SAMPLE):
        end = text.find("\n", end) + 1
        if not end:
            return text.split("\n")
    return text[: end - 1].split("\n")


def _is_skipped(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _separator(lines: Sequence[str]) -> str:
    """The first separator that cuts most lines into the same number of cells, more than one, and the header too."""
    fitting = []
    for separator in (*SEPARATORS, BLANKS):
        widths = Counter(len(cut(line, separator)) for line in lines[1:] or lines)
        width, count = widths.most_common(1)[0]
        if width > 1 and count >= AGREEING * widths.total():
            missing = width - len(cut(lines[0], separator))
            fitting.append((missing if missing in (0, 1) else 2, separator))  # 1 where rows have names
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    return max(SEPARATORS[::-1], key=lines[0].count)  # rows of different lengths: the reader names the line


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has text where the others have numbers, or, in a table of text, what is never repeated."""
    first, rest = rows[0], rows[1:]
    columns = [[row[place] for row in rest if place < len(row)] for place in range(len(first))]
    texts = [place for place, cell in enumerate(first) if not _may_be_number(cell)]
    if any(all(map(_may_be_number, columns[place])) for place in texts):
        return True
    if any(map(is_number, first)) or not texts:
        return False
    return len(set(first)) == len(first) and not any(
        cell in column for cell, column in zip(first, columns, strict=True)
    )


def _is_units(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the row after the header has text where all others have numbers, and a number nowhere."""
    second, rest = rows[1], rows[2:]
    if not rest or any(map(is_number, second)):
        return False
    below = [[row[place] for row in rest if place < len(row)] for place in range(len(second))]
    numeric = [any(map(is_number, column)) and all(map(_may_be_number, column)) for column in below]
    return any(of_numbers and not _may_be_number(cell) for of_numbers, cell in zip(numeric, second, strict=True))


def _may_be_number(cell: str) -> bool:
    return is_number(cell) or cell.lower() in MISSING


def _are_names(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first cells are text, or count the rows."""
    firsts = [row[0] for row in rows]
    begin = int(firsts[0]) if firsts[0].isdecimal() else 0
    return not any(map(is_number, firsts)) or firsts == [str(begin + place) for place in range(len(firsts))]
