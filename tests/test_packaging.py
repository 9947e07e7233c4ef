"""The package as it is installed from a clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import cnf

ROOT = Path(cnf.__file__).parents[1]
BUILD = "from setuptools.build_meta import build_editable; build_editable('wheel')"
FIND = "import site, importlib.util; site.addsitedir('site'); print(importlib.util.find_spec('cnf').origin)"


def test_a_clone_named_like_the_package_does_not_hide_an_editable_install(tmp_path: Path) -> None:
    """Python is started in the folder that holds the clone, whose name is then a candidate for `import cnf`."""
    pytest.importorskip("setuptools", "70.1", reason="older ones build no wheel by themselves")
    clone = tmp_path / "cnf"
    clone.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for folder in ("", "data"):
        (clone / "cnf" / folder).mkdir(exist_ok=True)
        (clone / "cnf" / folder / "__init__.py").touch()
    (clone / "wheel").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", BUILD], cwd=clone, env=environment, check=True, capture_output=True)
    (wheel,) = (clone / "wheel").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    found = subprocess.run(
        [sys.executable, "-S", "-c", FIND], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()) == clone / "cnf" / "__init__.py"
