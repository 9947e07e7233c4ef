"""What a trained model is asked for later: which columns, which rows, which digits, which pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import cnf
from cnf.cli import main, pictures
from cnf.cli.runs import describe
from cnf.data.sketch import keys_of
from cnf.data.sources import open_source
from cnf.errors import SolverError

NAMES = ["load", "power", "noise"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    np.savetxt(tmp_path / "t.csv", rows, delimiter=",", header=",".join(NAMES), comments="", fmt="%.9g")
    return tmp_path / "t.csv"


def run_of(table: Path, model: str = "maf", context: tuple[str, ...] = (), scale: float = 1.0) -> Path:
    """A folder as `cnf fit` leaves it, without the training."""
    folder = table.parent / f"run_{model}"
    source = open_source(str(table), context=context)
    options = {"hidden": (4,)} if model == "cnf" else {}
    flow = cnf.build(model, source.event_shape, len(context), **options)
    x, condition, _ = source.train.read(range(40))
    flow.initialize(scale * x, condition)
    cnf.save(flow, folder)
    about = {
        "data": str(table), "columns": list(source.columns), "context": list(context), "seed": 0, "data_root": None
    }  # fmt: skip
    describe(folder, keys_of(source.train), about, resume=False)
    return folder


def scores(run: Path, data: Path, *options: str) -> np.ndarray:
    out = data.parent / "scores.npy"
    main(["score", str(run), str(data), "--out", str(out), "--no-progress", *options])
    return np.load(out)[:, 0]


def test_score_ignores_columns_that_the_model_does_not_need(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(table)
    expected = scores(run, table)
    rows = [line.split(",") for line in table.read_text().splitlines()]
    wide = table.with_name("wide.csv")
    wide.write_text(
        "\n".join(
            f"{r[2]},{'name' if not i else 'x y;'},{r[0]},,{r[1]}".replace(",,", ",empty," if not i else ",,")
            for i, r in enumerate(rows)
        )
    )
    np.testing.assert_allclose(scores(run, wide), expected, rtol=1e-5)
    assert "the model does not need name, empty" in capsys.readouterr().err


def test_a_row_that_is_too_short_is_no_matter_of_columns(table: Path) -> None:
    run = run_of(table)
    (table.parent / "short.csv").write_text("noise,name,power,load\n1,a,2,3\n1,2,3\n")
    with pytest.raises(SystemExit, match="short.csv, line 3: expected 4 cells"):
        main(["score", str(run), str(table.parent / "short.csv"), "--no-progress"])


def test_a_table_without_names_is_taken_by_place_or_refused(table: Path) -> None:
    run, rows = run_of(table), np.loadtxt(table, delimiter=",", skiprows=1)
    expected = scores(run, table)
    np.save(table.with_name("t.npy"), rows)
    np.testing.assert_allclose(scores(run, table.with_name("t.npy")), expected, rtol=1e-5)
    np.save(table.with_name("four.npy"), np.ones((5, 4)))
    with pytest.raises(SystemExit, match="four.npy has no header and 4 columns, the model needs 3: load, power, noise"):
        scores(run, table.with_name("four.npy"))
    with pytest.raises(SystemExit, match="does not say which columns are the context load"):
        scores(run_of(table, "nice", ("load",)), table.with_name("t.npy"))


def test_what_is_taken_for_the_header_is_said_and_can_be_set(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    years = table.with_name("years.csv")
    lines = table.read_text().splitlines()
    years.write_text("\n".join(["2001,2002,2003", *lines[1:]]))
    run = run_of(table)
    assert len(scores(run, years)) == 61
    assert "no header is seen, the first row is taken as data" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="lacks the columns load, power, noise"):
        scores(run, years, "--header")
    assert "line 1 is taken as the header, the 3 columns are 2001, 2002, 2003" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="line 1, column 'x0': expected a number as in the other rows, got 'load'"):
        scores(run, table, "--no-header")


def test_score_says_which_rows_were_trained_on(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(table)
    values = scores(run, table)
    out = capsys.readouterr().out
    fresh = [i for i in range(60) if i not in open_source(str(table)).train.choice]
    assert "48 of these rows are equal to rows that the model was trained on; over the other 12 rows" in out
    assert f"log p = {values[fresh].mean():.4f}" in out
    new = table.with_name("new.csv")
    new.write_text("\n".join([",".join(NAMES), "1,2,3", "4,5,6"]))
    scores(run, new)
    assert "trained on" not in capsys.readouterr().out
    (run / "trained_on.npy").write_bytes(b"\x93NUMPY damaged")
    with pytest.raises(SystemExit, match="trained_on.npy is damaged"):
        scores(run, new)


@pytest.mark.parametrize(
    ("context", "given", "message"),
    [((), "load=1", "for conditional models, .*leave it out; got load=1"), (("load",), "", "load=VALUE; got nothing")],
)
def test_a_condition_is_given_where_there_is_one(
    context: tuple[str, ...], given: str, message: str, table: Path
) -> None:
    with pytest.raises(SystemExit, match=f"^cnf: --given .*{message}"):
        main(["sample", str(run_of(table, context=context)), "--given", given])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_are_written_with_all_their_digits(dtype: torch.dtype) -> None:
    x = torch.tensor(
        [[1.7e9 + 128, 0.1, 1e-30], [-1 / 3, 123456789.0, 5e-324 if dtype == torch.float64 else 1e-45]], dtype=dtype
    )
    header, *lines = "".join(cnf.cli.tables.csv_text([x], ["a", "b", "c"])).splitlines()
    assert header == "a,b,c"
    read = torch.tensor([[float(cell) for cell in line.split(",")] for line in lines], dtype=torch.float64)
    assert torch.equal(read.to(dtype), x)
    assert lines[0].split(",")[1] == "0.1"


def test_a_set_of_another_kind_is_named(table: Path) -> None:
    with pytest.raises(SystemExit, match=r"moons has rows of shape \(2,\), the model was trained on .*t.csv"):
        main(["score", str(run_of(table)), "moons", "--no-progress"])


@pytest.mark.parametrize(("about", "message"), [({"columns": 3}, "must be lists"), ({}, "has no data, columns")])
def test_a_damaged_description_is_named(table: Path, about: dict[str, object], message: str) -> None:
    run = run_of(table)
    before = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**before, **about} if about else {}))
    with pytest.raises(SystemExit, match=f"data.json.*{message}"):
        main(["sample", str(run)])


def test_a_failed_solve_names_the_options_that_help(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(table, "cnf")

    def fails(*args: object, **kwargs: object) -> None:
        raise SolverError("the step size fell to 1e-6", [3], "call reconfigure(flow)", 0.9)

    monkeypatch.setattr(cnf.Flow, "sample_in_pieces", fails)
    with pytest.raises(SystemExit, match="fell to .* at t = 0.9.*Samples: 3.*--tolerance 1e-3") as caught:
        main(["sample", str(run), "--no-progress"])
    assert "reconfigure" not in str(caught.value)
    monkeypatch.undo()
    main(["sample", str(run), "-n", "2", "--tolerance", "1e-2"])


def test_a_training_that_fails_names_options_and_a_run_without_a_model_says_how_to_go_on(table: Path) -> None:
    out = str(table.parent / "run")
    command = ["fit", str(table), "--out", out, "--no-progress", "--option", "hidden=4"]
    with pytest.raises(SystemExit) as caught:
        main([*command, "--steps", "30", "--learning-rate", "1e9"])
    text = str(caught.value)
    for part in (
        r"Rows of the data: \[",
        r"smaller --learning-rate \(now 1e\+09\), in another --out",
        "another --model",
    ):
        assert re.search(part, text)
    for part in ("learning_rate", "clip", "float64", "rtol", "The flow", "Samples"):
        assert part not in text
    for after in (["score", out, str(table)], ["sample", out], ["plot", out]):
        with pytest.raises(SystemExit, match="holds a run that has not ended: .*cnf fit .*--resume"):
            main(after)


def test_a_picture_that_fails_is_reported_and_leaves_the_others(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = run_of(table, "cnf"), table.with_name("pictures")
    source, flow = open_source(str(table)), cnf.load(run)
    history = [{"step": 1.0, "loss": 1.0, "nll": 1.0, "evaluations": 3.0}]

    def fails(*args: object, **kwargs: object) -> None:
        raise SolverError("the step size fell to 1e-6", [3], "call reconfigure(flow)", 0.9)

    monkeypatch.setattr(cnf.Flow, "sample", fails)
    assert pictures.draw(flow, source, out, history) == [out / "training.png", out / "report.html"]
    said = capsys.readouterr().err
    assert said.startswith("cnf: corner.png could not be drawn: the step size fell")
    assert "cnf plot with --tolerance" in said
    assert said.count("\n") == 1
    assert "This part could not be made: the step size fell" in (out / "report.html").read_text()
    with pytest.raises(SystemExit):
        main(["plot", str(run)])


def test_plot_finds_data_that_moved_and_takes_columns(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(table)
    moved = table.rename(table.with_name("moved.csv"))
    with pytest.raises(SystemExit, match="t.csv: expected a file, found none"):
        main(["plot", str(run)])
    main(["plot", str(run), "--data", str(moved), "--columns", "noise,load", "--out", str(table.parent / "p")])
    assert "corner.png" in capsys.readouterr().out


def test_the_axes_of_two_columns_have_their_names(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnf import plotting

    named: list[object] = []
    monkeypatch.setattr(plotting, "fit_figure", lambda flow, x, **options: named.append(options["columns"]))
    monkeypatch.setattr(plotting, "save_figure", lambda figure, path: path)
    two = table.with_name("two.csv")
    two.write_text("\n".join(",".join(line.split(",")[:2]) for line in table.read_text().splitlines()))
    pictures.draw(cnf.build("maf", 2), open_source(str(two)), table.parent)
    pictures.draw(cnf.build("maf", 2), open_source("moons"), table.parent)
    assert named == [("load", "power"), ("", "")]
