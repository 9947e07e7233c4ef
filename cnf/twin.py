"""Twins: copies of a module that share its parameters and differ in settings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MethodType
from typing import Any, TypeVar

from torch import nn

from cnf.transforms import Transform

Module = TypeVar("Module", bound=nn.Module)
Part = TypeVar("Part", bound=nn.Module)

LEADING_BACK = (nn.Module, MethodType, partial, list, tuple, dict, set)  # may hold parts of the module that is copied


def twin(
    module: Module, kind: type[Part], settings: Callable[[Part], Mapping[str, Any]], *, shared: bool = True
) -> Module:
    """A copy that shares all parameters and buffers but has other settings in its parts of a kind.

    Args:
        module: A flow, or any other module.
        kind: The class of the parts.
        settings: The attributes that change in a part, by name, from the part as it is.
        shared: Whether the copy shares parameters and buffers; otherwise it has copies of them.

    Example:
        >>> import cnf
        >>> flow = cnf.build("cnf", 2)
        >>> coarse = twin(flow, cnf.CNF, lambda part: {"solver": cnf.RungeKutta("rk4", steps=4)})
        >>> all(a is b for a, b in zip(flow.parameters(), coarse.parameters()))
        True
    """
    copied = copy.deepcopy(module, _kept(module) if shared else _kept_settings(module))
    for part in parts_of(copied, kind):
        for name, value in settings(part).items():
            setattr(part, name, value)
    return copied


def exchanged(module: Module, kind: type[Part], other: Callable[[Part], nn.Module]) -> Module:
    """A copy that shares all parameters and buffers but has other modules in the places of its parts of a kind.

    Args:
        module: A flow, or any other module.
        kind: The class of the parts.
        other: The module that takes the place of a part.

    Example:
        >>> import cnf
        >>> from cnf.discrete import Affine
        >>> chain = cnf.Compose([cnf.CNF(cnf.MLPField(2)), Affine(2)])
        >>> [type(part).__name__ for part in exchanged(chain, cnf.CNF, lambda part: Affine(2)).transforms]
        ['Affine', 'Affine']
    """
    return copy.deepcopy(module, {**_kept(module), **{id(part): other(part) for part in parts_of(module, kind)}})


def parts_of(module: nn.Module, kind: type[Part]) -> list[Part]:
    """All parts of a module that are of a kind, itself included.

    Example:
        >>> import cnf
        >>> len(parts_of(cnf.Compose([cnf.CNF(cnf.MLPField(2)) for _ in range(3)]), cnf.CNF))
        3
    """
    return [part for part in module.modules() if isinstance(part, kind)]


def _kept(module: nn.Module) -> dict[int, Any]:
    """What `copy.deepcopy` takes over as it is."""
    return {**_kept_settings(module), **{id(part): part for part in (*module.parameters(), *module.buffers())}}


def _kept_settings(module: nn.Module) -> dict[int, Any]:
    transforms = (part for part in module.modules() if isinstance(part, Transform))
    return {id(value): value for part in transforms for value in _settings(part)}


def _settings(transform: Transform) -> Iterator[Any]:
    """The settings of a transform, which cannot always be copied: a solver or a divergence may hold a generator."""
    for name, value in vars(transform).items():
        if not name.startswith("_"):  # what torch keeps there are the tensors, parts and hooks
            members = value.values() if isinstance(value, dict) else (value,)
            yield from (member for member in members if not isinstance(member, LEADING_BACK))
