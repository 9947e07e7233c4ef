"""The shape of the source: short files and functions, no circles, no private names that travel, nothing twice."""

from __future__ import annotations

import ast
import statistics
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import cnf

PACKAGE = Path(cnf.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The full name of a file's module."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in TREES}


def functions() -> Iterator[tuple[str, Function]]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{name_of(path)}.{node.name}", node


def body_of(function: Function) -> list[ast.stmt]:
    """The statements of a function without its docstring."""
    return function.body[1:] if ast.get_docstring(function) else function.body


def lines_of(function: Function) -> int:
    body = body_of(function)
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def imports_of(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name of every import that is run, in functions too; those for types only are not."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.ImportFrom):
        yield from ((node.module or "", alias.name) for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports_of(child)


def test_no_file_is_long():
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 300}
    assert not long


def test_functions_are_short():
    lengths = {name: lines_of(function) for name, function in functions()}
    assert statistics.median(lengths.values()) <= 6
    assert not {name: n for name, n in lengths.items() if n > 40}


def test_no_circle_between_files():
    graph = {}
    for path, tree in TREES.items():
        own, needed = name_of(path), set()
        for module, name in imports_of(tree):
            target = f"{module}.{name}" if f"{module}.{name}" in MODULES else module
            if target in MODULES and target != own and not own.startswith(f"{target}."):
                needed.add(target)
        graph[own] = needed
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_no_private_name_crosses_a_folder():
    crossing = []
    for path, tree in TREES.items():
        folder = name_of(path.parent / "__init__.py")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnf"):
                parts = [*node.module.split("."), *(alias.name for alias in node.names)]
                private = any(part.startswith("_") and not part.startswith("__") for part in parts)
                if private and node.module.rpartition(".")[0] != folder:
                    crossing.append(f"{name_of(path)}: {ast.unparse(node)}")
    assert not crossing


def test_no_logic_stands_twice():
    """No two functions of a few statements have the same body, whatever their names and arguments' types."""
    places = defaultdict(list)
    for name, function in functions():
        body = body_of(function)
        if len(list(ast.walk(ast.Module(body, [])))) > 30:
            places["\n".join(map(ast.unparse, body))].append(name)
    assert not {body: names for body, names in places.items() if len(names) > 1}
