"""Cells as people write them, to numbers and dates: decimal commas, thousands, per cent, empty cells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-"}  # how tables write a cell without a value
NO_TEXT = MISSING - {"none", "-"}  # and how columns of text do, where those two may be levels
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y")
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S%.f")
MOSTLY = 0.9  # of the cells: a column with as many numbers is one of numbers with mistakes


@dataclass(frozen=True)
class Writing:
    """A way to write numbers.

    Attributes:
        name: An example, for messages.
        pattern: Of a whole cell.
        thousands: What is left out.
        decimal: What stands for the decimal point.
    """

    name: str
    pattern: str
    thousands: str
    decimal: str


POINT = Writing("1234.5", r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", "", ".")
THOUSANDS = Writing("1,234.5", r"^[+-]?\d{1,3}(,\d{3})*(\.\d+)?$", ",", ".")
BLANK = Writing("1 234.5", r"^[+-]?\d{1,3}([ '’\x{a0}\x{202f}]\d{3})*(\.\d+)?$", " '’\u00a0\u202f", ".")
COMMA = Writing("1234,5", r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$", "", ",")
COMMA_THOUSANDS = Writing("1.234,5", r"^[+-]?\d{1,3}(\.\d{3})*(,\d+)?$", ".", ",")
COMMA_BLANK = Writing("1 234,5", r"^[+-]?\d{1,3}([ '’\x{a0}\x{202f}]\d{3})*(,\d+)?$", " '’\u00a0\u202f", ",")
WITH_POINT = (POINT, THOUSANDS, BLANK)
WITH_COMMA = (COMMA, COMMA_THOUSANDS, COMMA_BLANK)


@dataclass(frozen=True)
class Typed:
    """A column of cells with the type that all of them have.

    Attributes:
        values: Numbers, dates, or the text as it was.
        note: How it was read, where that is not obvious; "" where it is.
        bad: Index of the first cell that keeps a column of numbers or dates from being one; None if there is none.
        wanted: What the others are.
        form: Of dates that are not as 2024-01-31.
    """

    values: pl.Series
    note: str = ""
    bad: int | None = None
    wanted: str = ""
    form: str = ""


def is_number(cell: str) -> bool:
    """Whether a cell is a number in any of the ways people write one."""
    cell = cell.strip().removesuffix("%").strip()
    return bool(PLAIN.fullmatch(cell)) or any(_matcher(writing)(cell) for writing in (*WITH_POINT[1:], *WITH_COMMA))


def _matcher(writing: Writing) -> partial[re.Match[str] | None]:
    return partial(re.fullmatch, re.sub(r"\\x\{(\w+)\}", lambda match: chr(int(match[1], 16)), writing.pattern))


def has_decimal_comma(columns: Iterator[pl.Series]) -> bool:
    """Whether numbers are written with a decimal comma: where one column can be read in no other way."""
    return any(_is_of_commas(_without_missing(column, MISSING)) for column in columns)


def _is_of_commas(cells: pl.Series) -> bool:
    cells = cells.drop_nulls()
    with_comma = cells.filter(cells.str.contains(",", literal=True))
    if not len(with_comma) or any(_all_match(with_comma, writing) for writing in WITH_POINT):
        return False
    return any(_all_match(cells, writing) for writing in WITH_COMMA)


def typed(cells: pl.Series, *, decimal_comma: bool = False) -> Typed:
    """A column of text as numbers or dates where its cells are such, else as text.

    Cells that stand for an empty one (`MISSING`) become null. Numbers are integers where no cell has decimals.

    Args:
        cells: Strings.
        decimal_comma: Whether `1,5` is one and a half.
    """
    numbers = _numbers(_without_missing(cells, MISSING), decimal_comma)
    if numbers.bad is None:
        return numbers
    dates = _dates(_without_missing(cells, NO_TEXT))
    if dates.bad is None:
        return dates
    text = Typed(_without_missing(cells, NO_TEXT))
    mistaken = [read for read in (numbers, dates) if read.wanted]
    return Typed(text.values, bad=mistaken[0].bad, wanted=mistaken[0].wanted) if mistaken else text


def _without_missing(cells: pl.Series, missing: set[str]) -> pl.Series:
    """The cells without blanks around them, null where they say that there is no value."""
    stripped = cells.str.strip_chars()
    return stripped.set(stripped.str.to_lowercase().is_in(list(missing)), None)


def _numbers(cells: pl.Series, decimal_comma: bool) -> Typed:
    per_cent = cells.str.ends_with("%")
    all_per_cent = bool(per_cent.any()) and bool(per_cent.drop_nulls().all())
    if all_per_cent:
        cells = cells.str.strip_chars_end("% ")
    best: Typed | None = None
    for writing in WITH_COMMA if decimal_comma else WITH_POINT:
        read = _read_as(cells, writing)
        if read.bad is None:
            return _as_shares(read) if all_per_cent else read
        if best is None or read.values.null_count() < best.values.null_count():
            best = read
    assert best is not None
    return best


def _read_as(cells: pl.Series, writing: Writing) -> Typed:
    import polars as pl

    plain = cells
    for character in writing.thousands:
        plain = plain.str.replace_all(character, "", literal=True)
    if writing.decimal != ".":
        plain = plain.str.replace(writing.decimal, ".", literal=True)
    matches = cells.str.contains(writing.pattern) | cells.str.to_lowercase().is_in(["inf", "-inf", "infinity"])
    values = plain.cast(pl.Float64, strict=False).set(~matches, None)
    bad = _first_lost(cells, values)
    mostly = len(cells) - cells.null_count() > 0 and values.count() >= MOSTLY * cells.count()
    if bad is not None:
        return Typed(values, bad=bad, wanted="a number" if mostly else "")
    whole = not plain.str.contains(r"[.eEnN]").any()
    integers = plain.cast(pl.Int64, strict=False) if whole else values
    values = integers if whole and integers.null_count() == values.null_count() else values
    return Typed(values, f"numbers written as {writing.name}" if (plain != cells).any() else "")


def _as_shares(read: Typed) -> Typed:
    return Typed(read.values / 100, "per cent as shares of 1")


def _first_lost(cells: pl.Series, values: pl.Series) -> int | None:
    lost = cells.is_not_null() & values.is_null()
    return lost.arg_max() if lost.any() else None


def _all_match(cells: pl.Series, writing: Writing) -> bool:
    return bool(cells.str.contains(writing.pattern).all())


def _dates(cells: pl.Series) -> Typed:
    """Days, or moments where a clock is among them, in the first form that all cells have."""
    import polars as pl

    sample, best = cells.drop_nulls().head(100), Typed(cells, bad=0)
    if not len(sample):
        return best
    fitting = [form for form in _forms() if _parsed(sample, form).count() >= MOSTLY * len(sample)]
    reads = [(form, _parsed(cells, form)) for form in fitting]
    whole = [(form, values) for form, values in reads if values.count() == cells.count()]
    if whole:
        form, values = whole[0]
        values = values if "%H" in form else values.cast(pl.Date)
        other = next((later for later, _ in whole[1:]), None)
        note = f"dates as {form}" + (f" ({other} would fit too)" if other else "")
        return Typed(values) if form == DATES[0] else Typed(values, note, form=form)
    if reads and reads[0][1].count() >= MOSTLY * cells.count():
        return Typed(reads[0][1], bad=_first_lost(cells, reads[0][1]), wanted=f"a date as {reads[0][0]}")
    return best


def _forms() -> Iterator[str]:
    return (date + clock for clock in CLOCKS for date in DATES)


def _parsed(cells: pl.Series, form: str) -> pl.Series:
    import polars as pl

    if "%H" in form:
        return cells.str.to_datetime(form, strict=False)
    return cells.str.to_date(form, strict=False).cast(pl.Datetime("us"))
