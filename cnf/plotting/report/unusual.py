"""The least likely of held-out rows, and which column makes each of them so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnf.plotting.report.charts import grid, panel
from cnf.plotting.report.markup import Html, element, joined, paragraph, table
from cnf.plotting.report.numbers import MINUS, cell, number
from cnf.tables import Column

MOST = 10
SHOWN = 5  # columns of a row that are listed


@dataclass(frozen=True, eq=False)
class Unusual:
    """Rows, the least likely first.

    Attributes:
        rows: Their numbers in the data, counted from 0.
        values: `(N, D)`, coded as numbers.
        log_prob: `(N,)`.
        p_values: `(N,)`.
        surprise: `−log p(x_j | x_−j)` less its mean over usual rows, `(N, D)`; NaN where a cell is empty.
    """

    rows: Sequence[int]
    values: np.ndarray
    log_prob: np.ndarray
    p_values: np.ndarray
    surprise: np.ndarray


def unusual_section(unusual: Unusual, columns: Sequence[Column], note: str) -> Html:
    """A table of the rows; each can be opened to see its columns.

    Args:
        unusual: The rows.
        columns: What its columns are.
        note: Which rows they were chosen from.
    """
    head = ["row", "log p", "p-value", "most surprising column", "surprise"]
    rows = [_row(unusual, place, columns) for place in range(len(unusual.rows))]
    return joined(
        paragraph(
            "A p-value is the share of validation rows that are no more likely. The surprise of a cell is ", MINUS,
            "log p of its value given the other columns, less the mean of that column, in nats: a surprise of 7 is a "
            "value about a thousand times less likely than usual. ", note,
        ),
        table(head, rows, class_="cards", numeric=(1, 2, 4)),
        element("details", element("summary", "All columns of these rows"), _whole(unusual, columns)),
    )  # fmt: skip


def _row(unusual: Unusual, place: int, columns: Sequence[Column]) -> list[str]:
    name, value, surprise = _ranked(unusual, place, columns)[0]
    p = unusual.p_values[place]
    return [
        f"{unusual.rows[place]:,}", number(float(unusual.log_prob[place])), f"{p:.4f}" if p < 0.01 else f"{p:.3f}",
        f"{name} = {value}", number(surprise, 3),
    ]  # fmt: skip


def _ranked(unusual: Unusual, place: int, columns: Sequence[Column]) -> list[tuple[str, str, float]]:
    """Name, value and surprise of the columns, the most surprising first."""
    surprise = unusual.surprise[place]
    order = np.argsort(-np.nan_to_num(surprise, nan=-np.inf), kind="stable")
    cells = zip(columns, unusual.values[place], surprise, strict=True)
    found = [(column.name, cell(float(value), column), float(excess)) for column, value, excess in cells]
    return [found[column] for column in order]


def _whole(unusual: Unusual, columns: Sequence[Column]) -> Html:
    """Each row with all its columns, the most surprising first."""
    tables = []
    for place, row in enumerate(unusual.rows):
        cells = [[name, value, number(surprise, 3)] for name, value, surprise in _ranked(unusual, place, columns)]
        tables.append(panel(f"row {row:,}", table(["column", "value", "surprise"], cells, numeric=(1, 2))))
    return grid(tables, "large")
