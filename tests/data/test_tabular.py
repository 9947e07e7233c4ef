"""Tables: what is read is what was written, every mistake is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cnf.data import DataError
from cnf.data import table as tables
from cnf.data.table import Table, check_columns, select
from cnf.data.tabular import load_table


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def save(folder: Path, array: np.ndarray, name: str = "table.npy") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def table(values: object, columns: str = "abcd", name: str = "example") -> Table:
    values = np.asarray(values, dtype=float)
    return Table(values, tuple(columns[: values.shape[1]]), name)


# Reading CSV ------------------------------------------------------------------------------------------------


def test_csv_gives_the_exact_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(size=(200, 3)) * 10.0 ** rng.integers(-30, 30, size=(200, 3))
    rows = [",".join(map(repr, row)) for row in values.tolist()]
    read = load_table(write(tmp_path, "\n".join(["a, b ,c"] + rows), "pump.csv"))
    np.testing.assert_array_equal(read.values, values)
    assert (read.columns, read.name) == (("a", "b", "c"), "pump")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "left{}right\n", '"left"{}"right"\n', "# note, with; both\n\nleft{}right\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_dialects(tmp_path: Path, delimiter: str, header: str, end: str) -> None:
    text = "\n  \n" + header.format(delimiter) + f"1{delimiter} 2.5\n\n-3e2{delimiter}4\n"
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", end).encode())
    read = load_table(path)
    np.testing.assert_array_equal(read.values, [[1, 2.5], [-300, 4]])
    assert read.columns == (("left", "right") if "left" in header else ("x0", "x1"))


@pytest.mark.parametrize("cells", ['"1","2"\n"3","4"', "1,2\n   \n3,4", "+1,2.\n3,4\n\n\n", "1,2\n3,4"])
def test_csv_details_that_change_nothing(tmp_path: Path, cells: str) -> None:
    np.testing.assert_array_equal(load_table(write(tmp_path, cells)).values, [[1, 2], [3, 4]])


def test_csv_of_one_column_and_of_one_row(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load_table(write(tmp_path, "1\n2\n")).values, [[1], [2]])
    np.testing.assert_array_equal(load_table(write(tmp_path, "a,b\n1,2")).values, [[1, 2]])


def test_header_needs_one_text_cell(tmp_path: Path) -> None:
    assert load_table(write(tmp_path, "2001,2002,total\n1,2,3")).columns == ("2001", "2002", "total")


BAD_CSV = {
    "text": ("a,b\n1,2\n\n3,oops\n", "line 4, column 'b': expected a number, got the text 'oops'.*cnf.TableFlow"),
    "text after a comment": ("# c\n1,2\n3,x\n", "line 3, column 'x1': .* text 'x'"),
    "text among many numbers": ("a,b\n" + "1,2\n" * 20 + "12 kg,4\n", "line 22, column 'a': .* got '12 kg'"),
    "dates": ("a,b\n2020-01-31,2\n", "line 2, column 'a': expected a number, got the date '2020-01-31'"),
    "comment between rows": ("1,2\n# c\n3,4\n", "line 2: expected 2 cells, got 1"),
    "underscore": ("a,b\n1_000,2\n", "text '1_000'"),
    "empty cell": ("a,b\n1,2\n3,\n", "got 1 empty or infinite cells: 1 in column 'b' at line 3; .*fill the cells"),
    "empty cell in the first row": ("1,\n2,3\n", "1 in column 'x1' at line 1"),
    "NA": ("1,NA\n2,3\n", "1 in column 'x1' at line 1"),
    "short row": ("a,b\n1,2\n3\n", "line 3: expected 2 cells, got 1; complete or remove"),
    "long rows": ("a,b\n1,2,3\n4,5,6\n", "line 2: expected 2 cells, got 3"),
    "duplicate names": ("a, b,a\n1,2,3\n", "line 1: expected distinct column names, got 'a' twice; rename"),
    "no name": ("a,,b\n0,2,3\n0,4,5\n", "line 1: expected a name for each column, got none for column 2 of 3"),
    "a quotation mark": (
        'a,b\n1,"2\n' + "3,4\n" * 9,
        "line 2: expected cells of one line, got several lines in one; close its quot",
    ),
    "zero bytes": ("a,b\n" + "3,\0 4\n" * 30, "got zero bytes in it"),
    "empty": ("", "expected rows of cells, got an empty file"),
    "comments alone": ("# a\n\n", "expected rows of cells, got an empty file"),
    "header alone": ("# note\na,b\n\n", "expected rows of cells, got a header and no rows"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_named(tmp_path: Path, case: str) -> None:
    text, message = BAD_CSV[case]
    with pytest.raises(DataError, match=f"table.csv.*{message}"):
        load_table(write(tmp_path, text))


def test_nan_and_infinity_in_csv_are_counted_and_located(tmp_path: Path) -> None:
    text = "# note\na,b,c\n1,2,3\n\nnan,2,3\n4,5,6\nNaN,1,-inf\n"
    message = r"got 3 empty or infinite cells: 2 in column 'a' at lines 5, 7, 1 in column 'c' at line 7; remove"
    with pytest.raises(DataError, match=message):
        load_table(write(tmp_path, text))


def test_tables_as_people_write_them_are_numbers_too(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_bytes("température;b\n1,5;20%\n2,5;30%\n".encode("latin-1"))
    read = load_table(path)
    assert read.columns == ("température", "b")
    np.testing.assert_allclose(read.values, [[1.5, 0.2], [2.5, 0.3]])


def test_parquet_gives_the_columns_that_are_numbers(tmp_path: Path) -> None:
    frame = pl.DataFrame({"city": ["Lyon", "Brest"], "x": [1, 2], "y": [0.5, None], "yes": [True, False]})
    frame.write_parquet(tmp_path / "table.parquet")
    assert load_table(tmp_path / "table.parquet", only=["yes", "x"]).values.tolist() == [[1, 1], [0, 2]]
    with pytest.raises(DataError, match=r"row 0 \(counted from 0\), column 'city': expected a number, got the text"):
        load_table(tmp_path / "table.parquet")
    with pytest.raises(DataError, match=r"1 in column 'y' at row 1 \(counted from 0\)"):
        load_table(tmp_path / "table.parquet", only=["y"])


def test_missing_file_and_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.csv: expected a file, found none"):
        load_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="ending in .csv, .*.parquet, .*got the ending '.doc'"):
        load_table(tmp_path / "table.doc")


# Reading NPY ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_npy_of_floats_is_a_read_only_memory_map(tmp_path: Path, rng: np.random.Generator, dtype: type) -> None:
    values = rng.normal(size=(50, 3)).astype(dtype)
    read = load_table(save(tmp_path, values))
    assert isinstance(read.values, np.memmap)
    assert not read.values.flags.writeable
    assert read.values.dtype == dtype
    np.testing.assert_array_equal(read.values, values)
    assert read.columns == ("x0", "x1", "x2")


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float16, ">f8"])
def test_npy_of_other_numbers_is_converted(tmp_path: Path, dtype: str) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]], dtype=dtype)
    read = load_table(save(tmp_path, values)).values
    assert read.dtype == np.dtype(np.float64)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, values.astype(float))


def test_npy_of_one_axis_is_one_column(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load_table(save(tmp_path, np.arange(4.0))).values, [[0], [1], [2], [3]])


BAD_NPY = {
    "objects": (np.array([[1, "a"]], dtype=object), "cannot map .*[Oo]bject.*dtype of numbers"),
    "text": (np.array([["a", "b"]]), "expected an array of real numbers, got <U1; save the numbers alone"),
    "complex": (np.ones((2, 2), dtype=complex), "got complex128; save real and imaginary parts as columns"),
    "structured": (np.ones(3, dtype=[("a", "f4")]), "expected an array of real numbers, got .*'a'"),
    "three axes": (np.ones((2, 3, 4)), r"expected an array of shape \(rows, columns\), got \(2, 3, 4\); reshape"),
    "no axis": (np.array(1.0), r"got \(\)"),
    "no rows": (np.ones((0, 3)), r"got \(0, 3\)"),
    "no columns": (np.ones((3, 0)), r"got \(3, 0\)"),
}


@pytest.mark.parametrize("case", BAD_NPY)
def test_bad_npy_is_named(tmp_path: Path, case: str) -> None:
    array, message = BAD_NPY[case]
    with pytest.raises(DataError, match=f"table.npy.*{message}"):
        load_table(save(tmp_path, array))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x80\x04K\x01."], ids=["empty", "text", "pickle"])
def test_foreign_npy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match="table.npy: expected an array of numbers, got a file that numpy cannot map"):
        load_table(path)


def test_truncated_and_zipped_npy(tmp_path: Path) -> None:
    path = save(tmp_path, np.ones((100, 3)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="numpy cannot map"):
        load_table(path)
    with open(path, "wb") as file:
        np.savez(file, a=np.ones(3))
    with pytest.raises(DataError, match="numpy cannot map .*; write one array to it with numpy.save"):
        load_table(path)


def test_nan_is_found_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK", 20)  # ten rows of two columns
    values = np.zeros((100, 2))
    values[[0, 9, 10, 55, 56, 57, 99], 1] = np.nan
    values[42, 0] = np.inf
    message = r"got 8 NaN .* 1 in column 'x0' at rows 42 .*, 7 in column 'x1' at rows 0, 9, 10, 55, 56, \.\.\. "
    with pytest.raises(DataError, match=message + r"\(counted from 0\)"):
        load_table(save(tmp_path, values))


# Columns ----------------------------------------------------------------------------------------------------


def test_select_separates_by_name() -> None:
    source = table(np.arange(8.0).reshape(2, 4))
    x, context = select(source, ["d", "b"])
    np.testing.assert_array_equal(x, [[0, 2], [4, 6]])
    assert context is not None
    np.testing.assert_array_equal(context, [[3, 1], [7, 5]])
    x, context = select(source)
    np.testing.assert_array_equal(x, source.values)
    assert context is None


@pytest.mark.parametrize("names", [[], ["x0"], ["x3"], ["x2", "x3"], ["x1", "x3"]])
def test_select_leaves_a_memory_map_on_disk(tmp_path: Path, names: list[str]) -> None:
    source = load_table(save(tmp_path, np.arange(40.0).reshape(10, 4)))
    parts = [part for part in select(source, names) if part is not None]
    assert all(np.shares_memory(part, source.values) for part in parts)


def test_select_names_the_known_columns() -> None:
    source = table(np.ones((2, 3)))
    with pytest.raises(DataError, match="got 'e', 'f'; the columns of example are a, b, c"):
        select(source, ["a", "e", "f"])
    with pytest.raises(DataError, match="expected each context column once, got b, b"):
        select(source, ["b", "b"])
    with pytest.raises(DataError, match="expected a column to model, got all as context"):
        select(source, ["a", "b", "c"])


def test_constant_columns_are_named_with_their_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK", 30)
    values = np.zeros((100, 3))
    values[99, 0] = 1e-300
    values[:, 1] = 2.5
    values[0, 2] = -1
    with pytest.raises(DataError, match=r"example: .* same value in all 100 rows for 'b' \(always 2.5\); drop"):
        check_columns(table(values))
    values[50, 1] = 2.6
    check_columns(table(values))


def test_known_tables(data_root: Path) -> None:
    power = load_table(data_root / "power_plant.npy")
    assert power.values.shape == (9568, 5)
    check_columns(power)
    fires = load_table(data_root / "earth" / "fire.csv")
    assert (fires.columns, len(fires.values)) == (("x0", "x1"), 12809)
    np.testing.assert_array_equal(fires.values[0], [-25.088, 152.358])
    floods = load_table(data_root / "earth" / "flood.csv")
    assert (floods.columns, len(floods.values)) == (("lat", "long"), 4875)
    assert np.abs(floods.values[:, 0]).max() <= 90
