"""What is written for readers: public names are documented with examples, and what the README says is so."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import tyro

import cnf
from cnf.cli import COMMANDS
from cnf.models import MODELS

ROOT = Path(cnf.__file__).parents[1]
README = ROOT / "README.md"
FOLDERS = ["cnf", *(found.name for found in pkgutil.iter_modules(cnf.__path__, "cnf.") if found.ispkg)]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def public(folder: str) -> dict[str, object]:
    """The classes and functions that a folder exports."""
    module = importlib.import_module(folder)
    things = {name: getattr(module, name) for name in module.__all__}
    return {name: thing for name, thing in things.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


EXPORTED = {f"{folder}.{name}": thing for folder in FOLDERS for name, thing in public(folder).items()}


def snippets(language: str, path: Path = README) -> list[str]:
    return [text for found, text in FENCED.findall(path.read_text()) if found == language]


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_names_are_sorted_and_listed(folder):
    module = importlib.import_module(folder)
    assert list(module.__all__) == sorted(set(module.__all__))
    assert set(module.__all__) <= set(dir(module))
    assert inspect.getdoc(module)


@pytest.mark.parametrize("name", EXPORTED)
def test_public_names_are_documented_with_an_example(name):
    own = vars(EXPORTED[name]).get("__doc__") if inspect.isclass(EXPORTED[name]) else EXPORTED[name].__doc__
    assert own, f"{name} has no docstring"
    if ">>>" not in own:
        pytest.xfail("its example is being written")


class TestReadme:
    def test_python_runs(self, tmp_path, monkeypatch):
        """From top to bottom, in one session; a training has three steps, on the first rows."""
        monkeypatch.chdir(tmp_path)
        train = cnf.fit

        def fit(flow, data=None, *arguments, config=cnf.FitConfig(), **options):
            short = dataclasses.replace(config, steps=3, epochs=None, seconds=None, progress=False)
            return train(flow, data, *arguments, config=short, **options)

        monkeypatch.setattr(cnf, "fit", fit)
        session: dict[str, object] = {"__name__": "__main__"}
        for text in snippets("python"):
            exec(compile(text, str(README), "exec"), session)

    @pytest.mark.parametrize("line", [line for text in snippets("bash") for line in text.splitlines() if line])
    def test_commands_exist(self, line):
        words = shlex.split(line, comments=True)
        if words[0] == "cnf":
            assert words[1] in COMMANDS
            tyro.cli(COMMANDS[words[1]], args=words[2:])
        elif words[:2] == ["python", "-m"] and words[2] != "venv":
            assert importlib.util.find_spec(words[2])
        elif words[:2] == ["pip", "install"]:
            config = configparser.ConfigParser()
            config.read(ROOT / "setup.cfg")
            assert set(re.findall(r"\[(\w+)\]", words[-1])) <= set(config["options.extras_require"])

    def test_links_lead_somewhere(self):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README.read_text()):
            assert target.startswith("https://") or (ROOT / target).exists(), target

    def test_names_exist(self):
        """Of everything that is written as `cnf.…`."""
        for name in re.findall(r"`(cnf(?:\.\w+)+)", README.read_text()):
            pkgutil.resolve_name(name)

    def test_models_are_listed(self):
        assert models_table() in README.read_text(), f"the table of models should be\n{models_table()}"


def models_table() -> str:
    rows = [f"| `{name}` | {_line(model.build)} | {model.reference} |" for name, model in MODELS.items()]
    return "\n".join(["| name | what it is | reference |", "|---|---|---|", *rows])


def _line(build) -> str:
    return inspect.getdoc(build).splitlines()[0].removesuffix(".")


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "tutorials").glob("*.py")), ids=lambda path: path.name)
def test_tutorials_use_public_names_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("cnf"):
            module = importlib.import_module(node.module)
            assert {alias.name for alias in node.names} <= set(dir(module))
            assert node.module.count(".") <= 1, f"{path.name} imports from {node.module}: the folder exports it"
