"""Training on tables: dependences, p-values, parameters, and tables that cannot be modelled."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from cnf import CnfError, DataError, FitConfig, TableFlow
from cnf.tables import schema_of, to_numbers
from cnf.tables.atoms import atoms_of
from cnf.tables.coding import Coding
from cnf.tables.dependences import dependences_of
from cnf.tables.units import Grid
from cnf.tables.unusual import conformal


def dependent(n: int = 200) -> pl.DataFrame:
    random = np.random.default_rng(0)
    number = random.integers(1, 4, n)
    names = np.array(["first", "second", "third"])
    return pl.DataFrame(
        {"number": number, "name": names[number - 1], "upper": number == 1, "x": number + random.normal(size=n)}
    )


@pytest.fixture(scope="module")
def table() -> TableFlow:
    return TableFlow(steps=5).fit(dependent(), options={"hidden": (8, 8)})


def test_columns_that_follow_from_others_are_looked_up(table):
    assert table.coding.modelled == [0, 3]
    samples = table.sample(300)
    assert samples.select("number", "name", "upper").unique().height == 3
    assert np.isfinite(table.log_prob(samples)).all()
    assert (table.contributions(samples)["name"] == 0).all()


def test_what_contradicts_a_dependence_is_impossible(table):
    row = {"number": [1], "name": ["second"], "upper": [True], "x": [0.0]}
    assert table.log_prob(row)[0] == -np.inf
    assert table.p_values(row)[0] == pytest.approx(1 / (len(table.validation) + 1))
    with pytest.raises(DataError, match="never occurred in the training, or contradict each other"):
        table.sample(1, given={"number": 1, "name": "second"})
    assert set(table.sample(20, given={"name": "second"})["number"]) == {2}


def test_a_column_that_has_more_cells_than_its_source_is_kept():
    x = np.array([[0.0, 0], [1, 0], [2, 1]] * 20)
    units = [Grid(levels=3), Grid(levels=2)]
    assert [found.column for found in dependences_of(x, units)] == [1]
    x[0, 0] = np.nan
    assert dependences_of(x, units) == ()


def test_p_values_of_new_rows_are_uniform():
    held = np.random.default_rng(0).normal(size=99)
    values = conformal(np.random.default_rng(1).normal(size=2000), held)
    assert ((values > 0) & (values <= 1)).all()
    assert abs(values.mean() - 0.5) < 0.1
    assert conformal(np.array([-np.inf]), held)[0] == 0.01


def test_arguments_are_read_and_changed_as_in_scikit_learn():
    table = TableFlow(seconds=5)
    assert TableFlow(**table.get_params()).get_params() == table.get_params()
    assert table.set_params(seed=3) is table
    assert table.seed == 3
    with pytest.raises(ValueError, match="unknown argument depth: TableFlow has model, kinds"):
        table.set_params(depth=3)
    with pytest.raises(CnfError, match="not trained yet"):
        table.sample(1)


def test_a_large_offset_costs_no_digits():
    frame = pl.DataFrame({"time": 1.7e9 + np.random.default_rng(0).random(100), "other": np.arange(100) % 7})
    schema = schema_of(frame)
    values = to_numbers(frame, schema)
    coding = Coding.of(values, schema)
    back = coding.decode(coding.encode(values).x.double().numpy())
    assert np.abs(back - values).max() < 1e-6


def test_values_with_probabilities_of_their_own_are_found():
    random = np.random.default_rng(0)
    ages = np.concatenate((random.integers(20, 60, 300), random.random(20).round(2)))
    assert len(atoms_of(ages, 0.01)) > 25
    assert atoms_of(random.normal(size=500), None) == ()
    assert atoms_of(random.integers(0, 50, 2000).astype(float), 1.0) == ()


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"x": [1.0, 2.0] * 5, "y": [2.0, 1.5] * 5}, {}, "expected at least 20 rows"),
        ({"x": [1.0] * 40, "y": list(range(40))}, {}, "column 'x' has the same value in all rows"),
        ({"x": [None] * 40, "y": list(range(40))}, {}, "column 'x' has no values"),
        ({"x": list(range(40)), "y": [None, *range(39)]}, {"drop": ["x"], "kinds": {}}, "1 rows have no values"),
        ({"x": list(range(40))}, {"kinds": {"z": "real"}}, "kinds names columns that are not there, z"),
        ({"x": list(range(40))}, {"kinds": {"x": "complex"}}, "unknown kind 'complex'"),
        ({"x": list(range(40))}, {"kinds": {"x": "integer:0:30"}}, "values outside its bounds 0 to 30"),
        ({"x": list(range(40))}, {"drop": ["y"]}, "drop names columns that are not there, y"),
    ],
)
def test_tables_that_cannot_be_modelled_are_refused(columns, options, message):
    with pytest.raises(DataError, match=message):
        TableFlow(steps=1, **options).fit(pl.DataFrame(columns))


def test_columns_that_are_equal_or_follow_by_a_line_are_refused():
    x = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(DataError, match="'a', 'b', 'c' follow from each other"):
        TableFlow(steps=1).fit({"a": x[:, 0], "b": x[:, 1], "c": x[:, 0] - 2 * x[:, 1]})


def test_averaged_weights_are_judged_with_the_places_of_all_atoms():
    random = np.random.default_rng(0)
    amount = np.where(random.random(300) < 0.4, 0.0, random.normal(size=300))
    frame = pl.DataFrame({"amount": amount, "stars": random.integers(1, 5, 300), "open": random.integers(0, 2, 300)})
    history = TableFlow(steps=4).fit(frame, options={"hidden": (8, 8)}).result.history
    nll = [row["validation_nll"] for row in history]
    assert len(nll) > 2
    assert max(nll) - min(nll) < 0.2


def test_a_run_goes_back_to_its_best_weights_and_on_from_there():
    random = np.random.default_rng(0)
    frame = pl.DataFrame({"x": random.normal(size=60), "y": random.normal(size=60)})
    config = FitConfig(steps=60, checks=30, patience=2, learning_rate=0.5, progress=False)
    history = TableFlow().fit(frame, options={"hidden": (8, 8)}, config=config).result.history
    assert sum(row["stepped_back"] for row in history) > 0


def test_values_that_repeat_are_atoms_where_that_tells_more_than_a_density():
    random = np.random.default_rng(0)
    few = random.choice(random.choice(1000, 40, replace=False), 400).astype(float)
    assert len(atoms_of(few, 1.0)) >= 35
    assert atoms_of(random.integers(0, 100, 400).astype(float), 1.0) == ()
    assert atoms_of(random.normal(size=400), None) == ()
    assert len(atoms_of(random.choice(random.normal(size=30), 400), None)) == 30


def test_the_measure_of_rounded_numbers_is_the_same_whatever_is_an_atom():
    values = np.random.default_rng(0).choice([0.5, 3.5, 9.0, 12.5], 200) + 0.5 * np.arange(200).repeat(1) % 40
    frame = pl.DataFrame({"x": values, "y": np.random.default_rng(1).normal(size=200)})
    schema = schema_of(frame)
    coded = Coding.of(to_numbers(frame, schema), schema).encode(to_numbers(frame, schema))
    assert len(set(coded.log_slope[:, 0])) == 1


def test_unknown_levels_are_an_error_or_impossible(table):
    row = {"number": [1, 1], "name": ["first", "tenth"], "upper": [True, True], "x": [0.0, 0.0]}
    with pytest.raises(DataError, match="tenth"):
        table.log_prob(row)
    table.unknown = "impossible"
    log_prob = table.log_prob(row)
    assert np.isfinite(log_prob[0])
    assert log_prob[1] == -np.inf
    table.unknown = "ignored"
    with pytest.raises(ValueError, match="'error' or 'impossible'"):
        table.log_prob(row)
    table.unknown = "error"


def test_models_of_complete_rows_are_refused():
    with pytest.raises(ValueError, match="takes any cells as given, such as 'any_cnf', got 'cnf'"):
        TableFlow("cnf", steps=1).fit(dependent())
