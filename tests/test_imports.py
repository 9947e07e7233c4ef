"""The architecture: imports point downward, and `import cnf` is light."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import cnf

PACKAGE = Path(cnf.__file__).parent
LAYERS = [
    {"tracing", "errors"},
    {"version", "arguments", "spread", "inputs", "row_values", "starts"},
    {"transforms", "distributions", "networks", "noise", "probes", "data", "files", "failures", "pieces"},
    {"twin", "density"},
    {"discrete", "continuous"},
    {"manifolds", "distribution", "uncertainty"},
    {"flows", "calibration"},
    {"objectives", "metrics"},
    {"models", "inference"},
    {"checkpoints"},
    {"training"},
    {"tables"},
    {"plotting"},
    {"interop"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
ENGINES = {"matplotlib": ["plotting"], "lightning": ["training"], "lightning_fabric": ["training"]}
ENGINES |= {"PIL": ["plotting", "data"]}


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(path: Path) -> set[str]:
    """The full names of all modules that a file imports, wherever in it, but for hints that nothing needs to run."""
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    hints = {inner for node in ast.walk(tree) if for_types_only(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in hints:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    own = part(path)
    for name in imported(path):
        root, *rest = name.split(".")
        if root == "cnf" and own not in LAYERS[-1] and rest[0] != own:
            assert LEVEL[rest[0]] < LEVEL[own], f"{own} must not know {name}"
        assert own in ENGINES.get(root, [own]), f"only {ENGINES.get(root)} imports {root}"


def test_the_table_of_imports_has_every_part():
    assert {part(path) for path in FILES} <= set(LEVEL)


SCRIPT = """
import time, torch
start = time.process_time()
import cnf, sys
seconds = time.process_time() - start
heavy = {"matplotlib", "lightning", "lightning_fabric", "scipy", "sklearn", "tyro", "PIL", "pandas"} & set(sys.modules)
print(seconds, *heavy)
"""


def test_importing_the_package_is_quick_and_loads_nothing_heavy():
    best = float("inf")
    for _ in range(4):
        output = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
        )
        seconds, *heavy = output.stdout.split()
        assert heavy == []
        best = min(best, float(seconds))
        if best < 0.3:
            break
    assert best < 0.3


def test_all_public_names_exist():
    assert all(hasattr(cnf, name) for name in cnf.__all__)
    assert sorted(cnf.__all__, key=str.lower) == sorted(set(cnf.__all__), key=str.lower)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        cnf.nonsense  # noqa: B018


ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"cli", "arguments"}


def test_rooms_load_when_they_are_asked_for():
    rooms = [f"cnf.{room}" for room in sorted({*ROOMS, "calibration", "errors"})]
    script = f"import cnf; assert [m.__name__ for m in ({', '.join(rooms)})] == {rooms}"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=PACKAGE.parent)


def test_the_directory_of_the_package_is_its_public_names():
    own = {name for name in dir(cnf) if not name.startswith("__")}
    assert own == {*cnf.__all__, *ROOMS, "arguments", "calibration", "errors"}
    assert {"fit", "FitConfig", "plotting", "__version__", "__doc__"} <= set(dir(cnf))


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_room_exports_names_that_exist_in_order(room):
    module = importlib.import_module(f"cnf.{room}")
    assert module.__all__
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(module.__all__) == len(set(module.__all__))


BASES = [
    "BaseDensity", "Coupling", "Destructor", "Divergence", "ElementwiseMap", "Path", "Regularizer", "Solver",
    "Transform", "VectorField", "Wrapper",
]  # fmt: skip


@pytest.mark.parametrize("name", BASES)
def test_what_one_builds_on_is_public_and_says_how(name):
    assert name in cnf.__all__
    assert getattr(cnf, name).__doc__


def test_the_version_is_the_installed_one_or_says_that_none_is(monkeypatch):
    assert cnf.__version__ == importlib.metadata.version("cnf")

    def nothing(name):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr("cnf.version.version", nothing)
    assert cnf.__version__ == "0+unknown"


@pytest.mark.parametrize("command", [["-m", "cnf"], ["-c", "import cnf.cli; cnf.cli.main()"]])
def test_the_command_says_its_version(command):
    output = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert output.stdout == f"cnf {cnf.__version__}\n"
