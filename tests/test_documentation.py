"""What is written for readers: public names are documented with examples, and what the README says is so."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import json
import pkgutil
import re
import shlex
from pathlib import Path
from typing import get_origin

import pytest
import tyro

import cnf
from cnf.cli import COMMANDS
from cnf.models import MODELS

ROOT = Path(cnf.__file__).parents[1]
README = ROOT / "README.md"
SHOWN = ["cnf", *(f"cnf.{name}" for name in dir(cnf) if inspect.ismodule(getattr(cnf, name)))]  # the pages of the docs
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def public(folder: str) -> dict[str, object]:
    """The classes and functions that a folder exports."""
    module = importlib.import_module(folder)
    things = {name: getattr(module, name) for name in module.__all__}
    return {name: thing for name, thing in things.items() if is_documented(thing)}


def is_documented(thing: object) -> bool:
    """Classes and functions are; tables and hints such as `Callable[…]`, a class to Python 3.10, are not."""
    return get_origin(thing) is None and (inspect.isclass(thing) or inspect.isfunction(thing))


EXPORTED = {f"{folder}.{name}": thing for folder in SHOWN for name, thing in public(folder).items()}


def snippets(language: str, path: Path = README) -> list[str]:
    return [text for found, text in FENCED.findall(path.read_text()) if found == language]


def test_every_folder_is_shown():
    """But for the command line, which shows itself."""
    folders = {found.name for found in pkgutil.iter_modules(cnf.__path__, "cnf.") if found.ispkg}
    assert folders - {"cnf.cli"} <= set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_modules_say_what_is_public(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    assert len(module.__all__) == len(set(module.__all__))
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("name", EXPORTED)
def test_public_names_are_documented_with_an_example(name):
    own = vars(EXPORTED[name]).get("__doc__") if inspect.isclass(EXPORTED[name]) else EXPORTED[name].__doc__
    assert own, f"{name} has no docstring"
    assert ">>>" in own, f"{name} has no example"


class TestReadme:
    def test_python_runs(self, tmp_path, monkeypatch):
        """From top to bottom, in one session; a training has three steps, on few rows."""
        monkeypatch.chdir(tmp_path)
        train = cnf.fit

        def fit(flow, data, *arguments, **options):
            options |= {name: few(options[name]) for name in ("validation", "weights") if name in options}
            options["config"] = cnf.FitConfig(steps=3, progress=False)
            return train(flow, few(data), *arguments, **options)

        monkeypatch.setattr(cnf, "fit", fit)
        session: dict[str, object] = {"__name__": "__main__"}
        for text in snippets("python"):
            exec(compile(text, str(README), "exec"), session)

    @pytest.mark.parametrize("line", [line for text in snippets("bash") for line in text.splitlines() if line])
    def test_commands_exist(self, line):
        words = shlex.split(line, comments=True)
        if words[0] == "cnf":
            tyro.cli(COMMANDS[words[1]], args=words[2:])
        elif words[:2] == ["pip", "install"]:
            config = configparser.ConfigParser()
            config.read(ROOT / "setup.cfg")
            assert set(re.findall(r"\[(\w+)\]", words[-1])) <= set(config["options.extras_require"])
        else:
            assert words[0] in ("python", "pytest")

    def test_scripts_and_links_exist(self):
        text = README.read_text()
        for name in re.findall(r"python -m (experiments\.\w+)", text):
            assert (ROOT / name.replace(".", "/")).with_suffix(".py").exists(), name
        for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r"`python (\S+\.py)", text):
            assert target.startswith("https://") or (ROOT / target).exists(), target

    @pytest.mark.parametrize("path", [README, ROOT / ".github" / "CONTRIBUTING.md"], ids=lambda path: path.name)
    def test_files_exist(self, path):
        """Of everything that is written as the path of one."""
        for target in re.findall(r"`((?:cnf|tests|experiments|\.ci)/[\w/.]+)", path.read_text()):
            assert (ROOT / target).exists(), target

    def test_names_exist(self):
        """Of everything that is written as `cnf.…`."""
        for name in re.findall(r"`(cnf(?:\.\w+)+)", README.read_text().split("## What changed")[0]):
            pkgutil.resolve_name(name)

    def test_tables_are_those_of_the_package_and_of_the_results(self):
        """Where not, `python tests/test_documentation.py` writes them again."""
        assert README.read_text() == with_tables(README.read_text())


def few(data):
    return tuple(few(part) for part in data) if isinstance(data, tuple) else data if data is None else data[:200]


def table_of(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def models() -> str:
    rows = [[f"`{name}`", first_line(model.build), model.reference] for name, model in MODELS.items()]
    return table_of(["name", "what it is", "reference"], rows)


def first_line(thing) -> str:
    return inspect.getdoc(thing).splitlines()[0].removesuffix(".")


def numbers(name: str) -> dict:
    return json.loads((ROOT / "experiments" / "results" / f"{name}.json").read_text())["seeds"][0]


def speed() -> str:
    """The medians of the ratios."""
    cases = {
        "toy2d": "2-D, exact trace",
        "tab8": "8-D, exact trace",
        "tab43": "43-D, one probe",
        "exact43": "43-D, exact trace",
    }
    peers = ["FFJORD's recipe", "zuko", "torchdyn", "diffrax"]
    found = numbers("benchmark_speed")["cases"]
    rows = [[peer, *(f"{found[case][peer]['train']['ratios']['cnf'][1]:.2g}" for case in cases)] for peer in peers]
    return table_of(["", *cases.values()], rows)


def quality() -> str:
    sets = ["8gaussians", "checkerboard", "pinwheel", "power_plant", "kin8nm"]
    names = {"cnf": "`cnf`", "zuko_nsf": "zuko, NSF", "zuko_maf": "zuko, MAF", "zuko_realnvp": "zuko, RealNVP"}
    curves = numbers("time_to_quality")["curves"]
    rows = [
        [words, *(f"{curves[data][name]['test']:.3f} ± {curves[data][name]['error']:.3f}" for data in sets)]
        for name, words in names.items()
    ]
    return table_of(["", *sets], rows)


def with_tables(text: str) -> str:
    """The README with its generated tables, each known by its first line."""
    for table in (models(), speed(), quality()):
        head = re.escape(table.splitlines()[0])
        text = re.sub(rf"^{head}\n(\|.*\n)*", lambda _, table=table: f"{table}\n", text, flags=re.MULTILINE)
    return text


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "tutorials").glob("*.py")), ids=lambda path: path.name)
def test_tutorials_use_public_names_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("cnf"):
            module = importlib.import_module(node.module)
            assert {alias.name for alias in node.names} <= set(dir(module))
            assert node.module.count(".") <= 1, f"{path.name} imports from {node.module}: the folder exports it"


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
