"""What reading a table gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnf.data.table import shortened
from cnf.errors import DataError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Style:
    """How a file of text is written, so that others can be written like it.

    Attributes:
        separator: Between cells.
        decimal: The decimal sign.
        dates: Forms of the columns of dates that are not ISO dates, by their names.
    """

    separator: str = ","
    decimal: str = "."
    dates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Reading:
    """A table as it was read, and what was understood.

    Attributes:
        frame: The rows; empty cells are null.
        name: What to call the table, the file's name without its ending.
        header: The line of the file that the names are from, counted from 1; None where the file names no columns.
        notes: What a person should know of how the file was read, a sentence each.
        mixed: For columns of text in which nearly all cells are numbers or dates: an error that names the first other.
        lines: Gives the line of the file for each row, where it is a file of text.
        style: How the file is written.

    Example:
        >>> import polars as pl
        >>> from cnf.tables import read
        >>> reading = read(pl.DataFrame({"age": [20, 31], "sex": ["f", "m"]}))
        >>> reading.frame.columns, reading.notes
        (['age', 'sex'], ())
    """

    frame: pl.DataFrame
    name: str
    header: int | None = None
    notes: tuple[str, ...] = ()
    mixed: dict[str, DataError] = field(default_factory=dict)
    lines: Callable[[], Sequence[int]] | None = None
    style: Style = field(default_factory=Style)

    def located(self, rows: Sequence[int]) -> str:
        """Where some rows stand, for messages."""
        if self.lines is None:
            return f"row{'s' * (len(rows) > 1)} {shortened(rows)} (counted from 0)"
        lines = self.lines()
        return f"line{'s' * (len(rows) > 1)} {shortened([lines[row] for row in rows])}"


def filled(where: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with null in the place of NaN.

    Raises:
        DataError: It has no rows or no columns.
    """
    if not frame.width or not frame.height:
        raise DataError(f"{where}: expected rows and columns, got a table of shape {frame.shape}")
    return frame.fill_nan(None)
