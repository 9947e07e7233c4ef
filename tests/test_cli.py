"""The command line, end to end on small budgets, and what it says when something is wrong."""

from __future__ import annotations

import csv
import json
import shutil
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import cnf
from cnf.cli import main
from cnf.cli.runs import open_run

BUDGET = ["--steps", "30", "--no-progress", "--option", "hidden=16,16"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV with a header: two columns that follow a third, and the third."""
    random = np.random.default_rng(0)
    load = random.uniform(1, 2, 400)
    columns = [load, 100 * load + random.normal(0, 5, 400), random.normal(0, 0.01, 400)]
    path = tmp_path_factory.mktemp("table") / "plant.csv"
    np.savetxt(path, np.stack(columns, 1), delimiter=",", header="load,power,noise", comments="")
    return path


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "moons"
    main(["fit", "moons", "--out", str(out), *BUDGET])
    return out


@pytest.fixture(scope="module")
def conditional(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "plant"
    main(["fit", str(table), "--out", str(out), "--context", "load", *BUDGET])
    return out


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())


def test_fit_leaves_model_numbers_log_and_pictures(moons: Path) -> None:
    files = {"checkpoint.safetensors", "data.json", "log.csv", "metrics.json", "model.json", "model.safetensors"}
    files |= {"trained_on.npy"}
    assert {path.name for path in moons.iterdir()} == files | {
        "fit.png",
        "path.gif",
        "path.png",
        "report.html",
        "training.png",
    }
    numbers = read(moons / "metrics.json")
    assert numbers["kl"] == pytest.approx(numbers["test_nll"] - numbers["entropy"], abs=0.1)
    assert numbers["kl"] > 0
    assert numbers["likelihood"] == numbers["trace"] == "exact"
    assert read(moons / "model.json")["options"]["hidden"] == [16, 16]


@pytest.mark.parametrize("model", ["maf", "free_form"])
def test_a_discrete_model_has_a_density_to_draw_and_no_path(model: str, tmp_path: Path) -> None:
    main(["fit", "moons", "--out", str(tmp_path / "run"), "--model", model, "--steps", "3", "--no-progress"])
    pictures = {path.name for path in (tmp_path / "run").iterdir() if path.suffix in (".png", ".gif")}
    assert pictures == {"fit.png", "training.png"}


@pytest.mark.parametrize(
    ("model", "pictures"),
    [("torus_cnf", {"fit.png", "path.gif", "path.png"}), ("sphere_cnf", {"corner.png"})],
)
def test_two_columns_on_a_manifold_are_drawn_where_they_lie(model: str, pictures: set[str], tmp_path: Path) -> None:
    angles = np.random.default_rng(0).uniform(0, 6.28, (100, 2))
    x = angles if model == "torus_cnf" else np.stack([np.cos(angles[:, 0]), np.sin(angles[:, 0])], 1)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    options = ["--option", "hidden=8", "--steps", "2", "--no-progress"]
    main(["fit", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"), "--model", model, *options])
    drawn = {path.name for path in (tmp_path / "run").iterdir() if path.suffix in (".png", ".gif")}
    assert drawn == pictures | {"training.png"}


def test_score_is_the_negative_test_nll(moons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["score", str(moons), "moons", "--no-progress"])
    assert f"{-read(moons / 'metrics.json')['test_nll']:.4f}" in capsys.readouterr().out


def test_score_writes_the_log_density_of_each_row(moons: Path, tmp_path: Path) -> None:
    x = torch.randn(7, 2)
    np.save(tmp_path / "x.npy", x.numpy())
    main(["score", str(moons), str(tmp_path / "x.npy"), "--out", str(tmp_path / "scores.csv"), "--no-progress"])
    with (tmp_path / "scores.csv").open() as file:
        scores = torch.tensor([float(row["log_prob"]) for row in csv.DictReader(file)])
    torch.testing.assert_close(scores, cnf.load(moons).log_prob(x).detach(), rtol=1e-4, atol=1e-4)


def test_sample_prints_csv_and_its_seed_decides(moons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for seed in ("0", "0", "1"):
        main(["sample", str(moons), "-n", "4", "--seed", seed])
        outputs.append(capsys.readouterr().out)
    assert outputs[0].splitlines()[0] == "x,y"
    assert len(outputs[0].splitlines()) == 5
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_tables_of_many_pieces_are_whole(moons: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"samples{suffix}"
    main(["sample", str(moons), "-n", "50", "--batch-size", "16", "--out", str(path)])
    rows = np.load(path) if suffix == ".npy" else np.loadtxt(path, delimiter=",", skiprows=1)
    pieces = cnf.load(moons).sample_in_pieces(50, batch_size=16, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(rows, torch.cat(list(pieces)).numpy(), rtol=1e-6)
    main(["score", str(moons), str(path), "--batch-size", "16", "--out", str(tmp_path / f"p{suffix}")])
    assert len(cnf.data.load_table(tmp_path / f"p{suffix}").values) == 50


def test_plot_draws_again(moons: Path, tmp_path: Path) -> None:
    main(["plot", str(moons), "--out", str(tmp_path)])
    assert (tmp_path / "fit.png").stat().st_size > 10_000


def test_columns_are_refused_where_no_picture_shows_columns(moons: Path) -> None:
    with pytest.raises(SystemExit, match=r"--columns chooses what corner.png shows, but .* leave --columns out"):
        main(["plot", str(moons), "--columns", "x"])


@pytest.mark.parametrize("command", ["fit", "score", "sample", "plot"])
def test_the_help_says_what_happens_without_an_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert "None)" not in text
    assert "''" not in text


def test_standardised_and_original_units_differ_by_the_scale(conditional: Path, table: Path) -> None:
    numbers = read(conditional / "metrics.json")
    rows = np.loadtxt(table, delimiter=",", skiprows=1)[:, 1:]
    scale = np.log(rows.std(0)).sum()
    assert numbers["test_nll"] - numbers["test_nll_standardized"] == pytest.approx(scale, abs=0.1)
    assert (conditional / "corner.png").exists()


def test_conditional_models_are_scored_by_column_name(conditional: Path, table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    swapped = tmp_path / "swapped.csv"
    swapped.write_text("\n".join(",".join(line.split(",")[i] for i in (2, 0, 1)) for line in lines))
    for number, path in enumerate((table, swapped)):
        main(["score", str(conditional), str(path), "--out", str(tmp_path / f"{number}.npy"), "--no-progress"])
    np.testing.assert_allclose(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"), rtol=1e-5)


def test_conditional_sampling_follows_the_context(conditional: Path, tmp_path: Path) -> None:
    main(["sample", str(conditional), "-n", "50", "--given", "load=1.5", "--out", str(tmp_path / "s.npy")])
    assert np.load(tmp_path / "s.npy").shape == (50, 2)


def test_list_names_models_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    output = capsys.readouterr().out
    for name in (*cnf.MODELS, "moons", "digits", "miniboone"):
        assert name in output


def test_a_finished_run_resumes_to_the_same_model(moons: Path, tmp_path: Path) -> None:
    shutil.copytree(moons, tmp_path / "run")
    main(["fit", "moons", "--out", str(tmp_path / "run"), *BUDGET, "--resume"])
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (moons / "model.safetensors").read_bytes()


MISTAKES = {
    "unknown data": (["fit", "mooons", "--out", "OUT"], "neither a file nor a built-in data set.*moons"),
    "unknown model": (["fit", "moons", "--out", "OUT", "--model", "glue"], "unknown model 'glue': known ones are cnf"),
    "unknown option": (
        ["fit", "moons", "--out", "OUT", "--option", "width=3"],
        "--model cnf has no option width. Its options and their defaults: hidden=None, act",
    ),
    "a string for a setting": (
        ["fit", "moons", "--out", "OUT", "--option", "solver=rk4"],
        "--option solver cannot be typed",
    ),
    "a file for a folder": (["fit", "moons", "--out", "FILE"], "--out must be a folder.*is a file"),
    "no such accelerator": (["fit", "moons", "--out", "OUT", "--accelerator", "abacus"], "cannot train with.*abacus"),
    "misspelt option": (
        ["fit", "moons", "--out", "OUT", "--option", "hiden=3"],
        "no option hiden, did you mean hidden",
    ),
    "columns of a toy": (
        ["fit", "moons", "--out", "OUT", "--columns", "x"],
        "none of moons, for which fit.png is drawn",
    ),
    "broken option": (["fit", "moons", "--out", "OUT", "--option", "width"], "KEY=VALUE"),
    "unknown column": (["fit", "TABLE", "--out", "OUT", "--context", "lod"], "lod.*load"),
    "context of a toy": (["fit", "moons", "--out", "OUT", "--context", "x"], "no named columns"),
    "nothing to resume": (["fit", "moons", "--out", "OUT", "--resume"], "no run to resume"),
    "an unknown suffix": (["score", "OUT", "moons", "--out", "p.txt"], "cannot write p.txt: known suffixes are .csv"),
    "no model": (["score", "OUT", "moons"], "no model.json"),
    "a folder that exists": (["fit", "moons", "--out", "FULL"], "exists and is not empty: give another --out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_clear_line(mistake: str, table: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    arguments, message = MISTAKES[mistake]
    places = {"OUT": str(tmp_path / "out"), "TABLE": str(table), "FULL": str(tmp_path / "full")}
    places["FILE"] = str(tmp_path / "full" / "thesis.txt")
    with pytest.raises(SystemExit, match=f"cnf: .*{message}"):
        main([places.get(argument, argument) for argument in arguments])
    assert not (tmp_path / "out" / "model.json").exists()


def test_resume_wants_the_same_run(tmp_path: Path, table: Path) -> None:
    main(["fit", str(table), "--out", str(tmp_path / "run"), *BUDGET])
    with pytest.raises(SystemExit, match="holds another run.*context"):
        main(["fit", str(table), "--out", str(tmp_path / "run"), "--context", "load", "--resume", *BUDGET])


def test_suffixes_and_names_of_all_kinds(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    np.savetxt(tmp_path / "t.CSV", rows, delimiter=",", header='"a, b",c=d', comments="")
    out = tmp_path / "run"
    main(["fit", str(tmp_path / "t.CSV"), "--out", str(out), "--context", "c=d", *BUDGET])
    assert (out / "corner.png").exists()
    main(["sample", str(out), "-n", "20", "--given", "c=d=0.5", "--out", str(tmp_path / "s.csv")])
    with (tmp_path / "s.csv").open() as file:
        assert list(csv.DictReader(file))[0].keys() == {"a, b"}
    main(["score", str(out), str(tmp_path / "t.CSV"), "--out", str(tmp_path / "p.npy"), "--no-progress"])
    assert np.load(tmp_path / "p.npy").shape == (60, 1)


def test_a_run_is_not_overwritten(moons: Path) -> None:
    with pytest.raises(SystemExit, match="holds a run already.*--resume"):
        main(["fit", "moons", "--out", str(moons), *BUDGET])


def test_sampling_a_conditional_model_asks_for_its_context(conditional: Path) -> None:
    with pytest.raises(SystemExit, match=r"load=VALUE; got nothing"):
        main(["sample", str(conditional)])


def test_scoring_other_columns_names_the_missing(conditional: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("load,heat\n1,2\n3,4\n")
    with pytest.raises(SystemExit, match="lacks the columns power, noise"):
        main(["score", str(conditional), str(tmp_path / "other.csv"), "--no-progress"])


class Explosive(torch.nn.Module):
    """`dx/dt = x²`: backwards from t = 1, x below −1 becomes infinite."""

    def forward(self, t: torch.Tensor, x: torch.Tensor, context: None = None) -> torch.Tensor:
        return x * x


def test_score_names_rows_without_a_density_and_gives_the_others(
    moons: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = cnf.Flow(cnf.CNF(Explosive()), cnf.StandardNormal(2))
    monkeypatch.setattr("cnf.cli.score.open_run", lambda folder: (flow, open_run(folder)[1]))
    x = np.array([[0.1, 0.2], [-2.0, 0.3], [0.5, 0.5]], dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    main(["score", str(moons), str(tmp_path / "x.npy"), "--out", str(tmp_path / "p.npy"), "--no-progress"])
    scores = torch.as_tensor(np.load(tmp_path / "p.npy")).flatten()
    assert scores.isnan().tolist() == [False, True, False]
    with torch.no_grad():
        expected = flow.log_prob(torch.as_tensor(x[[0, 2]]))
    torch.testing.assert_close(scores[[0, 2]], expected)
    out = capsys.readouterr().out
    assert f"log p = {expected.mean():.4f}" in out
    assert "over 2 rows" in out
    assert re.search(r"1 of 3 rows have no log-density \(row 1: .* at t = 0\.(49|5).*--tolerance", out)
    np.save(tmp_path / "x.npy", x[1:2])
    with pytest.raises(SystemExit, match="1 of 1 rows have no log-density"):
        main(["score", str(moons), str(tmp_path / "x.npy"), "--no-progress"])
