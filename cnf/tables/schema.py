"""What the columns of a table are: their kinds, ranges and levels, to read and to change."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cnf.errors import DataError

KINDS = ("real", "positive", "bounded", "integer", "binary", "category", "angle", "date")
DISCRETE = ("binary", "category")  # whose values are levels


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name.
        kind: One of `KINDS`.
        why: What the kind was seen by.
        levels: The values of a binary column or a category, the most frequent first unless they are ordered.
        ordered: Whether the levels have an order.
        low: Lower end of what is bounded; of integers, if they have one; the first day of dates.
        high: Upper end, as `low`.
        period: Of an angle, in its units.
        step: What all values are multiples of, where they were rounded; None where they were not.
        atoms: Values that single rows share far more often than a density allows.
        empty: Share of rows without a value.
        dtype: The type of its cells, as Polars calls it.

    Example:
        >>> Column("wind", "angle", "declared", period=360.0).period
        360.0
    """

    name: str
    kind: str
    why: str = ""
    levels: tuple[Any, ...] = ()
    ordered: bool = False
    low: float | None = None
    high: float | None = None
    period: float | None = None
    step: float | None = None
    atoms: tuple[float, ...] = ()
    empty: float = 0.0
    dtype: str = "Float64"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"column {self.name!r}: unknown kind {self.kind!r}; the kinds are {', '.join(KINDS)}")

    @property
    def discrete(self) -> bool:
        """Whether its values have probabilities: levels and whole numbers."""
        return self.kind in (*DISCRETE, "integer")

    @property
    def range(self) -> str:
        """Its levels or its ends, in few words."""
        if self.levels:
            shown = [f"{level:g}" if isinstance(level, float) else str(level) for level in self.levels[:4]] + ["…"] * (
                len(self.levels) > 4
            )
            return (" < " if self.ordered else ", ").join(shown)
        if self.period is not None:
            return f"period {self.period:g}"
        ends = ["" if end is None else f"{end:g}" for end in (self.low, self.high)]
        return "" if ends == ["", ""] else " to ".join(ends)


@dataclass(frozen=True)
class Schema:
    """The columns of a table, and which were left out.

    Attributes:
        columns: In the order of the table.
        left_out: Names of the others, each with the reason.

    Example:
        >>> age = Column("age", "integer", "whole numbers", low=0, high=120)
        >>> schema = Schema((age, Column("sex", "binary", levels=("f", "m"))))
        >>> print(schema)
        column  kind     range     empty  why
        age     integer  0 to 120         whole numbers
        sex     binary   f, m
        >>> Schema.from_json(schema.to_json()) == schema
        True
    """

    columns: tuple[Column, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f"there is no column {name!r}: the columns are {', '.join(self.names)}")

    def __str__(self) -> str:
        head = ("column", "kind", "range", "empty", "why")
        rows = [
            (each.name, each.kind, each.range, f"{each.empty:.1%}" if each.empty else "", each.why)
            for each in self.columns
        ]
        rows += [(name, "left out", "", "", reason) for name, reason in self.left_out.items()]
        widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
        return "\n".join(line.rstrip() for line in lines)

    def to_json(self) -> str:
        """The schema as text that a person can edit."""
        columns = [_without_defaults(column) for column in self.columns]
        return json.dumps({"columns": columns, "left_out": dict(self.left_out)}, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The schema that `to_json` wrote.

        Raises:
            DataError: The text is none; the message says where.
        """
        try:
            facts = json.loads(text)
            columns = [Column(**{**each, **_tuples(each)}) for each in facts["columns"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"expected a schema as JSON, as Schema.to_json writes it; {error}") from error
        return cls(tuple(columns), dict(facts.get("left_out", {})))


def parse_kind(name: str, words: str) -> Column:
    """A column from a declared kind, such as `real`, `integer:0:120`, `angle:360` or `category:low<mid<high`.

    Args:
        name: Name of the column.
        words: The kind, with its numbers or levels after a colon.

    Raises:
        DataError: `words` has an unknown form; the message lists the forms.

    Example:
        >>> parse_kind("wind", "angle:360").period
        360.0
        >>> parse_kind("size", "category:S<M<L").levels
        ('S', 'M', 'L')
    """
    kind, *details = words.split(":")
    column = Column(name, kind, "as declared")
    if kind == "category" and details:
        levels = tuple(level.strip() for level in ":".join(details).split("<"))
        return replace(column, levels=levels, ordered=len(levels) > 1)
    numbers = [_number(name, words, detail) for detail in details]
    if kind == "angle" and len(numbers) == 1 and (numbers[0] or 0) > 0:
        return replace(column, period=numbers[0])
    if kind == "integer" and len(numbers) <= 2 or kind == "bounded" and len(numbers) == 2 and None not in numbers:
        low, high = (*numbers, None, None)[:2]
        if low is None or high is None or low < high:
            return replace(column, low=low, high=high)
    if kind in ("angle", "bounded") or details:
        raise DataError(
            f"column {name!r}: cannot understand the kind {words!r}; write one of {', '.join(KINDS[:2])}, bounded:0:1, "
            "integer, integer:0:120, binary, category, category:low<mid<high, angle:360, date"
        )
    return column


def check_names(given: Collection[str], known: Sequence[str], what: str) -> None:
    """Raises for names that are no columns."""
    if unknown := [name for name in given if name not in known]:
        raise DataError(f"{what} names columns that are not there, {', '.join(unknown)}: there are {', '.join(known)}")


def _number(name: str, words: str, detail: str) -> float | None:
    try:
        return float(detail) if detail.strip() else None
    except ValueError as error:
        raise DataError(f"column {name!r}: expected a number in {words!r}, got {detail!r}") from error


def _without_defaults(column: Column) -> dict[str, Any]:
    plain = asdict(Column(column.name, column.kind))
    return {key: value for key, value in asdict(column).items() if key in ("name", "kind") or value != plain[key]}


def _tuples(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(facts[key]) for key in ("levels", "atoms") if key in facts}
