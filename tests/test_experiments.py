"""The runner of experiments: what it writes, what it keeps apart, and what it finds to be stale."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cnf.plotting import save_figure

ROOT = Path(__file__).parents[1]
SCRIPT = '''"""What is drawn."""

PAPER = "said"
EDGE = 1.0


def compute(config):
    return {"x": EDGE}


def figure(results):
    return None
'''


@pytest.fixture
def part(monkeypatch):
    """A module of the experiments, which are not installed with the package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"experiments.{name}")


def result(seed, x, **facts):
    return {"config": {"steps": 3, "seed": seed}, "seeds": [{"x": x}], "seconds": 1.0, "commit": "a1", **facts}


class TestProvenance:
    @pytest.mark.parametrize(
        ("old", "new"), [("said", "meant"), ("What is drawn", "Drawn"), ("return None", "return 1")]
    )
    def test_words_and_figures_are_not_code(self, part, old, new):
        code_of = part("provenance").code_of
        assert code_of(SCRIPT) == code_of(SCRIPT.replace(old, new))

    @pytest.mark.parametrize(("old", "new"), [("1.0", "2.0"), ('"x"', '"y"')])
    def test_settings_and_computations_are(self, part, old, new):
        code_of = part("provenance").code_of
        assert code_of(SCRIPT) != code_of(SCRIPT.replace(old, new))

    def test_parts_that_are_joined_keep_what_they_were_computed_by(self, part):
        whole = part("run").joined([result(0, 1.0), result(1, 3.0, commit="b2")])
        assert [each["commit"] for each in whole["parts"]] == ["a1", "b2"]
        assert whole["summary"]["x"] == {"mean": 2.0, "standard_error": 1.0}
        assert whole["seconds"] == 2.0

    def test_parts_of_other_settings_are_refused(self, part):
        other = result(1, 3.0)
        other["config"]["steps"] = 4
        with pytest.raises(ValueError, match="the same settings"):
            part("run").joined([result(0, 1.0), other])


class TestTable:
    def test_page_is_what_scripts_and_results_say(self, part):
        """Where not, `python -m experiments table` writes it again."""
        assert part("table").README.read_text() == part("table").page()

    def test_every_result_has_a_script_that_says_what_it_is_compared_with(self, part):
        names = {path.stem for path in part("run").RESULTS.glob("*.json")}
        missing = names - set(part("table").scripts())
        assert not missing, f"{missing} need PAPER and ours, as experiments/steer.py has them, given to `run`"

    def test_spread_is_over_seeds(self, part):
        spread = part("paper").spread
        assert spread([1.0, 3.0], 1) == "2.0 ± 1.4"
        assert spread([2.0], 1) == "2.0"
        assert spread([4e-9], 2) == "4e-9"

    def test_a_changed_setting_is_told(self, part):
        config = part("ffjord_tolerance").Config()
        recorded = {**vars(config), "steps": 7, "seed": 9}
        assert part("table").changed(json.loads(json.dumps(recorded)), config) == "steps 7"


def drawn(height):
    figure = Figure(figsize=(2, 2))
    figure.subplots().bar([0, 1], [1, height])
    return figure


class TestPixels:
    def test_the_same_figure_agrees_and_another_does_not(self, part, tmp_path):
        differ = part("pixels").differ
        path = save_figure(drawn(0.5), tmp_path / "bars.png")
        assert differ(drawn(0.5), path) == ""
        assert "levels" in differ(drawn(0.6), path)

    def test_by_another_matplotlib_small_changes_pass_and_large_ones_do_not(self, part, tmp_path, monkeypatch):
        path = tmp_path / "bars.png"
        drawn(0.5).savefig(path, dpi=150, metadata={"Software": "Matplotlib version0"})
        assert part("pixels").differ(drawn(0.5), path) == ""
        assert "levels" in part("pixels").differ(drawn(0.9), path)


def test_a_script_that_fails_is_told(part, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(SystemExit) as ended:
        part("batch").run_all(("steer",), smoke=True)
    assert ended.value.code == 1
    assert "steer failed" in capsys.readouterr().err


def test_a_script_whose_peer_is_not_installed_is_left_out(part, monkeypatch, tmp_path, capsys):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'zuko'\" >&2\nexit 1\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(SystemExit) as ended:
        part("batch").run_all(("default_recipe",), smoke=True)
    assert ended.value.code == 0
    assert "left out, zuko is not installed" in capsys.readouterr().out
