"""Functions and classes whose arguments are compared with their hints."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from cnf.arguments.matching import Misfit, matched
from cnf.arguments.words import words

Target = TypeVar("Target", bound=Callable[..., Any])


def checked(target: Target) -> Target:
    """Compare the arguments of a function, or of the constructor of a class, with their hints.

    Hints are resolved at the first call. Numbers of other libraries, such as `numpy.int64`, become those of Python.

    Args:
        target: The function or class.

    Returns:
        The same function or class, checked.

    Example:
        >>> from cnf.arguments import Fraction, Size
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
    """The hints of the arguments of a function or class that is `checked`, by name.

    Raises:
        TypeError: It is not checked.

    Example:
        >>> from cnf.arguments import Size
        >>> @checked
        ... def layer(width: Size) -> None: ...
        >>> list(hints_of(layer))
        ['width']
    """
    made: Any = target
    made = made.__init__ if isinstance(target, type) else made
    if not hasattr(made, "hints"):
        raise TypeError(f"{target!r} is not checked: put @checked on it")
    return dict(made.hints())


def conform(name: str, hint: Any, value: Any) -> Any:
    """The value, if it fits a hint.

    Args:
        name: Name of the argument, for the message.
        hint: What is expected.
        value: What came.

    Raises:
        TypeError: The value has another type.
        ValueError: The value breaks a rule.

    Example:
        >>> from cnf.arguments import Positive
        >>> conform("rate", Positive, 3)
        3.0
        >>> conform("rate", Positive, -1.0)
        Traceback (most recent call last):
        ValueError: rate must be a number above 0 and below infinity, got -1.0
    """
    try:
        return matched(hint, value)
    except Misfit as misfit:
        kind, came = misfit.kind, misfit.came
    raise kind(f"{name} must be {words(hint)}, got {came}")


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
