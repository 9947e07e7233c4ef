"""Columns that follow from others: monotone functions of one, sums, products and ratios of several."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cnf.data.columns.column import SHOWN, SeenColumn
from cnf.spread import FEWEST

ORDERED = 1000  # rows whose order is compared
ALIKE = 1 - 1e-6  # correlation of ranks from which on all rows are compared: rounding may tie a few
MOST_PRODUCTS = 2**31  # in search for dependence: two seconds
TIED = 2e-3  # standard deviation of a column given the others, in its own: 0.999998 of its variance follows from them


class Tie(NamedTuple):
    """How a column follows from others, and how far it is off that, in its standard deviations; 0 if exactly."""

    text: str
    off: float


def ties(context: Sequence[SeenColumn], x: Sequence[SeenColumn]) -> list[Tie]:
    """Columns of x that follow from others, of x or of the context."""
    alone = _same_order(context, x)
    sums = list(_linear(context, [*context, *x], alone))
    products = [] if any(not tie.off for tie in sums) else _linear(context, _logarithms([*context, *x]), alone)
    return [*(Tie(text, 0.0) for text in alone.values()), *sums, *(tie for tie in products if not tie.off)]


def _same_order(context: Sequence[SeenColumn], x: Sequence[SeenColumn]) -> dict[str, str]:
    """Columns that are a monotone function of another one, by name: a copy, another unit, a logarithm."""
    some = at_most(len(x[0].values), ORDERED)
    columns = [column for column in (*context, *x) if np.ptp(column.values[some]) > 0]
    if len(x[0].values) < FEWEST or len(columns) < 2:
        return {}
    ranks = np.stack([standardized(_ranks(column.values[some])) for column in columns])
    alike = np.abs(ranks @ ranks.T) / len(some) > ALIKE
    found: dict[str, str] = {}
    for i, column in enumerate(columns):
        earlier = alike[i, :i].nonzero()[0]
        if len(earlier) and any(column is member for member in x) and _monotone(columns[earlier[0]], column):
            found[column.name] = f"{column.name} follows from {columns[earlier[0]].name}"
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value; equal values have their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[places.reshape(-1)]
    return ranks


def _monotone(one: SeenColumn, other: SeenColumn) -> bool:
    """Whether one column is a monotone function of the other in all rows; either may be rounded more."""
    return any(
        bool((np.diff(values[np.lexsort((values, one.values))]) >= 0).all()) for values in (other.values, -other.values)
    )


def _logarithms(columns: Sequence[SeenColumn]) -> list[SeenColumn]:
    """Logarithms of positive columns: a sum of these is a product or a ratio of the columns."""
    return [
        SeenColumn(f"log {c.name}", np.log(c.values), c.raw, c.eps, unit=1.0) for c in columns if (c.values > 0).all()
    ]


def _linear(context: Sequence[SeenColumn], among: Sequence[SeenColumn], named: Collection[str]) -> Iterator[Tie]:
    """Columns that are, exactly or nearly, linear combinations of others; those that are named already are left out.

    In the QR decomposition of the standardised columns, conditions first, each diagonal element is the part of a column
    that does not follow from the columns before.
    """
    rows = len(among[0].values) if among else 0
    some = at_most(rows, max(4096, MOST_PRODUCTS // max(len(among), 1) ** 2))
    columns = [column for column in among if column.values[some].std() > 0]
    if len(some) < 3 * len(columns) + FEWEST or len(columns) < 2:
        return
    z = np.stack([standardized(column.values[some]) for column in columns], 1)
    left = np.abs(np.diag(np.linalg.qr(z, mode="r"))) / np.sqrt(len(some))
    conditions = sum(any(column.raw is condition.raw for condition in context) for column in columns)
    used: list[int] = []
    for i, column in enumerate(columns):
        if left[i] > TIED or i < conditions:
            used.append(i)
        if i in used or column.name in named:
            continue
        parts = [columns[k] for k in used]
        weights = np.linalg.lstsq(z[:, used], z[:, i], rcond=None)[0]
        factors = weights * column.values[some].std() / [part.values[some].std() for part in parts]
        if tie := _tie(column, parts, factors, weights):
            yield tie


def at_most(n: int, most: int) -> np.ndarray:
    """At most this many of n rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def standardized(values: np.ndarray) -> np.ndarray:
    """Values with mean 0 and standard deviation 1."""
    standardized: np.ndarray = (values - values.mean()) / values.std()
    return standardized


def _tie(column: SeenColumn, parts: Sequence[SeenColumn], factors: np.ndarray, weights: np.ndarray) -> Tie | None:
    """The formula of a column and its error; None if the error is large."""
    values = np.stack([part.values for part in parts], 1)
    rest = column.values - values @ factors
    offset = np.median(rest)
    sizes = np.abs(values) @ np.abs(factors) + np.abs(column.values) + np.abs(offset) + column.unit
    exact = (np.abs(rest - offset) <= 8 * column.eps * sizes + 1e-13 * column.scale[1]).all()
    off = 0.0 if exact else max(float(np.quantile(np.abs(rest - offset), 0.9) / 1.645 / column.scale[1]), 1e-12)
    terms = [(part, factor) for part, factor, weight in zip(parts, factors, weights, strict=True) if abs(weight) > 1e-3]
    if off > TIED:
        return None
    return Tie(f"{column.name} = {_sum(terms)}", off)


def _sum(terms: Sequence[tuple[SeenColumn, float]]) -> str:
    """The formula, but for a constant."""
    texts = [part.name if f"{factor:.4g}" == "1" else f"{factor:.4g} × {part.name}" for part, factor in terms[:SHOWN]]
    return " + ".join(texts).replace("+ -", "− ") + (" + …" if len(terms) > SHOWN else "")
