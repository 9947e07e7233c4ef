"""Values of a column that have a probability of their own."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

MOST_ATOMS = 1000  # of a column
ATOM, FEWEST_COPIES = 0.004, 5  # share of the rows, and number of them, that an atom needs among others
TELLING = 0.05  # nats a row by which repeated values must tell more than a density
STEEP = 5.0  # times what the neighbourhood of a value would give it
NEIGHBOURS = 0.05  # share of the rows that are a neighbourhood


def atoms_of(values: np.ndarray, step: float | None, declared: Collection[float] = ()) -> tuple[float, ...]:
    """Values that have a probability of their own, in rising order.

    Where most values are repeated, these are all values that occur twice, if that tells rows that are left out better
    than a density does; the share of the other values is the estimate of Good and Turing for values that are new. Else
    they are those with far more rows than their neighbours would let expect.

    Args:
        values: `(N,)`.
        step: What all are multiples of; None where values repeat only by atoms.
        declared: Values that are atoms in any case.

    References:
        Good 1953, The population frequencies of species and the estimation of population parameters.

    Example:
        >>> import numpy as np
        >>> atoms_of(np.concatenate((np.zeros(30), np.linspace(1, 2, 70))), None)
        (0.0,)
    """
    distinct, counts = np.unique(values, return_counts=True)
    around = (
        None if step is None or not len(values) else _around(values, distinct, counts, step)
    )  # rows expected at each value
    if _are_repeated(counts, around):
        frequent = counts >= 2
    else:
        frequent = counts >= np.maximum(max(FEWEST_COPIES, ATOM * len(values)), 0 if around is None else STEEP * around)
    most = sorted(np.flatnonzero(frequent), key=lambda place: -counts[place])[:MOST_ATOMS]
    return tuple(sorted({float(distinct[place]) for place in most} | {float(value) for value in declared}))


def _are_repeated(counts: np.ndarray, around: np.ndarray | None) -> bool:
    """Whether values that are there twice tell better which value a row has that is left out than their density does.

    Args:
        counts: Rows of each value.
        around: Rows that the density expects there; None where any repetition is more than it can explain.
    """
    rows, alone = counts.sum(), (counts == 1).sum()
    if len(counts) > rows / 2 or around is None:
        return len(counts) <= rows / 2
    smooth = np.clip(around / rows, 0.5 / rows, 1.0)
    new = (alone + 0.5) / rows
    left = np.where(counts > 2, (counts - 1) / rows, 0.0) + new * smooth
    return bool((counts * np.log(left / smooth)).sum() > TELLING * rows)


def _around(values: np.ndarray, distinct: np.ndarray, counts: np.ndarray, step: float) -> np.ndarray:
    """Rows that a cell has on average in the neighbourhood of each distinct value, its own cell left out."""
    half, ordered = max(1, round(NEIGHBOURS * len(values) / 2)), np.sort(values)
    below = np.searchsorted(ordered, distinct)
    low = ordered[np.maximum(below - half, 0)]
    high = ordered[np.minimum(below + counts - 1 + half, len(values) - 1)]
    width = step * np.ceil(np.maximum(high - low, step) / (2 * step))
    low, high = np.maximum(distinct - width, ordered[0]), np.minimum(distinct + width, ordered[-1])
    ends = (np.searchsorted(ordered, end) for end in (low - step / 2, high + step / 2))
    rows = -np.subtract(*ends) - counts
    return np.asarray(rows / np.maximum(np.round((high - low) / step), 1))
