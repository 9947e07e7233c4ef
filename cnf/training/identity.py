"""Objectives, settings of phases and data of a run as text, so that two runs can be compared."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnf.data.rows import Rows
from cnf.objectives.phases import Phase

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
LONGEST = 60  # of a name in a message


def identity(
    phases: Sequence[Phase], trained: nn.Module, rows: Rows, validation: Rows | None, weights: Sequence[Tensor | None]
) -> dict[str, str]:
    """The parts of a run by name, each as a text that is the same in every process that makes the same run.

    Args:
        phases: With their objectives.
        trained: What the run changes; its numbers do not count.
        rows: The data.
        validation: The validation rows.
        weights: Weights of both.
    """
    known = {id(tensor) for tensor in (*trained.parameters(), *trained.buffers())}
    parts = {"phases": str(len(phases))}
    for number, phase in enumerate(phases, 1):
        for field in dataclasses.fields(phase):
            value = getattr(phase, field.name)
            plain = field.name != "objective"
            parts[f"{field.name} of phase {number}"] = repr(value) if plain else _named(value, known)
    for name, part in (("data", rows), ("validation", validation)):
        parts[name] = "none" if part is None else f"{len(part)} rows [{part.fingerprint()[:12]}]"
    for name, given in zip(("weights", "validation_weights"), weights, strict=True):
        parts[name] = "none" if given is None else _digest(_content(given, set(), set()))
    return parts


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`name before → now` for all parts that differ.

    Example:
        >>> differences({"data": "9 rows", "phases": "1"}, {"data": "8 rows", "phases": "1"})
        ['data 9 rows → 8 rows']
    """
    names = dict.fromkeys([*now, *before])
    return [f"{name} {before.get(name)} → {now.get(name)}" for name in names if before.get(name) != now.get(name)]


def _named(value: Any, known: set[int]) -> str:
    """The name that a person knows it by, and a checksum of its content."""
    text = type(value).__name__ if isinstance(value, nn.Module) else ADDRESS.sub("", repr(value))
    short = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return f"{short} [{_digest(_content(value, known, set()))}]"


def _digest(pieces: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.encode() + b"\0")
    return digest.hexdigest()[:12]


def _content(value: Any, known: set[int], seen: set[int]) -> Iterator[str]:
    """The parts that a value consists of, in an order that is always the same."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, np.generic)):
        yield repr(value)
    elif isinstance(value, (Tensor, np.ndarray)):
        yield from _numbers(value)
    elif id(value) in seen:
        yield "again"
    else:
        yield type(value).__qualname__
        for part in _parts(value, known):
            yield from _content(part, known, seen | {id(value)})


def _numbers(value: Any) -> Iterator[str]:
    array = torch.as_tensor(value).detach().cpu().contiguous()
    yield f"{array.dtype} {tuple(array.shape)}"
    yield hashlib.sha256(array.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _parts(value: Any, known: set[int]) -> Iterator[Any]:
    """What a container, a setting, a network, a function or an object consists of."""
    if isinstance(value, Mapping):
        yield from (part for key in sorted(value, key=str) for part in (key, value[key]))
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, (set, frozenset)):
        yield from sorted(value, key=str)
    elif isinstance(value, type):
        yield value.__qualname__
    elif isinstance(value, nn.Module):
        yield from _of_module(value, known)
    elif dataclasses.is_dataclass(value):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value))
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.CodeType):
        yield from (value.co_code, value.co_names, value.co_consts)
    else:
        yield from _of_object(vars(value) if hasattr(value, "__dict__") else {"": ADDRESS.sub("", repr(value))})


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    yield from (function.__qualname__, function.__code__, function.__defaults__, function.__kwdefaults__)
    cells = {str(i): cell.cell_contents for i, cell in enumerate(function.__closure__ or ()) if _filled(cell)}
    yield from _of_object(cells)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that has no value yet
        return False


def _of_object(values: Mapping[str, Any]) -> Iterator[Any]:
    """Its settings; lists are left out, since functions keep in them what they have seen."""
    yield from ((name, part) for name, part in sorted(values.items()) if not isinstance(part, list))


def _of_module(module: nn.Module, known: set[int]) -> Iterator[Any]:
    """Its layers and settings, and its numbers unless the run trains them."""
    for name, part in module.named_modules():
        yield (name, type(part).__qualname__)
        yield from _of_object(
            {key: item for key, item in vars(part).items() if not key.startswith("_")} | {"training": 0}
        )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield (name, tuple(tensor.shape) if id(tensor) in known else tensor)
