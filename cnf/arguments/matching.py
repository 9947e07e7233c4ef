"""A value compared with a hint, part by part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin

from torch import Tensor, nn

from cnf.arguments.words import shown


class Misfit(Exception):
    """Which kind of error it is, what came, in words, and how deep in the value it was."""

    def __init__(self, kind: type[Exception], came: str, depth: int = 0) -> None:
        super().__init__(kind, came, depth)
        self.kind, self.came, self.depth = kind, came, depth


def _refuse(value: Any, kind: type[Exception] = ValueError) -> NoReturn:
    raise Misfit(kind, shown(value))


def matched(hint: Any, value: Any) -> Any:
    """The value, if it is what the hint says; numbers of other libraries as Python's.

    Raises:
        Misfit: It is something else.
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if isinstance(hint, TypeVar):
        return _any_of(hint.__constraints__ or (hint.__bound__ or Any,), value)
    return _FORMS[kind](parts, value) if kind in _FORMS else _PLAIN.get(kind, _instance)(kind, value)


def _annotated(parts: Sequence[Any], value: Any) -> Any:
    value = matched(parts[0], value)
    for rule in parts[1:]:
        met = _on_meta(value) or rule.holds(value)
        if not (met.all() if isinstance(met, Tensor) else met):
            _refuse(value)
    return value


def _any_of(parts: Sequence[Any], value: Any) -> Any:
    """What the first alternative that fits makes of the value; else the misfit that came closest to fitting."""
    misfits = []
    for part in parts:
        try:
            return matched(part, value)
        except Misfit as misfit:
            misfits.append(misfit)
    raise max(misfits, key=lambda misfit: (misfit.depth, misfit.kind is ValueError))


def _members(parts: Sequence[Any], value: Any) -> Any:
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, (Sequence, nn.ModuleList)):
        _refuse(value, TypeError)
    hints = [parts[0]] * len(value) if len(parts) == 1 or parts[1] is ... else parts
    if len(hints) != len(value):
        _refuse(value)
    members = [_member(f"at position {i}", hint, x) for i, (hint, x) in enumerate(zip(hints, value, strict=True))]
    return value if all(a is b for a, b in zip(members, value, strict=True)) else tuple(members)


def _entries(parts: Sequence[Any], value: Any) -> Any:
    if not isinstance(value, Mapping):
        _refuse(value, TypeError)
    return {_member("as a key", parts[0], key): _member(f"at {key!r}", parts[1], x) for key, x in value.items()}


def _member(place: str, hint: Any, value: Any) -> Any:
    try:
        return matched(hint, value)
    except Misfit as misfit:
        raise Misfit(misfit.kind, f"{misfit.came} {place}", misfit.depth + 1) from None


def _callable(parts: Sequence[Any], value: Any) -> Any:
    return _refuse(value, TypeError) if isinstance(value, type) or not callable(value) else value


def _whole(kind: type, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        _refuse(value, TypeError)
    return int(value)


def _number(kind: type, value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        _refuse(value, TypeError)
    try:
        number = float(value)
    except OverflowError:
        _refuse(value)
    return _refuse(value) if math.isnan(number) else number


def _tensor(kind: type, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.is_complex():
        _refuse(value, TypeError)
    return value


def _anything(kind: Any, value: Any) -> Any:
    return value


def _instance(kind: Any, value: Any) -> Any:
    return value if isinstance(value, kind) else _refuse(value, TypeError)


_FORMS: dict[Any, Callable[[Sequence[Any], Any], Any]] = {
    Annotated: _annotated,
    Union: _any_of,
    UnionType: _any_of,
    Sequence: _members,
    tuple: _members,
    list: _members,
    Mapping: _entries,
    dict: _entries,
    Callable: _callable,
}
_PLAIN: dict[Any, Callable[[Any, Any], Any]] = {
    int: _whole,
    float: _number,
    Tensor: _tensor,
    Any: _anything,
    object: _anything,
}


def _on_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta
