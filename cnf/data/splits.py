"""The rows of a table in three parts: training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnf.arguments import Finite, Seed, Whole, checked
from cnf.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Numbers of the rows for training, validation and test: three integer arrays without common elements.

    Attributes:
        train: Rows for training.
        validation: Rows for early stopping.
        test: Rows for the final score.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> parts = split(len(x))
        >>> x[parts.train].shape, x[parts.test].shape
        ((80, 2), (10, 2))
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@checked
def split(
    n: Whole,
    *,
    seed: Seed = 0,
    fractions: Sequence[Finite] = (0.8, 0.1, 0.1),
    copies: np.ndarray | None = None,
) -> Split:
    """Shuffle the numbers of n rows and divide them into training, validation and test.

    The order is `numpy.random.default_rng(seed).permutation(n)`. Validation and test have `⌊fraction · n⌋` rows,
    training has the others. Copies of a row go to the same part, so that validation and test rows are new to training;
    the sizes of the parts then change a little. If fewer than a quarter of the rows differ, copies are not kept
    together.

    Args:
        n: Number of rows.
        seed: Random seed of the shuffle.
        fractions: Shares of training, validation and test.
        copies: A number for each row, `(n,)`, equal for equal rows; by default all rows count as different.

    Raises:
        DataError: The fractions are not three positive numbers of sum 1, or a part would be empty.

    Example:
        >>> parts = split(25, seed=1)
        >>> len(parts.train), len(parts.validation), len(parts.test)
        (21, 2, 2)
    """
    if len(fractions) != 3 or not all(f > 0 for f in fractions) or not math.isclose(sum(fractions), 1):
        raise DataError(
            f"expected three positive fractions of sum 1 (train, validation, test), got {fractions}; "
            "take for example (0.8, 0.1, 0.1)"
        )
    needed = math.ceil(1 / min(fractions[1:]) - 1e-9)
    if n < needed:
        raise DataError(
            f"expected at least {needed} rows, got {n}: each of the parts {fractions} needs a row; "
            "add rows, or make the smallest fraction larger"
        )
    validation, test = (int(fraction * n + 1e-9) for fraction in fractions[1:])  # 0.29 * 100 is 28.999...
    order = np.random.default_rng(seed).permutation(n)
    cuts = [n - validation - test, n - test]
    if copies is not None:
        order, cuts = _gathered(order, cuts, copies)
    return Split(*np.split(order, cuts))


def _gathered(order: np.ndarray, cuts: list[int], copies: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The order with each copy moved to the first of its kind, and the nearest cuts between groups of copies."""
    _, first, group = np.unique(copies[order], return_index=True, return_inverse=True)
    if len(first) == len(order) or 4 * len(first) < len(order):
        return order, cuts
    place = first[group.reshape(-1)]
    by_place = np.argsort(place, kind="stable")
    begins = np.flatnonzero(np.diff(place[by_place], prepend=-1))
    return order[by_place], [int(begins[np.abs(begins - cut).argmin()]) for cut in cuts]
