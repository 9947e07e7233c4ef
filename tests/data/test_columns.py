"""What is said of the columns of a table: errors, warnings, and silence where nothing is wrong."""

from __future__ import annotations

import re
import time
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import cnf
from cnf.data import TOYS
from cnf.data.columns import check_rows
from cnf.data.keys import row_keys
from cnf.data.rows import Rows, as_rows
from cnf.data.splits import split
from cnf.errors import DataError, DataWarning

N = 2000
rng = np.random.default_rng(0)
a, b, c = rng.normal(size=(3, N))
u = rng.random(N)
WILD = np.where(np.arange(N) < 5, 1e6, a)


def columns(*parts: Any) -> np.ndarray:
    return np.stack([np.asarray(part, dtype=np.float64) for part in parts], 1)


def said(data: Any, dtype: torch.dtype = torch.float32, **settings: Any) -> str:
    """The only warning, or nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_rows(Rows(data, dtype, **settings))
    assert len(caught) <= 1
    assert all(entry.category is DataWarning for entry in caught)
    return str(caught[0].message) if caught else ""


SILENT = {
    "normal": columns(a, b),
    "one": columns(a),
    "correlated": columns(a, b, a + b + 0.01 * c),
    "three digits": columns(a, b).round(3),
    "two digits": columns(a, b).round(2),
    "two digits, few rows": columns(a, b)[:100].round(2),
    "large counts": columns(rng.poisson(1e5, N), a),
    "heavy tails": columns(np.exp(2 * a), b),
    "few rows": columns(a, b)[:12],
    "more columns than rows": rng.normal(size=(30, 50)),
    "one wild row of both": np.concatenate([columns(a, b), [[9e3, 9e3]]]),
    "an even grid": np.linspace(-1, 1, 100)[:, None],
    "ties of the conditions": (columns(a), columns(b, c, b - c)),
    "images": rng.integers(0, 2, (50, 1, 3, 3)).astype(float),
}


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_said_of_what_has_a_density(name):
    assert said(SILENT[name]) == ""


@pytest.mark.parametrize("name", [name for name, toy in TOYS.items() if toy.density is not None])
def test_nothing_is_said_of_toys(name):
    assert said(TOYS[name].sample(20_000, generator=torch.Generator().manual_seed(0))) == ""


@pytest.mark.parametrize("name", ["power_plant", "kin8nm"])
def test_nothing_is_said_of_measurements(data_root, name):
    assert said(np.load(data_root / f"{name}.npy")) == ""


WARNED = {
    "whole": (columns(rng.integers(30, 80, N), a), r"column 0 \(50 values, whole numbers\).*step \(1 for column 0\)"),
    "0/1": (columns(a, u < 0.5, u < 0.1), r"column 1 \(2 values, whole numbers\), column 2 \(2 values"),
    "coarse": (columns(a, b).round(1), r"column 0 \(\d\d values\).*0.1 for column 0"),
    "an atom": (columns(a, b * (u > 0.3)), r"column 1 \(0 in 3\d\.\d% of the rows\)"),
    "rounded to float32": (columns(1e5 + u), r"column 0 \(129 values, of 2,000 before they were rounded\)"),
    "row numbers": (columns(np.arange(N) + 1, a), "column 0 numbers the rows"),
    "equal steps": (columns(a, 3.5 - 0.25 * np.arange(N)), "column 1 numbers the rows"),
    "shuffled numbers": (columns(rng.permutation(N), a), "column 0 numbers the rows"),
    "wild rows": (columns(b, WILD), r"column 1 \(5 rows, up to 1e\+06\)"),
    "copies": (np.repeat(columns(a, b), 2, 0), "2,000 of 4,000 rows are copies"),
    "copies behind": (np.concatenate([columns(a, b, c)] * 2), "2,000 of 4,000 rows are copies"),
    "copies of one column": (np.repeat(columns(a), 2, 0), "2,000 of 4,000 rows are copies"),
    "nearly tied": (columns(a, b, a - 2 * b + 1e-3 * c), r"column 2 = column 0 − 2 × column 1 \(but for"),
    "constant condition": ((columns(a), columns(0 * a + 7)), "context column 0 has one value"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_means_little_is_warned_of_once(name):
    data, expected = WARNED[name]
    assert re.search(expected, said(data))


ERRORS = {
    "constant": (columns(a, 0 * a + 5), r"column 1 \(always 5\).*drop it"),
    "equal": (columns(a, b, a), "column 2 follows from column 0"),
    "another unit": (columns(a, 32 - 1.8 * a), "column 1 (follows from|= -1.8 ×) column 0"),
    "a logarithm": (columns(a, b, np.exp(a)), "column 2 follows from column 0"),
    "equal 0/1": (columns(u < 0.5, a, u >= 0.5), "column 2 follows from column 0"),
    "a sum": (columns(a, b, a + b, c), r"column 2 = column 0 \+ column 1 in all 2,000 rows: drop"),
    "a weighted sum": (columns(a, b, c, 2.5 * a - 3 * b + 7), "column 3 = 2.5 × column 0 − 3 × column 1"),
    "of large numbers": (columns(1e4 + a, 100 * b, 1e4 + a + 100 * b), r"column 2 = column 0 \+ column 1"),
    "with a condition": ((columns(a, a + b), columns(b)), r"column 1 = context column 0 \+ column 0"),
    "its condition": ((columns(a, c), columns(2 * a)), "column 0 follows from context column 0"),
    "time stamps": (columns(1.7e9 + 9000 * u, a), r"column 0 varies by .* float32 has only 7\d values for its 2,000"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_can_have_no_density_is_an_error_that_names_it(name):
    data, expected = ERRORS[name]
    with pytest.raises(DataError, match=expected):
        check_rows(Rows(data))


def test_a_wild_row_of_both_is_no_tie():
    x = torch.randn(64, 2)
    x[17] = 1e30
    text = said(x)
    assert "column 1 (1 rows, up to 1e+30)" in text
    assert "standard deviation" not in text


@pytest.mark.parametrize("name", ["equal", "a sum", "a weighted sum", "of large numbers", "with a condition"])
def test_ties_are_found_in_float64_too(name):
    with pytest.raises(DataError, match="column"):
        check_rows(Rows(ERRORS[name][0], torch.float64))


def test_float64_has_room_for_time_stamps():
    assert said(ERRORS["time stamps"][0], torch.float64) == ""


def test_the_remedy_is_where_the_reader_is():
    data = ERRORS["time stamps"][0]
    with pytest.raises(DataError, match=r"column 0 varies.*flow\.double\(\)"):
        check_rows(Rows(data))
    with pytest.raises(DataError, match="'when' varies.*subtract an offset such as 1.7e.09 from it in the table$"):
        check_rows(Rows(data, columns=("when", "x")))


def test_values_beyond_float32_are_named_with_the_true_reason():
    huge = columns(a, 3e43 * (1 + 0.03 * b))
    with pytest.raises(DataError, match=r"column 1 of x overflows float32.* up to 3\.\d+e\+43"):
        Rows(huge)
    with pytest.raises(DataError, match="'mass' overflows float32.*divide it by a power of ten$"):
        Rows(huge, columns=("x", "mass"))
    with pytest.raises(DataError, match="column 0 of x has NaN or infinite values"):
        Rows(columns(np.where(u > 0.5, np.inf, a), b))


def test_numbers_of_rows_are_found_in_a_part_of_the_table():
    numbered = columns(np.arange(N) + 1, a)
    assert "'id' numbers the rows" in said(numbered, choice=rng.permutation(N)[:1600], columns=("id", "x"))


def test_rows_are_looked_at_once():
    rows = Rows(WARNED["whole"][0])
    with pytest.warns(DataWarning):
        check_rows(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_rows(rows)


def test_fit_looks_at_the_columns():
    config = cnf.FitConfig(steps=1, progress=False)
    with pytest.warns(DataWarning, match="column 0 numbers the rows"):
        cnf.fit(cnf.build("nice", 2, layers=1, hidden=4), WARNED["row numbers"][0], config=config)
    with pytest.raises(DataError, match="follows from"):
        cnf.fit(cnf.build("nice", 3, layers=1, hidden=4), ERRORS["a logarithm"][0], config=config)


def test_much_data_take_seconds():
    begun = time.process_time()
    assert said(torch.randn(300_000, 4)) == ""
    assert said(torch.randn(1000, 300)) == ""
    assert time.process_time() - begun < 10  # 2 s


def test_keys_are_equal_for_equal_rows_alone():
    rows = np.concatenate([columns(a, b, c), columns(b, a, c), columns(a, b, c), -np.zeros((1, 3)), np.zeros((1, 3))])
    keys = row_keys(rows)
    assert len(np.unique(keys)) == 2 * N + 1
    np.testing.assert_array_equal(keys[:N], keys[2 * N : 3 * N])
    assert keys[-1] == keys[-2]


@pytest.mark.parametrize("times", [2, 3])
def test_copies_stay_on_one_side_of_a_split(times):
    rows = np.concatenate([columns(a, b)] * times)
    parts = split(len(rows), seed=1, copies=row_keys(rows))
    sets = [set(map(tuple, rows[part])) for part in (parts.train, parts.validation, parts.test)]
    assert len(set.union(*sets)) == sum(map(len, sets))
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test])) == list(range(len(rows)))
    assert abs(len(parts.train) - 0.8 * len(rows)) <= times
    assert abs(len(parts.test) - 0.1 * len(rows)) <= times


def test_a_split_without_copies_and_one_of_a_discrete_table_are_as_ever():
    before = split(N, seed=3)
    for keys in (row_keys(columns(a, b)), row_keys(columns(u < 0.5, u < 0.2))):
        np.testing.assert_array_equal(split(N, seed=3, copies=keys).test, before.test)


@pytest.mark.parametrize("function", [lambda x: -(x**3), lambda x: 1 / (1 + np.exp(-x)), lambda x: np.sqrt(x + 10)])
def test_ties_by_rounding_hide_no_dependence(function):
    for seed in range(6):  # with the seeds 0 and 3, rounding ties two of the rows
        x, other = np.random.default_rng(seed).normal(size=(2, 4000))
        with pytest.raises(DataError, match="column 2 follows from column 0 in all 4,000 rows"):
            check_rows(Rows(columns(x, other, function(x))))


class Items(torch.utils.data.Dataset):
    """Rows that are made when they are read."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.reads = torch.as_tensor(x).float(), 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> torch.Tensor:
        self.reads += 1
        return self.x[row]


def test_datasets_are_looked_at_too():
    assert "column 1 (2 values" in said(Items(columns(a, b > 0)))
    assert "column 1 numbers the rows" in said(Items(columns(a, rng.permutation(N))))
    assert "rows are copies of others" in said(Items(np.repeat(columns(a, b)[:400], 2, 0)))
    assert said(Items(columns(a, b))) == ""
    with pytest.raises(DataError, match="column 1 follows from column 0"):
        check_rows(Rows(Items(columns(a, 2 * a))))
    large = Items(rng.normal(size=(5000, 2)))
    check_rows(Rows(large))
    assert large.reads < 1100


def test_numbers_too_small_for_their_type_are_told_to_grow():
    with pytest.raises(DataError, match=r"'b' varies by .* multiply it by a power of ten in the table"):
        check_rows(Rows(columns(a, 1e-60 * u), columns=["a", "b"]))


def normal(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns))


CURVES = {
    "square": lambda a: np.c_[a, a[:, 0] ** 2],
    "absolute value": lambda a: np.c_[a, np.abs(a[:, 1])],
    "wave": lambda a: np.c_[a, np.sin(3 * a[:, 0])],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_column_on_a_curve_over_another_is_named(curve, dtype):
    x = curve(normal(2000, 2))
    with pytest.warns(DataWarning, match="column 2 follows from column [01] along a curve"):
        check_rows(as_rows(x, dtype))
    x[:, 2] += 1e-2 * np.random.default_rng(1).normal(size=len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_rows(as_rows(x, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_and_ratios_of_columns_are_an_error(dtype):
    mass, height = 70 * np.exp(0.2 * normal(1000, 1)), 1.7 * np.exp(0.05 * normal(2000, 1)[1000:])
    with pytest.raises(DataError, match="log column 2 = log column 0 − 2 × log column 1 in all 1,000 rows"):
        check_rows(as_rows(np.c_[mass, height, mass / height**2], dtype))
    check_rows(as_rows(np.c_[mass, height, mass / height**2 * np.exp(0.02 * normal(3000, 1)[2000:])], dtype))


def test_one_row_is_no_constant_column():
    with pytest.raises(DataError, match="there is one row, .* give more"):
        cnf.fit(cnf.build("maf", 2, layers=1, hidden=4), torch.randn(1, 2))
