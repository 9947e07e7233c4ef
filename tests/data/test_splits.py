"""Three parts of a table: a seeded partition of the asked sizes."""

from __future__ import annotations

import numpy as np
import pytest

from cnf.data.splits import split
from cnf.errors import DataError


@pytest.mark.parametrize("n", [10, 11, 9568])
def test_split_is_the_seeded_permutation_cut_in_tenths(n: int) -> None:
    order, tenth = np.random.default_rng(7).permutation(n), n // 10
    parts = split(n, seed=7)
    np.testing.assert_array_equal(parts.train, order[: n - 2 * tenth])
    np.testing.assert_array_equal(parts.validation, order[n - 2 * tenth : n - tenth])
    np.testing.assert_array_equal(parts.test, order[n - tenth :])


def test_split_by_other_fractions_is_a_partition() -> None:
    parts = split(100, seed=1, fractions=(0.42, 0.29, 0.29))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (42, 29, 29)
    joined = np.concatenate([parts.train, parts.validation, parts.test])
    np.testing.assert_array_equal(np.sort(joined), np.arange(100))
    assert not np.array_equal(split(100, seed=2).train, split(100, seed=3).train)


@pytest.mark.parametrize(("fractions", "needed"), [((0.8, 0.1, 0.1), 10), ((0.5, 0.3, 0.2), 5), ((0.1, 0.1, 0.8), 10)])
def test_split_says_how_many_rows_it_needs(fractions: tuple[float, float, float], needed: int) -> None:
    parts = split(needed, fractions=fractions)
    assert min(len(parts.train), len(parts.validation), len(parts.test)) > 0
    with pytest.raises(DataError, match=f"expected at least {needed} rows, got {needed - 1}"):
        split(needed - 1, fractions=fractions)


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.8, 0.1, 0.2), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1)])
def test_split_checks_the_fractions(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="expected three positive fractions of sum 1 .*, got "):
        split(100, fractions=fractions)  # type: ignore[arg-type]
