"""Tables of any kinds of columns on the command line: fitted, sampled, scored, completed, predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cnf.cli import main
from cnf.cli.table_runs import open_table_run, seeded
from cnf.data.reading import pieces
from cnf.tables import read

QUICK = ["--steps", "3", "--no-progress", "--option", "hidden=8,8"]
CITIES = ["Lyon", "Brest", "Nice"]


def shops(n: int) -> list[list[str]]:
    """Rows as a spreadsheet in a language with decimal commas exports them; some cells are empty."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(n):
        turnover = f"{np.exp(random.normal(3, 1)):.4f}".replace(".", ",")
        day = f"{1 + i % 28:02}.{1 + i % 12:02}.2024"
        cells = [random.choice(CITIES), turnover, str(random.poisson(30)), random.choice(["yes", "no"]), day]
        rows.append([cell if random.uniform() > 0.1 else "" for cell in cells])
    return rows


HEAD = "city;turnover;staff;open;since"


def write(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("\n".join([HEAD, *(";".join(row) for row in rows)]) + "\n")
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shops") / "shops.csv", shops(80))


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    out = table.parent / "run"
    main(["fit", str(table), "--out", str(out), *QUICK])
    return out


def test_fit_says_what_it_saw_and_leaves_a_run(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "seen"
    main(["fit", str(table), "--out", str(out), *QUICK])
    said = capsys.readouterr()
    for words in (
        "city      category  ",
        "turnover  positive",
        "staff     integer",
        "open      binary",
        "since     date",
    ):
        assert words in said.out
    assert "turnover: numbers written as 1234,5" in said.err
    assert "staff: numbers" not in said.err
    assert "test NLL" in said.out
    files = {"model.json", "model.safetensors", "table.json", "schema.json", "data.json", "trained_on.npy", "log.csv"}
    assert files | {"metrics.json", "checkpoint.safetensors"} <= {path.name for path in out.iterdir()}


def test_the_report_of_a_run_can_be_drawn_again(run: Path, tmp_path: Path) -> None:
    main(["plot", str(run), "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "training.png"}
    first, again = ((folder / "report.html").read_text() for folder in (run, tmp_path))
    assert first.count("<section") == again.count("<section") > 4


def test_samples_are_written_as_the_table_was(run: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sample", str(run), "-n", "20"])
    text = capsys.readouterr().out
    assert text.splitlines()[0] == HEAD
    again = table.with_name("again.csv")
    again.write_text(text)
    before, after = read(table), read(again)
    assert after.frame.schema == before.frame.schema
    assert after.style == before.style
    assert set(after.frame["city"]) <= {*CITIES, None}
    main(["sample", str(run), "-n", "20", "--out", str(again.with_suffix(".parquet"))])
    assert pl.read_parquet(again.with_suffix(".parquet")).equals(after.frame)


def test_samples_have_what_is_given(run: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.with_name("given.csv")
    main(["sample", str(run), "-n", "7", "--given", "city=Nice,turnover=12,5,staff=30".replace("12,5", "12.5")])
    rows = [line.split(";") for line in capsys.readouterr().out.splitlines()[1:]]
    assert {(row[0], row[1], row[2]) for row in rows} == {("Nice", "12,5", "30")}
    conditions = write(table.with_name("conditions.csv"), [["Lyon", "", "", "yes", ""], ["Nice", "", "20", "", ""]])
    main(["sample", str(run), "-n", "2", "--given", str(conditions), "--out", str(out)])
    frame = read(out).frame
    assert frame["city"].to_list() == ["Lyon", "Lyon", "Nice", "Nice"]
    assert frame["open"].to_list()[:2] == ["yes", "yes"]
    assert frame["staff"].to_list()[2:] == [20, 20]
    main(["sample", str(run), "--given", str(conditions), "--out", str(out)])
    assert read(out).frame.height == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("city=Paris", "--given city=Paris: this value never occurred; the levels of city are .*Lyon"),
        ("town=Lyon", "of the columns city, turnover, staff, open, since; got town"),
        ("Lyon", "of the columns city"),
        ("staff=many", "--given staff=many: expected a number, for staff is integer"),
        ("since=soon", "--given since=soon: expected a date, such as 2024-01-31"),
        ("city=Lyon,city=Nice", "names a column twice"),
        ("turnover=-1", "'turnover'.*below its bound 0"),
    ],
)
def test_conditions_that_cannot_be(given: str, message: str, run: Path) -> None:
    with pytest.raises(SystemExit, match=f"^cnf: .*{message}"):
        main(["sample", str(run), "-n", "2", "--given", given])


def test_scores_of_each_row(run: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.with_name("scores.csv")
    main(["score", str(run), str(table), "--out", str(out), "--no-progress"])
    said = capsys.readouterr().out
    scores = read(out).frame
    assert scores.columns == ["log_prob", "p_value", "typicality", "unusual"]
    assert f"log p = {scores['log_prob'].mean():.4f}" in said
    assert "each of them a lower bound" in said
    assert "72 of these rows are equal to rows that the model was trained on; over the other 8 rows" in said
    assert set(scores["unusual"]) <= set(HEAD.split(";"))
    flow, _ = open_table_run(run)
    ranks = (1 + (flow.validation <= scores["log_prob"].to_numpy()[:, None]).sum(1)) / (len(flow.validation) + 1)
    np.testing.assert_allclose(scores["p_value"], ranks)


def test_a_level_that_training_had_not(run: Path, table: Path) -> None:
    other = write(table.with_name("other.csv"), [["Paris", "20,5", "30", "yes", "01.02.2024"], *shops(4)])
    with pytest.raises(SystemExit, match="other.csv: column 'city': 1 rows have levels .*first 'Paris' in row 0"):
        main(["score", str(run), str(other), "--no-progress"])
    out = table.with_name("impossible.parquet")
    main(["score", str(run), str(other), "--no-progress", "--unknown", "impossible", "--out", str(out)])
    scores = pl.read_parquet(out)["log_prob"].to_list()
    assert scores[0] == -np.inf
    assert np.isfinite(scores[1:]).all()
    with pytest.raises(SystemExit, match="--unknown must be error or impossible, got 'maybe'"):
        main(["score", str(run), str(other), "--no-progress", "--unknown", "maybe"])


def test_imputation_fills_empty_cells_and_touches_no_others(run: Path, table: Path) -> None:
    holes = table.with_name("holes.csv")
    lines = [f"{line};{'note' if not i else f'n{i % 3}'}" for i, line in enumerate(table.read_text().splitlines())]
    holes.write_text("\n".join(lines))
    before, out = read(holes).frame, table.with_name("filled.csv")
    main(["impute", str(run), str(holes), "--out", str(out), "--no-progress"])
    after = read(out).frame
    assert after.schema == before.schema
    assert not sum(after.null_count().row(0))
    for name in before.columns:
        there = before[name].is_not_null()
        assert after[name].filter(there).equals(before[name].filter(there))
    main(["impute", str(run), str(holes), "--out", str(out), "--draws", "3", "--no-progress"])
    draws = read(out).frame
    assert draws["draw"].to_list()[:6] == [0, 1, 2, 0, 1, 2]
    assert draws.height == 3 * before.height
    filled = draws.filter(pl.col("draw") == 0)["turnover"].to_numpy()[before["turnover"].is_null().to_numpy()]
    others = draws.filter(pl.col("draw") == 1)["turnover"].to_numpy()[before["turnover"].is_null().to_numpy()]
    assert (filled != others).all()


def test_predictions_of_numbers_levels_and_dates(run: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.with_name("predicted.csv")
    main(["predict", str(run), str(table), "--column", "turnover", "--draws", "20", "--out", str(out), "--no-progress"])
    said = capsys.readouterr().out
    assert "turnover: RMSE of the mean" in said
    assert "the 90% interval covers" in said
    frame = read(out).frame
    assert frame.columns == ["turnover", "mean", "q05", "q25", "q50", "q75", "q95", "pit", "crps"]
    known = frame.filter(pl.col("turnover").is_not_null())
    assert known["crps"].null_count() == 0
    assert (frame["q05"] <= frame["q95"]).all()
    main(["predict", str(run), str(table), "--column", "city", "--draws", "20", "--out", str(out), "--no-progress"])
    assert "city: accuracy" in capsys.readouterr().out
    shares = read(out).frame.select(f"p({city})" for city in CITIES)
    np.testing.assert_allclose(shares.sum_horizontal().to_numpy(), 1, rtol=1e-9)
    main(["predict", str(run), str(table), "--column", "since", "--draws", "20", "--out", str(out), "--no-progress"])
    assert read(out).frame["q50"].dtype == pl.Date
    with pytest.raises(SystemExit, match="--column price: there is no such column in the model; it has city"):
        main(["predict", str(run), str(table), "--column", "price"])


def test_conditions_of_any_kind(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "conditional"
    main(["fit", str(table), "--out", str(out), "--context", "city,since", *QUICK])
    main(["score", str(out), str(table), "--out", str(table.with_name("c.csv")), "--no-progress"])
    flow, about = open_table_run(out)
    assert about["context"] == ["city", "since"]
    flow.seed = seeded(flow, 0, 0).seed
    expected = flow.log_prob(read(table).frame, given=["city", "since"])
    np.testing.assert_allclose(read(table.with_name("c.csv")).frame["log_prob"], expected, rtol=1e-6)
    assert not {"city", "since"} & set(read(table.with_name("c.csv")).frame["unusual"])


def test_kinds_are_declared_by_words_and_by_a_file(table: Path, tmp_path: Path) -> None:
    schema = {"staff": "category", "since": "date"}
    (tmp_path / "kinds.json").write_text(json.dumps(schema))
    for number, kinds in enumerate(["staff=category,since=date", str(tmp_path / "kinds.json")]):
        out = tmp_path / f"run{number}"
        main(["fit", str(table), "--out", str(out), "--kinds", kinds, "--drop", "open", *QUICK])
        flow, _ = open_table_run(out)
        assert flow.schema["staff"].kind == "category"
        assert "open" not in flow.schema.names
    main(
        ["fit", str(table), "--out", str(tmp_path / "run2"), "--kinds", str(tmp_path / "run1" / "schema.json"), *QUICK]
    )
    assert open_table_run(tmp_path / "run2")[0].schema == flow.schema


def test_weights_are_a_column_and_not_modelled(table: Path, tmp_path: Path) -> None:
    frame = read(table).frame.with_columns(pl.Series("w", np.arange(80) % 3))
    frame.write_parquet(tmp_path / "t.parquet")
    main(["fit", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "run"), "--weights", "w", *QUICK])
    assert "w" not in open_table_run(tmp_path / "run")[0].schema.names
    with pytest.raises(SystemExit, match="--weights turnover: expected a number in each row, got .* empty cells"):
        main(["fit", str(table), "--out", str(tmp_path / "other"), "--weights", "turnover", *QUICK])


def test_the_parts_of_several_processes_are_the_result_of_one(
    run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 16)
    frame = read(table).frame
    frame.write_parquet(tmp_path / "t.parquet")
    for command in ("score", "impute"):
        arguments = [command, str(run), str(tmp_path / "t.parquet"), "--no-progress", "--out"]
        main([*arguments, str(tmp_path / "one.parquet")])
        for rank in range(2):
            facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
            for name, value in (facts | {"MASTER_ADDR": "localhost", "MASTER_PORT": 1}).items():
                monkeypatch.setenv(name, str(value))
            main([*arguments, str(tmp_path / "part.parquet")])
            for name in (*facts, "MASTER_ADDR", "MASTER_PORT"):
                monkeypatch.delenv(name)
        parts = [pl.read_parquet(tmp_path / f"part.{rank}-of-2.parquet") for rank in range(2)]
        assert all(part.height for part in parts)
        assert pl.concat(parts).equals(pl.read_parquet(tmp_path / "one.parquet"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("impute MOONS TABLE --out x.csv", "needs a model of any cells given any others.*--model any_cnf"),
        ("predict MOONS TABLE --column x", "needs a model of any cells"),
        ("score RUN TABLE --out x.pdf", "cannot write x.pdf: known suffixes are .csv"),
        ("score RUN TABLE --tolerance 1e-3", "for flows of numbers: leave them out"),
        ("plot RUN --columns city", "--columns chooses what corner.png shows"),
        ("fit moons --out OUT --drop x", "--drop is for tables of your own, and moons is none"),
        ("fit TABLE --out OUT --kinds town=category", "--kinds names columns that are not there, town"),
        ("fit TABLE --out OUT --kinds staff=numeric", "unknown kind 'numeric'; the kinds are"),
        ("fit TABLE --out OUT --kinds staff", "--kinds takes COLUMN=KIND"),
        ("fit TABLE --out OUT --kinds none.json", "none.json is no JSON file that can be read"),
        ("fit TABLE --out OUT --kinds staff=integer,staff=real", "names a column twice"),
        ("fit TABLE --out OUT --drop town", "--drop names columns that are not there, town"),
        ("fit TABLE --out OUT --context town", "--context names columns that are not there, town"),
        ("fit TABLE --out OUT --context city,turnover,staff,open,since", "got all as context"),
        ("fit TABLE --out OUT --weights town", "names columns that are not there, town"),
        ("fit TABLE --out OUT --model maf", "column 'city': expected a number, got the text.*any_cnf"),
        ("fit TABLE --out OUT --model maf --kinds staff=integer", "--kinds is for --model any_cnf, maf takes"),
        ("fit TABLE --out OUT --columns city", "leave it out"),
        ("fit TABLE --out OUT --option hiden=3", "no option hiden, did you mean hidden"),
    ],
)
def test_mistakes_are_named(command: str, message: str, run: Path, table: Path, tmp_path: Path) -> None:
    moons = table.parent / "moons"
    if "MOONS" in command and not moons.exists():
        main(["fit", "moons", "--out", str(moons), "--model", "maf", "--steps", "1", "--no-progress"])
    places = {"RUN": str(run), "TABLE": str(table), "OUT": str(tmp_path / "out"), "MOONS": str(moons)}
    with pytest.raises(SystemExit, match=f"^cnf: .*{message}"):
        main([places.get(word, word) for word in command.split()])
    assert not (tmp_path / "out").exists()


DATES = "".join(f"{i},2024-01-{1 + i % 28:02}\n" for i in range(40))
KILOS = "".join(f"{i},{50 + i % 9}\n" for i in range(40))
BAD = {
    "names twice": (f"a,a\n{KILOS}", "line 1: expected distinct column names, got 'a' twice"),
    "a mixed column": (f"a,kg\n{KILOS}3,12 kg\n", "line 42, column 'kg': expected a number .*got '12 kg'; correct the"),
    "a date that is none": (f"a,day\n{DATES}3,2024-02-31\n", "line 42, column 'day': expected a date .*'2024-02-31'"),
    "an empty column": ("a,b,c\n" + "".join(f"{i},,x\n" for i in range(40)), "column 'b' has no values"),
    "an empty row": (f"a,b\n{KILOS},\n", "line 42: expected values, got nothing but empty cells"),
    "names of rows": ("a,b\n" + "".join(f"k{i},1\n" for i in range(40)), "column 'b' has the same value in all rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_named_and_leave_no_folder(name: str, tmp_path: Path) -> None:
    text, message = BAD[name]
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(SystemExit, match=f"^cnf: .*bad.csv.*{message}"):
        main(["fit", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "run"), *QUICK])
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_a_parquet_file_cut_short_and_a_book_of_two_sheets(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": np.arange(500.0), "b": ["x", "y"] * 250})
    frame.write_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-100])
    with pytest.raises(SystemExit, match="t.parquet: expected a whole Parquet file"):
        main(["fit", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "run"), *QUICK])
    writer = pytest.importorskip("xlsxwriter")
    pytest.importorskip("fastexcel")
    with writer.Workbook(tmp_path / "t.xlsx") as book:
        frame.write_excel(book, worksheet="one")
        frame.write_excel(book, worksheet="two")
    with pytest.raises(SystemExit, match="expected one sheet with rows, got one, two; .*--sheet"):
        main(["fit", str(tmp_path / "t.xlsx"), "--out", str(tmp_path / "run"), *QUICK])
    with pytest.raises(SystemExit, match="has no sheet 'three' with rows: it has one, two"):
        main(["fit", str(tmp_path / "t.xlsx"), "--sheet", "three", "--out", str(tmp_path / "run"), *QUICK])
