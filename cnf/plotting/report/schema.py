"""What the data are, as a table of columns."""

from __future__ import annotations

from collections.abc import Sequence

from cnf.plotting.report.markup import Html, element, joined, paragraph, table
from cnf.plotting.report.numbers import cell, number, share
from cnf.tables import Column, Schema


def schema_section(schema: Schema, notes: Sequence[str]) -> Html:
    """Kind, range and empty cells of every column, and why it is seen so.

    Args:
        schema: The columns.
        notes: What else there is to know of the data, a sentence each.
    """
    rows = [
        [column.name, column.kind, _range(column), share(column.empty) if column.empty else "", column.why]
        for column in schema.columns
    ]
    rows += [[name, "left out", "", "", reason] for name, reason in schema.left_out.items()]
    return joined(
        *(paragraph(note) for note in notes),
        table(["column", "kind", "range", "empty cells", "why"], rows, class_="cards"),
    )


def _range(column: Column) -> Html | str:
    if column.levels or column.period is not None:
        return column.range
    ends = [
        "" if end is None else cell(end, column) if column.kind == "date" else number(end, 5)
        for end in (column.low, column.high)
    ]
    words = " to ".join(ends) if all(ends) else next((end for end in ends if end), "")
    atoms = ", ".join(number(atom) for atom in column.atoms[:3])
    many = ", …" if len(column.atoms) > 3 else ""
    return joined(words, element("small", f" often exactly {atoms}{many}", class_="note")) if atoms else words
