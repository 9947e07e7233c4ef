"""Reasons for which a likelihood means little. Each rule yields sentences for the warning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cnf.data.columns.column import FEW_VALUES, SeenColumn, listed
from cnf.data.columns.curves import curves
from cnf.data.columns.look import Look
from cnf.data.keys import row_keys
from cnf.data.rows import Rows

MOST_KEYS = 2**21  # rows looked through for copies
PIECE = 65_536  # rows read together
COPIES = 0.01  # share of rows that repeat another one: fewer change no mean by more than its noise
FAR = 1e4  # scales of the bulk, beyond which a value leaves four digits of float32 for the others
DENSE = 1.3  # span of whole numbers without repeats, in rows of the table: a shuffled index, of which a part is seen


def _discrete(look: Look) -> Iterator[str]:
    found = [column for column in look.x if column.discrete and (column.whole or column.distinct <= FEW_VALUES)]
    if found:
        steps = [f"{column.step:.3g} for {column.name}" for column in found if column.distinct > 1]
        yield (
            f"values repeat in {listed([_counted(column) for column in found])}: the likelihood of such a column has "
            "no upper bound, because the density can become arbitrarily narrow around them. Add uniform noise of one "
            f"step ({listed(steps)}), or drop it"
        )


def _counted(column: SeenColumn) -> str:
    finer = len(np.unique(column.raw))
    kept = f", of {finer:,} before they were rounded" if finer > column.distinct else ""
    return f"{column.name} ({column.distinct} values{', whole numbers' if column.whole else ''}{kept})"


def _atoms(look: Look) -> Iterator[str]:
    found = [column for column in look.x if column.atom and not column.whole and column.distinct > FEW_VALUES]
    if found:
        shares = [f"{column.name} ({column.top[0]:g} in {column.top[1]:.1%} of the rows)" for column in found]
        yield (
            f"one value is far more frequent than others in {listed(shares)}: the likelihood has no upper "
            "bound, because the density can become arbitrarily narrow around it. Drop these rows or the column"
        )


def _index(look: Look) -> Iterator[str]:
    names = [column.name for column in look.x if len(look.x) + len(look.context) > 1 and _numbers_rows(look, column)]
    if names:
        yield f"{listed(names)} numbers the rows, which means nothing for new rows: drop it"


def _numbers_rows(look: Look, column: SeenColumn) -> bool:
    """Whether a column is a multiple of the row number, or consists of whole numbers in any order without gaps."""
    number, raw = look.numbers.astype(np.float64), column.raw
    slope = (raw[-1] - raw[0]) / (number[-1] - number[0])
    line = raw[0] + slope * (number - number[0])
    if slope and np.abs(raw - line).max() <= 4 * column.eps * np.abs(raw).max():
        return True
    if len(np.unique(raw)) < len(raw) or not (raw == np.round(raw)).all():
        return False
    return bool(raw.max() - raw.min() < DENSE * look.rows.given)


def _far(look: Look) -> Iterator[str]:
    found = []
    for column in look.x:
        centre, scale = column.scale
        distances = np.abs(column.values - centre)
        if scale > 0 and distances.max() > FAR * scale:
            count = int((distances > FAR * scale / 10).sum())
            found.append(f"{column.name} ({count:,} rows, up to {column.raw[distances.argmax()]:.3g})")
    if found:
        yield (
            f"a few rows are thousands of times as far out as the others in {listed(found)}: remove them if they are "
            "errors, or take the column's logarithm"
        )


def _copied(look: Look) -> Iterator[str]:
    columns = [*look.context, *look.x]
    if all(column.discrete for column in look.x):
        return  # rows of discrete columns repeat by themselves
    keys = _keys(look.rows) if look.rows.parts else row_keys(np.stack([column.values for column in columns], 1))
    copies = len(keys) - len(np.unique(keys))
    if copies >= COPIES * len(keys) and not _by_rounding(columns):
        yield (
            f"{copies:,} of {len(keys):,} rows are copies of others: remove them, for they count twice in training, "
            "and validation means nothing with the same rows on both sides"
        )


def _by_rounding(columns: Sequence[SeenColumn]) -> bool:
    """Whether rows of rounded numbers are equal by chance: nearly as many are when the columns are shuffled."""
    if len(columns) == 1:
        return bool(columns[0].counted[2].min() < 2)  # in the tails of rounded numbers some stand alone
    together = np.stack([column.values for column in columns], 1)
    shuffled = np.random.default_rng(0).permuted(together, axis=0)
    found, chance = (len(values) - len(np.unique(row_keys(values))) for values in (together, shuffled))
    return bool(found < 3 * chance)


def _keys(rows: Rows) -> np.ndarray:
    """Keys of the first rows; a random sample of many rows would seldom hold both of two copies."""
    keys = []
    for start in range(0, min(len(rows), MOST_KEYS), PIECE):
        x, context, _ = rows.raw(np.arange(start, min(start + PIECE, len(rows)))) or (np.empty((0, 1)), None, None)
        keys.append(row_keys(x if context is None else np.concatenate((x, context), 1)))
    return np.concatenate(keys)


def _nearly(look: Look) -> Iterator[str]:
    found = [f"{text} (but for {off:.1g} of its standard deviation)" for text, off in look.tied if off]
    if found:
        yield f"{listed(found)}: the rest is mostly rounding, whose density means little. Drop one of them"


def _curved(look: Look) -> Iterator[str]:
    if found := list(curves(look.context, look.x).values()):
        yield (
            f"{listed(found)} along a curve: together they have no density, and the likelihood has no upper bound. "
            "Drop one of them"
        )


def _idle(look: Look) -> Iterator[str]:
    names = [column.name for column in look.context if column.distinct == 1]
    if names:
        yield f"the condition {listed(names)} has one value in all rows, so the flow learns nothing about other values"


WARNINGS = (_discrete, _atoms, _index, _far, _copied, _nearly, _curved, _idle)
