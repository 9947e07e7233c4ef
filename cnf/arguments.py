"""Arguments checked by the signature: what a hint says is what the documentation says and what is enforced.

`@checked` stands on a function or a class. At a call, each argument is held against its hint: plain types, classes,
`Sequence`, `Mapping`, unions, and the aliases at the end, which narrow a type by rules: `Size` is a whole
number from 1 on, `Positive` a finite number above 0. A wrong type is a TypeError, a wrong value a ValueError; the
message says what was expected and what came. What no hint can say, such as that low is below high, stays in the code.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor, nn

LARGEST = 2**20  # of a size: two layers as wide as that take 4 TB
MOST = 2**53  # of a count: beyond, floating point does not count by ones

Target = TypeVar("Target", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Rule:
    """What a hint demands beyond its type.

    Args:
        words: The demand, as it is read after the name of the type.
        holds: Whether a value, or each element of a tensor, meets it.
        known: The names to choose from, where the value is one.
    """

    words: str
    holds: Callable[[Any], Any]
    known: Collection[str] = ()


def at_least(low: float) -> Rule:
    """Not below `low`, and finite."""
    return Rule(f"not below {low} and below infinity", lambda value: (value >= low) & (value < math.inf))


def above(low: float) -> Rule:
    """Above `low` and finite."""
    return Rule(f"above {low} and below infinity", lambda value: (value > low) & (value < math.inf))


def between(low: float, high: float) -> Rule:
    """Within `low` and `high`, both allowed."""
    return Rule(f"from {low} to {high}", lambda value: (value >= low) & (value <= high))


def inside(low: float, high: float) -> Rule:
    """Within `low` and `high`, neither allowed."""
    return Rule(f"above {low} and below {high}", lambda value: (value > low) & (value < high))


def one_of(known: Collection[str]) -> Rule:
    """One of these names, or of the keys of this dict."""
    return Rule("", lambda name: name in known, known)


def advice(words: str) -> Rule:
    """No demand, but words for the message."""
    return Rule(f"({words})", lambda value: True)


def of_floats(*dims: int) -> Rule:
    """A tensor of floating point, with one of these numbers of dimensions, if any are given."""
    words = f" with {' or '.join(map(str, dims))} axes" if dims else ""
    return Rule(f"of floating point{words}", lambda v: v.is_floating_point() and (not dims or v.dim() in dims))


def checked(target: Target) -> Target:
    """Hold the arguments of a function, or those that a class is made from, against their hints.

    Hints are resolved at the first call. Numbers of other libraries arrive as Python's.

    Example:
        >>> @checked
        ... def layer(width: Size, rate: Fraction = 0.5) -> None: ...
        >>> layer(0)
        Traceback (most recent call last):
        ValueError: width must be a whole number from 1 to 1048576, got 0
    """
    if not isinstance(target, type):
        return _checking(target, target)
    made: Any = target
    made.__init__ = _checking(made.__init__, made if "__dataclass_fields__" in vars(made) else made.__init__)
    return target


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """The hints of the arguments of what is `checked`.

    Raises:
        TypeError: It is not.
    """
    made: Any = target
    made = made.__init__ if isinstance(target, type) else made
    if not hasattr(made, "hints"):
        raise TypeError(f"{target!r} is not checked: put @checked on it")
    return dict(made.hints())


def conform(name: str, hint: Any, value: Any) -> Any:
    """The value, if it is what the hint says.

    Raises:
        TypeError: It has another type.
        ValueError: It breaks a rule.
    """
    try:
        return _conformed(hint, value)
    except _Misfit as misfit:
        kind, came = misfit.kind, misfit.came
    raise kind(f"{name} must be {_words(hint)}, got {came}")


def _checking(function: Any, source: Any) -> Any:
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:
        resolved = get_type_hints(source, include_extras=True)
        return {name: resolved[name] for name in signature.parameters if name in resolved}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # for Python's own words
        for name, hint in hints().items():
            if name in bound.arguments:
                bound.arguments[name] = _argument(signature.parameters[name], hint, bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    call.hints = hints  # type: ignore[attr-defined]
    return call


def _argument(parameter: inspect.Parameter, hint: Any, value: Any) -> Any:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple(conform(parameter.name, hint, member) for member in value)
    if parameter.kind is parameter.VAR_KEYWORD:
        return {name: conform(name, hint, member) for name, member in value.items()}
    return conform(parameter.name, hint, value)


class _Misfit(Exception):
    """Which error it is, what came, in words, and how deep in the value it was."""

    def __init__(self, kind: type[Exception], came: str, depth: int = 0) -> None:
        super().__init__(kind, came, depth)
        self.kind, self.came, self.depth = kind, came, depth


def _refuse(value: Any, kind: type[Exception] = ValueError) -> NoReturn:
    raise _Misfit(kind, _shown(value))


def _conformed(hint: Any, value: Any) -> Any:
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if isinstance(hint, TypeVar):
        return _any_of(hint.__constraints__ or (hint.__bound__ or Any,), value)
    return _FORMS[kind](parts, value) if kind in _FORMS else _PLAIN.get(kind, _instance)(kind, value)


def _annotated(parts: Sequence[Any], value: Any) -> Any:
    value = _conformed(parts[0], value)
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
            return _conformed(part, value)
        except _Misfit as misfit:
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
        return _conformed(hint, value)
    except _Misfit as misfit:
        raise _Misfit(misfit.kind, f"{misfit.came} {place}", misfit.depth + 1) from None


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


def _shown(value: Any) -> str:
    """A value in a message: short, and a class as a class."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself: call it"
    text = " ".join(repr(value).split())
    if len(text) <= 60:
        return text
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"{type(value).__name__}{shape}, {text[:40]} …"


_NOUNS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    str: ("a string", "strings"),
    Tensor: ("a tensor", "tensors"),
    NoneType: ("None", "None"),
    Callable: ("a function", "functions"),
    Any: ("anything", "anything"),
    nn.Module: ("a torch.nn.Module", "modules"),
}


def _words(hint: Any, number: int = 0) -> str:
    """What is expected: one of them (0) or several (1)."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if isinstance(hint, TypeVar):
        return " or ".join(_words(kind, number) for kind in hint.__constraints__ or (hint.__bound__ or Any,))
    if kind is Annotated:
        known = ", ".join(repr(name) for rule in parts[1:] for name in rule.known)
        noun = f"{('one', 'some')[number]} of {known}" if known else _words(parts[0], number)
        return " ".join([noun, *(rule.words for rule in parts[1:] if rule.words)])
    if kind in (Union, UnionType):
        return " or ".join([_words(part, number) for part in parts]).replace(f" of {_words(parts[0], 1)}", " of them")
    if kind in (Sequence, tuple, list):
        return f"{('a sequence', 'sequences')[number]} of {_words(parts[0], 1)}"
    if kind in (Mapping, dict):
        return f"{('a mapping', 'mappings')[number]} of {_words(parts[0], 1)} to {_words(parts[1], 1)}"
    return _noun(kind)[number]


def _noun(kind: Any) -> tuple[str, str]:
    if kind in _NOUNS:
        return _NOUNS[kind]
    name, example = kind.__name__, getattr(kind, "example", None)
    article = "an" if name[0] in "AEIOU" else "a"
    return f"{article} {name}{f' such as {example}' if example else ''}", f"{name}s"


Size = Annotated[int, between(1, LARGEST)]  # of a layer, an event: what takes memory
Ambient = Annotated[int, between(2, LARGEST)]  # of the vectors that a manifold consists of
SizeOrZero = Annotated[int, between(0, LARGEST)]  # that may be 0, for none
Count = Annotated[int, between(1, MOST)]  # of steps, rows: what takes time
Whole = Annotated[int, between(0, MOST)]
Seed = Annotated[int, between(0, 2**32 - 1)]  # what numpy and torch both take
FINITE = Rule(
    "without NaN and infinity", lambda value: value.isfinite() if isinstance(value, Tensor) else math.isfinite(value)
)
Finite = Annotated[float, FINITE]
Positive = Annotated[float, above(0)]
NonNegative = Annotated[float, at_least(0)]
Fraction = Annotated[float, inside(0, 1)]
Share = Annotated[float, Rule("above 0 and not above 1", lambda value: 0 < value <= 1)]

Sizes = Annotated[Sequence[Size], Rule("", len)]
Shape = Size | Sizes  # of an event; a number for a vector of that length
Widths = Size | Sizes  # of hidden layers; a number for one

Reals = Annotated[Tensor | float, FINITE]  # one, or a tensor of them
Numbers = Annotated[Tensor, of_floats(), FINITE]
Vector = Annotated[Tensor, of_floats(1), FINITE]
Matrix = Annotated[Tensor, of_floats(2), FINITE]
Positives = Annotated[Tensor | float, above(0)]
