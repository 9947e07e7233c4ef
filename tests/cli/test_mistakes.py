"""What a user gets wrong ends in one line that names it, and leaves no folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnf.cli import main

RANDOM = np.random.default_rng(0)
FILES = {
    "few.csv": "1,2\n3,4\n",
    "text.csv": "a,b\n" + "".join(f"{i},x{i}\n" for i in range(30)),
    "quote.csv": 'a,b\n1,"2\n' + "3,4\n" * 30,
    "huge.csv": "a,b\n" + "3,1e400\n" * 30,
    "wide.csv": "a,b\n" + "".join(f"{x},{3e43 * x}\n" for x in RANDOM.normal(size=30).tolist()),
    "table.doc": "a,b\n" + "1,2\n" * 30,
    "zero.csv": "a,b\n" + "3,\0 4\n" * 30,
    "tabs.tsv": "a\tb\n" + "1\t2\n" * 30,
    "same.csv": "a,b\n" + "".join(f"{x},7\n" for x in RANDOM.normal(size=30).tolist()),
    "points.csv": "a,b,c\n" + "".join(f"{x},{y},{z}\n" for x, y, z in RANDOM.normal(size=(30, 3)).tolist()),
}
MISTAKES = {
    "few.csv": "few.csv: expected at least 30 rows, got 2",
    "few.csv --model maf": "few.csv: expected at least 10 rows, got 2",
    "text.csv --model maf": "text.csv, line 2, column 'b': expected a number, got the text 'x0'",
    "quote.csv": "quote.csv, line 2: expected cells of one line, got several lines in one; close its quotation mark",
    "huge.csv": "huge.csv: column 'a' has the same value in all rows, 3",
    "huge.csv --model maf": "huge.csv: expected finite numbers.*column 'b'",
    "wide.csv --model maf": "'b' overflows float32",
    "table.doc": "expected a file ending in .csv, .*got the ending '.doc'",
    "zero.csv": "zero.csv: expected a table as text, got zero bytes in it",
    "tabs.tsv": "tabs.tsv: column 'a' has the same value in all rows, 1",
    "same.csv": "same.csv: column 'b' has the same value in all rows, 7",
    "same.csv --model maf": r"same.csv: expected columns that vary.*'b' \(always 7\)",
    "points.csv --model sphere_cnf": "points are not on the unit sphere",
    "points.csv --context a,a": "expected each context column once",
    "points.csv --option solver=rk4": "--option solver cannot be typed",
    "points.csv --option hidden=64,x": "hidden must be .* got '64,x'",
    "points.csv --accelerator abacus": "cannot train with accelerator='abacus'",
    "points.csv --columns a,z": "--columns names z, but the columns of the model are a, b, c",
    "points.csv --resume": "no run to resume",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_and_leave_no_folder(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *options = mistake.split()
    (tmp_path / name).write_text(FILES[name])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^cnf: .*{MISTAKES[mistake]}"):
        main(["fit", name, "--out", "a/run", "--steps", "2", "--no-progress", *options])
    assert [path.name for path in tmp_path.iterdir()] == [name]
