"""Kinds are seen by the cells, believed where declared, and survive the way to numbers and back."""

from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest

from cnf.errors import DataError
from cnf.tables import Schema, parse_kind, read, schema_of, to_frame, to_numbers

N = 200
RNG = np.random.default_rng(0)
START = datetime.date(2020, 1, 1)
COLUMNS = {
    "real": RNG.normal(size=N),
    "positive": np.exp(RNG.normal(size=N)),
    "integer": RNG.poisson(20, N),
    "binary": RNG.choice(["yes", "no"], N),
    "category": RNG.choice(["a", "b", "c"], N),
    "angle": pl.Series("wind direction", RNG.uniform(0, 360, N)),
    "date": [START + datetime.timedelta(days=int(day)) for day in RNG.integers(0, 900, N)],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_kind_is_seen_by_its_cells(kind):
    name = "wind direction" if kind == "angle" else "x"
    schema = schema_of(pl.DataFrame({name: COLUMNS[kind]}))
    assert schema.columns[0].kind == kind


def test_numbers_of_few_values_are_levels():
    column = schema_of(pl.DataFrame({"x": RNG.choice([0.5, 1.25, 2.0], N)})).columns[0]
    assert (column.kind, column.levels, column.ordered) == ("category", (0.5, 1.25, 2.0), True)


def test_levels_come_by_their_frequency():
    column = schema_of(pl.DataFrame({"x": ["b"] * 5 + ["a"] * 9 + ["c"] * 7})).columns[0]
    assert column.levels == ("a", "c", "b")


def test_text_that_names_the_rows_is_left_out():
    schema = schema_of(pl.DataFrame({"id": [f"row {i}" for i in range(N)], "x": COLUMNS["real"]}))
    assert schema.names == ("x",)
    assert schema.left_out == {"id": "text with 200 different values in 200 rows"}


def test_a_value_that_many_rows_share_is_an_atom():
    amounts = np.where(RNG.uniform(size=N) < 0.3, 0.0, COLUMNS["positive"])
    assert schema_of(pl.DataFrame({"x": amounts})).columns[0].atoms == (0.0,)
    assert schema_of(pl.DataFrame({"x": COLUMNS["real"]})).columns[0].atoms == ()


def test_rounded_values_have_a_step():
    rounded = RNG.normal(size=5 * N).round(1)
    assert schema_of(pl.DataFrame({"x": rounded + 1e-3 * (np.arange(5 * N) % 2)})).columns[0].step == 1e-3
    assert schema_of(pl.DataFrame({"x": COLUMNS["real"]})).columns[0].step is None


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ("angle:360", {"kind": "angle", "period": 360.0}),
        ("bounded:-3:50", {"kind": "bounded", "low": -3.0, "high": 50.0}),
        ("integer:0:", {"kind": "integer", "low": 0.0, "high": None}),
        ("category:S<M<L", {"kind": "category", "levels": ("S", "M", "L"), "ordered": True}),
        ("real", {"kind": "real"}),
    ],
)
def test_what_a_person_declares(words, facts):
    column = parse_kind("x", words)
    assert {key: getattr(column, key) for key in facts} == facts


@pytest.mark.parametrize("words", ["angle", "angle:-1", "bounded:0", "bounded:2:1", "number", "real:3", "integer:a"])
def test_what_cannot_be_understood(words):
    with pytest.raises(DataError, match="column 'x'"):
        parse_kind("x", words)


@pytest.mark.parametrize(
    ("cells", "declared", "message"),
    [
        ([None, None], None, "all cells are empty"),
        ([1.0, 1.0, None], None, "the same value in all rows"),
        ([1.0, -2.0, 3.0], "positive", "the smallest value is -2"),
        ([0.0, 0.5, 2.0], "bounded:0:1", "outside its bounds 0 to 1"),
        ([1.0, 2.5, 3.0], "integer", "it has 2.5"),
        (["a", "b", "c"], "binary", "it has 3"),
        (["a", "b", "c"], "real", "expected numbers for the kind real, got 'a'"),
        (["S", "M", "XL"], "category:S<M<L", r"it has \['XL'\]"),
        (["2020-01-01", "x", "y"], "date", "expected dates such as"),
    ],
)
def test_cells_that_do_not_fit(cells, declared, message):
    frame = pl.DataFrame({"x": cells})
    with pytest.raises(DataError, match=message):
        schema_of(frame, kinds={"x": declared} if declared else {})


def test_unknown_columns_and_mistaken_ones():
    frame = pl.DataFrame({"x": [1.0, 2.0], "y": [3.0, 5.0]})
    with pytest.raises(DataError, match="kinds names columns that are not there, z"):
        schema_of(frame, kinds={"z": "real"})
    with pytest.raises(DataError, match="none: all are left out"):
        schema_of(frame, drop=["x", "y"])
    with pytest.raises(DataError, match="12 kg"):
        schema_of(frame, mixed={"x": DataError("got '12 kg'")})
    assert schema_of(frame, mixed={"x": DataError("got '12 kg'")}, drop=["x"]).names == ("y",)


@pytest.fixture
def frame():
    empty = pl.DataFrame({name: pl.Series(cells) for name, cells in COLUMNS.items()}).with_row_index("row")
    return empty.with_columns(
        pl.when(pl.col("row") % 7 == place).then(None).otherwise(pl.col(name)).alias(name)
        for place, name in enumerate(COLUMNS)
    ).drop("row")


def test_the_way_to_numbers_and_back(frame):
    schema = schema_of(frame, kinds={"angle": "angle:360"})
    values = to_numbers(frame, schema)
    assert values.shape == (N, len(COLUMNS))
    assert np.isnan(values).sum() == frame.null_count().sum_horizontal()[0]
    assert to_frame(values, schema).equals(frame)
    assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize("name", ["penguins.csv", "titanic.csv", "mpg.csv", "tips.csv", "energy.txt", "bike.npy"])
def test_real_tables_come_back_bit_for_bit(name, data_root):
    table = read(data_root / "tables" / name).frame
    schema = Schema.from_json(schema_of(table).to_json())
    kept = table.select(schema.names)
    assert to_frame(to_numbers(kept, schema), schema).equals(kept)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("category", "d", "levels that it had not before .it has .* first 'd' in row 3"),
        ("positive", -1.0, "values below its bound 0, first -1.0"),
        ("real", np.inf, "infinite values"),
        ("integer", 1.5, "no whole numbers"),
    ],
)
def test_values_that_a_column_cannot_have(column, value, message, frame):
    schema = schema_of(frame, kinds={"angle": "angle:360"})
    cells = [value if row == 3 else cell for row, cell in enumerate(frame[column].to_list())]
    with pytest.raises(DataError, match=message):
        to_numbers(frame.with_columns(pl.Series(column, cells, strict=False)), schema)


def test_angles_come_within_their_period():
    frame = pl.DataFrame({"wind": [-90.0, 10.0, 370.0]})
    schema = schema_of(frame, kinds={"wind": "angle:360"})
    assert to_frame(to_numbers(frame, schema), schema)["wind"].to_list() == [270.0, 10.0, 10.0]


def test_a_table_without_one_of_the_columns(frame):
    schema = schema_of(frame, kinds={"angle": "angle:360"})
    with pytest.raises(DataError, match="lacks the columns binary"):
        to_numbers(frame.drop("binary"), schema)


def test_a_damaged_schema():
    with pytest.raises(DataError, match="expected a schema as JSON"):
        Schema.from_json("{")
    with pytest.raises(DataError, match="unknown kind 'colour'"):
        Schema.from_json('{"columns": [{"name": "x", "kind": "colour"}]}')


def test_a_schema_of_something_else_than_a_frame():
    with pytest.raises(TypeError, match=r"polars DataFrame, got dict: give cnf.tables.read\(source\).frame"):
        schema_of({"a": [1, 2]})
