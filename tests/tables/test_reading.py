"""Tables are read as people write them, and what cannot be read is named."""

from __future__ import annotations

import datetime
import gzip

import numpy as np
import polars as pl
import pytest

from cnf.errors import DataError
from cnf.tables import read


@pytest.fixture
def table(tmp_path):
    """A function that writes a text to a file and reads it as a table."""

    def reading(content, name="table.csv", encoding="utf-8", **options):
        data = content.encode(encoding)
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return read(path, **options)

    return reading


ROWS = [("a", 1.5), ("b", 2.0)]
FORMS = {
    "comma": "name,x\na,1.5\nb,2\n",
    "semicolon and decimal comma": "name;x\na;1,5\nb;2,0\n",
    "tab": "name\tx\na\t1.5\nb\t2\n",
    "bar": "name|x\na|1.5\nb|2\n",
    "blanks": "name   x\n  a   1.5\n b     2\n",
    "quotes": 'name,"x"\n"a","1.5"\nb,"2"\n',
    "comments and blank lines": "# made by hand\n\nname,x\na,1.5\n\nb,2\n",
    "carriage returns": "name,x\r\na,1.5\r\nb,2\r\n",
    "byte order mark": "\ufeffname,x\na,1.5\nb,2\n",
    "no end of line": "name,x\na,1.5\nb,2",
    "empty last column": "name,x,\na,1.5,\nb,2,\n",
    "numbered rows": ",name,x\n0,a,1.5\n1,b,2\n",
    "names of rows": "name,x\nfirst,a,1.5\nsecond,b,2\n",
    "units": "name,x\n-,kg\na,1.5\nb,2\n",
    "blanks around cells": "name , x\n a, 1.5\nb ,2\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_text_are_the_same_table(form, table):
    frame = table(FORMS[form]).frame
    assert frame.columns == ["name", "x"]
    assert frame.rows() == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_encodings(encoding, table):
    assert table("näme,x\ncafé,1\nthé,2\n", encoding=encoding).frame.rows() == [("café", 1), ("thé", 2)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.data", "t.dat", "t.csv.gz", "T.CSV"])
def test_endings(name, table):
    assert table("a b\n1 2\n3 4\n", name).frame.rows() == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-2", "+3"], [1, -2, 3]),
        (["1e3", ".5", "7."], [1000.0, 0.5, 7.0]),
        (['"1,234.5"', '"2,000"', "3"], [1234.5, 2000.0, 3.0]),
        (["1 234.5", "2 000", "3"], [1234.5, 2000.0, 3.0]),
        (["1'234", "2'000", "3"], [1234, 2000, 3]),
        (["12%", "5 %", "7.5%"], [0.12, 0.05, 0.075]),
        (["1", "", "NA"], [1, None, None]),
        (["1", "n/a", "?"], [1, None, None]),
        (["yes", "", "no"], ["yes", None, "no"]),
        (["none", "one", "two"], ["none", "one", "two"]),
        (["007", "a7", "b7"], ["007", "a7", "b7"]),
    ],
)
def test_cells(cells, values, table):
    text = "x,y\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))
    read_values = table(text).frame["x"].to_list()
    assert read_values == (pytest.approx(values) if values[0] == 0.12 else values)


def test_cells_of_a_table_with_decimal_commas(table):
    frame = table("x;y;z\n1.234,5;1.000;1 000,5\n2,25;2.000;2\n").frame
    assert frame.rows() == [(1234.5, 1000, 1000.5), (2.25, 2000, 2.0)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["2020-01-31", "2021-12-01"], [datetime.date(2020, 1, 31), datetime.date(2021, 12, 1)]),
        (["31.01.2020", "01.12.2021"], [datetime.date(2020, 1, 31), datetime.date(2021, 12, 1)]),
        (["01/31/2020", "12/01/2021"], [datetime.date(2020, 1, 31), datetime.date(2021, 12, 1)]),
        (["2020-01-31 10:30", ""], [datetime.datetime(2020, 1, 31, 10, 30), None]),
    ],
)
def test_dates(cells, values, table):
    text = "x,y\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))
    assert table(text).frame["x"].to_list() == values


def test_only_what_was_written_in_another_way_is_noted(table):
    assert table("x;y;z\n1,5;1.000;3\n2,5;2.000;4\n").notes == (
        "x: numbers written as 1234,5",
        "y: numbers written as 1.234,5",
    )


def test_a_date_that_can_be_read_in_two_ways_is_said(table):
    notes = table("x,y\n01/02/2020,1\n03/04/2020,2\n").notes
    assert notes == ("x: dates as %d/%m/%Y (%m/%d/%Y would fit too)",)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("male,22\nfemale,23\nmale,24\n", None),
        ("male,yes\nfemale,no\nmale,no\n", None),
        ("1,2\n3,4\n", None),
        ("sex,alive\nmale,no\nfemale,no\n", 1),
        ("# from\n\nsex,age\nmale,22\n", 3),
        ("name,2001,2002\na,1,2\nb,3,4\n", None),
        ("2001,2002,total\n1,2,3\n4,5,9\n", 1),
    ],
)
def test_a_header_is_seen_by_its_cells(text, header, table):
    assert table(text).header == header


def test_the_caller_may_know_better(table):
    assert table("male,yes\nfemale,no\n", header=False).frame.height == 2
    assert table("1,2\n3,4\n", header=True).frame.rows() == [(3, 4)]


TWENTY = "".join(f"{i},{i}\n" for i in range(20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("a,b\n", "a header and no rows"),
        ("a,a\n1,2\n", "line 1: expected distinct column names, got 'a' twice"),
        ("a,,c\n1,2,3\n1,5,6\n", "line 1: expected a name for each column, got none for column 2 of 3"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 cells, got 1"),
        ("a,b\n1,2\n3,4,5\n", "line 3: expected 2 cells, got 3"),
        ("a,b\n1,2\n,\n", "line 3: expected values, got nothing but empty cells"),
        ("a\0b,c\n1,2\n", "zero bytes"),
    ],
)
def test_what_is_no_table_is_named(text, message, table):
    with pytest.raises(DataError, match=message):
        table(text)


@pytest.mark.parametrize(
    ("cell", "message"),
    [("12 kg", "column 'w': expected a number as in the other rows, got '12 kg'"), ("1_000", "got '1_000'")],
)
def test_a_mistake_in_a_column_of_numbers_is_kept_for_who_uses_it(cell, message, table):
    reading = table(f"w,y\n{TWENTY}{cell},4\n")
    assert reading.frame["w"].dtype == pl.String
    assert message in str(reading.mixed["w"])
    assert "line 22" in str(reading.mixed["w"])
    assert not table(f"w,y\n{TWENTY}{cell},4\n", text=["w"]).mixed


def test_a_mistake_in_a_column_of_dates(table):
    days = "".join(f"2020-01-{i:02},{i}\n" for i in range(1, 21))
    assert "expected a date as %Y-%m-%d" in str(table(f"d,y\n{days}2020-02-31,4\n").mixed["d"])


def test_binary_files_keep_their_types(tmp_path):
    frame = pl.DataFrame({"city": ["Lyon", None], "x": [1.5, 2.0], "n": [1, 2]})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ipc(tmp_path / "t.feather")
    np.save(tmp_path / "t.npy", np.arange(6.0).reshape(3, 2))
    assert read(tmp_path / "t.parquet").frame.equals(frame)
    assert read(tmp_path / "t.feather").frame.equals(frame)
    assert read(tmp_path / "t.npy").frame.rows() == [(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)]


def test_objects(tmp_path):
    frame = pl.DataFrame({"city": ["Lyon", None], "x": [1.5, None]})
    assert read(frame).frame.equals(frame)
    assert read(frame.lazy()).frame.equals(frame)
    assert read({"x": [1, 2]}).frame["x"].to_list() == [1, 2]
    assert read(np.array([[1.0, np.nan]])).frame.rows() == [(1.0, None)]
    pandas = pytest.importorskip("pandas")
    assert read(pandas.DataFrame({"city": ["Lyon", None], "x": [1.5, np.nan]})).frame.equals(frame)
    with pytest.raises(TypeError, match="expected a path, a DataFrame"):
        read(3)


def test_a_sheet_of_several_is_named(tmp_path):
    pytest.importorskip("fastexcel")
    writer = pytest.importorskip("xlsxwriter")
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    with writer.Workbook(tmp_path / "t.xlsx") as book:
        frame.write_excel(book, worksheet="one")
        frame.write_excel(book, worksheet="two")
    assert read(tmp_path / "t.xlsx", sheet="two").frame.equals(frame)
    with pytest.raises(DataError, match="expected one sheet with rows, got one, two"):
        read(tmp_path / "t.xlsx")


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.csv.gz"])
def test_a_file_cut_short_is_named(name, tmp_path):
    path = tmp_path / name
    frame = pl.DataFrame({"x": np.arange(1000.0)})
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        frame.write_parquet(path) if name.endswith("parquet") else frame.write_ipc(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"t\..*expected a whole .* file"):
        read(path)


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(DataError, match="found none"):
        read(tmp_path / "t.csv")
    with pytest.raises(DataError, match="got the ending '.doc'"):
        read(tmp_path / "t.doc")


def test_the_tables_at_hand(data_root):
    folder = data_root / "tables"
    shapes = {"penguins.csv": (344, 7), "titanic.csv": (891, 15), "mpg.csv": (398, 9), "tips.csv": (244, 7)}
    for name, shape in {**shapes, "energy.txt": (768, 9)}.items():
        reading = read(folder / name)
        assert reading.frame.shape == shape
        assert not reading.mixed
