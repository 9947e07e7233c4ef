"""What results were computed by: the source, its state, and the machine."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cnf

PARTS = Path(__file__).parent / "parts"
WORDS = ("PAPER", "SMOKE", "ours", "figure")  # parts of a script that no number depends on


def provenance() -> dict[str, Any]:
    """Of the script that runs."""
    script = Path(sys.argv[0])
    uncommitted = _git("status", "--porcelain", "--", "cnf", "experiments/*.py").splitlines()
    if uncommitted:
        print("computed by source that is not committed:", *uncommitted, sep="\n  ", file=sys.stderr)
    return {
        "version": cnf.__version__,
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "uncommitted": uncommitted,
        "code_sha256": code_of(script.read_text()) if script.suffix == ".py" else "unknown",
        "processor": _processor(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def code_of(source: str) -> str:
    """The hash of a script and the parts it imports, but for docstring, words about the paper and figure."""
    tree = ast.parse(source).body
    kept = [ast.get_source_segment(source, node) or "" for node in tree if not _is_words(node)]
    modules = [node.module or "" for node in tree if isinstance(node, ast.ImportFrom)]
    parts = [name.removeprefix("experiments.parts.") for name in modules if name.startswith("experiments.parts.")]
    kept += [(PARTS / f"{name}.py").read_text() for name in sorted(parts)]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _is_words(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Name) and node.targets[0].id in WORDS
    if isinstance(node, ast.FunctionDef):
        return node.name in WORDS
    return isinstance(node, (ast.Expr, ast.Import, ast.ImportFrom, ast.If))


def _processor() -> str:
    """The model's name where Linux tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
