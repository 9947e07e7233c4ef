"""Messages, checks and settings of all commands."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import torch

from cnf.arguments import Rule, conform
from cnf.errors import CnfError
from cnf.flows import Flow
from cnf.training.launch import Launch

SMALL = 100_000  # parameters
FEW = 8  # processes that any machine can start


class UsageError(CnfError, ValueError):
    """A request that cannot be met; the message says what was expected, what came and what to do."""


def note(text: str) -> None:
    """Print a line on standard error."""
    print(f"cnf: {text}", file=sys.stderr, flush=True)


def check_numbers(command: Any) -> None:
    """Compare the numbers of a command with the hints of its fields.

    Raises:
        UsageError: A number out of range; the message names the option.
    """
    for name, hint in get_type_hints(type(command), include_extras=True).items():
        value = getattr(command, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                conform(option_name(name), _ruled(hint), value)
            except (ValueError, TypeError) as error:
                raise UsageError(str(error)) from error


def _ruled(hint: Any) -> Any:
    """The hint of a number with its rules only, without the marks for the parser of the command line."""
    if get_origin(hint) is UnionType or get_origin(hint) is Union:
        return _ruled(get_args(hint)[0])
    if get_origin(hint) is not Annotated:
        return hint
    base, *marks = get_args(hint)
    base = _ruled(base)
    for rule in marks:
        base = Annotated[base, rule] if isinstance(rule, Rule) else base
    return base


def option_name(field: str) -> str:
    """The option of a field, as it is typed."""
    return f"--{field.replace('_', '-')}"


def names_in(text: str) -> list[str]:
    """Names separated by commas, with quotation marks around those that hold one."""
    try:
        return [name.strip() for name in next(csv.reader([text]), []) if name.strip()]
    except csv.Error as error:
        raise UsageError(f"expected names separated by commas, got {text[:60]!r}: {error}") from error


def chosen_columns(text: str, columns: Sequence[str]) -> list[str]:
    """The columns that `--columns` names; none if it is left out.

    Raises:
        UsageError: A name that is not a column, or one that comes twice.
    """
    names = names_in(text)
    unknown = [name for name in names if name not in columns]
    if unknown:
        known = ", ".join(columns) or "none"
        raise UsageError(f"--columns names {', '.join(unknown)}, but the columns of the model are {known}")
    if len(set(names)) < len(names):
        raise UsageError(f"--columns names a column twice: {text}")
    return names


def part_of(out: Path | None, launch: Launch) -> Path | None:
    """The file for the part of a process: `out` itself if it is the only one, else `out` with the process's number.

    Raises:
        UsageError: Several processes, and no file.
    """
    if not launch.several:
        return out
    if out is None:
        raise UsageError("several processes write their parts to files: give --out")
    return out.with_name(f"{out.stem}.{launch.rank}-of-{launch.size}{out.suffix}")


def use_threads(flow: Flow, threads: int | None = None) -> None:
    """Use the given number of threads; by default one for small models, which more threads slow down."""
    small = sum(parameter.numel() for parameter in flow.parameters()) < SMALL
    if threads or small:
        torch.set_num_threads(threads or 1)


def check_devices(devices: int) -> None:
    """Refuse a number of processes that is a typing error.

    Raises:
        UsageError: More processes than cores.
    """
    most = max(os.cpu_count() or 1, FEW)
    if devices > most:
        raise UsageError(f"--devices must be at most {most} on this machine, by the number of its cores; got {devices}")
