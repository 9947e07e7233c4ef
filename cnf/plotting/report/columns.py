"""Every column of a table beside the same column of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnf.plotting.report.charts import Frame, grid, key, panel
from cnf.plotting.report.markup import Html, element, joined, paragraph
from cnf.plotting.report.numbers import cell, share
from cnf.plotting.windows import limits_of
from cnf.tables import Column

MOST_LEVELS = 8  # that have a bar of their own
MOST_BARS = 40  # whole numbers that each have a bin of their own


@dataclass(frozen=True, eq=False)
class Pair:
    """A column of the data and the same column of samples, coded as numbers; NaN where a cell is empty.

    Attributes:
        column: What it is.
        data: `(N,)`.
        samples: `(M,)`.
    """

    column: Column
    data: np.ndarray
    samples: np.ndarray


def columns_section(pairs: list[Pair], note: str) -> Html:
    """Small charts of all columns.

    Args:
        pairs: The columns.
        note: Which rows are shown.
    """
    return joined(
        paragraph("Where the line follows the area, samples have the distribution of the data in this column. ", note),
        key(("area", "data"), ("line", "samples")),
        grid(panel(pair.column.name, chart_of(pair), _remark(pair)) for pair in pairs),
    )


def chart_of(pair: Pair) -> Html:
    """The chart that suits the kind of a column."""
    return _levels(pair) if pair.column.levels else _histogram(pair)


def _remark(pair: Pair) -> str:
    empty = np.isnan(pair.data).mean()
    return f"{share(float(empty))} empty" if empty else ""


def _histogram(pair: Pair) -> Html:
    data, samples = (values[~np.isnan(values)] for values in (pair.data, pair.samples))
    edges = _edges(pair.column, data, samples)
    heights = [np.histogram(values, edges)[0] / max(len(values), 1) for values in (data, samples)]
    frame = Frame((edges[0], edges[-1]), (0, max(height.max() for height in heights) * 1.04 or 1))
    return frame.drawing(
        _in_words(pair.column, data, samples),
        frame.steps(heights[0], edges, "area"),
        frame.steps(heights[1], edges, "line"),
        frame.axis(_ends(pair.column, data) if pair.column.kind == "date" else None),
    )


def _edges(column: Column, data: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Ends of the bins: whole numbers in the middle of theirs."""
    low, high = limits_of(data)
    if column.kind == "integer":
        first, last = np.ceil(low), np.floor(high)
        width = max(1, round((last - first + 1) / MOST_BARS))
        return np.arange(first - 0.5, last + width + 0.5, width)
    if column.period is not None:
        low, high = 0.0, column.period
    count = int(np.clip(2 * min(len(data), len(samples)) ** (1 / 3), 8, MOST_BARS))
    return np.linspace(low, high, count + 1)


def _ends(column: Column, data: np.ndarray) -> list[tuple[float, str]]:
    return [(float(end), cell(float(np.floor(end)), column)) for end in (data.min(), data.max())]


def _in_words(column: Column, data: np.ndarray, samples: np.ndarray) -> str:
    parts = [
        f"{name}: middle half from {cell(low, column)} to {cell(high, column)}, median {cell(middle, column)}"
        for name, values in (("data", data), ("samples", samples))
        for low, middle, high in [np.quantile(values, [0.25, 0.5, 0.75]).tolist()]
    ]
    return f"Histogram of {column.name}. {'; '.join(parts)}."


def _levels(pair: Pair) -> Html:
    """A bar for each of the first levels, the others together; a stroke for the share in samples."""
    data, samples = (_shares(values, len(pair.column.levels)) for values in (pair.data, pair.samples))
    names = [cell(place, pair.column) for place in range(len(data))]
    if len(names) > MOST_LEVELS:
        order = (
            np.arange(len(names))
            if pair.column.ordered and len(names) <= MOST_LEVELS
            else np.argsort(-data, kind="stable")
        )
        kept, rest = order[: MOST_LEVELS - 1], order[MOST_LEVELS - 1 :]
        names = [names[place] for place in kept] + [f"{len(rest)} others"]
        data, samples = (np.append(part[kept], part[rest].sum()) for part in (data, samples))
    largest = max(data.max(), samples.max(), 1e-9)
    rows = zip(names, data, samples, strict=True)
    words = "; ".join(f"{name} {share(a)} of the data, {share(b)} of samples" for name, a, b in rows)
    bars = [_bar(place, *row, largest) for place, row in enumerate(zip(names, data, samples, strict=True))]
    return Frame((0, 1), (0, 1), (180, 17 * len(bars) + 1)).drawing(f"Levels of {pair.column.name}. {words}.", *bars)


def _shares(values: np.ndarray, levels: int) -> np.ndarray:
    places = values[~np.isnan(values)].astype(int)
    shares: np.ndarray = np.bincount(places, minlength=levels) / max(len(places), 1)
    return shares


def _bar(place: int, name: str, data: float, samples: float, largest: float) -> Html:
    top, room = 17 * place, 108.0
    at = 70 + room * samples / largest
    return element(
        "g",
        element("text", name if len(name) <= 12 else f"{name[:11]}…", x="64", y=f"{top + 12}", text_anchor="end"),
        element("rect", x="70", y=f"{top + 2}", width=f"{room * data / largest:.1f}", height="13", class_="area"),
        element("path", d=f"M{at:.1f} {top + 1}v15", class_="line"),
    )
