"""Rules: what a hint demands beyond its type."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rule:
    """A demand beyond a type; it stands in `Annotated[type, rule]`.

    Args:
        words: The demand, as it follows the name of the type in a message.
        holds: Whether a value, or each element of a tensor, meets the demand.
        known: The names to choose from, if the value is a name.

    Example:
        >>> from typing import Annotated
        >>> from cnf.arguments import Rule, conform
        >>> even = Rule("divisible by 2", lambda n: n % 2 == 0)
        >>> conform("n", Annotated[int, even], 3)
        Traceback (most recent call last):
        ValueError: n must be a whole number divisible by 2, got 3
    """

    words: str
    holds: Callable[[Any], Any]
    known: Collection[str] = ()

    def __repr__(self) -> str:
        return self.words or f"one of {', '.join(map(repr, self.known))}"


def at_least(low: float) -> Rule:
    """Not below `low`, and finite.

    Args:
        low: The smallest allowed number.

    Example:
        >>> at_least(2)
        not below 2 and below infinity
    """
    return Rule(f"not below {low} and below infinity", lambda value: (value >= low) & (value < math.inf))


def above(low: float) -> Rule:
    """Above `low` and finite.

    Args:
        low: The bound, itself not allowed.

    Example:
        >>> above(0)
        above 0 and below infinity
    """
    return Rule(f"above {low} and below infinity", lambda value: (value > low) & (value < math.inf))


def between(low: float, high: float) -> Rule:
    """From `low` to `high`, both included.

    Args:
        low: The smallest allowed number.
        high: The largest allowed number.

    Example:
        >>> between(1, 3).holds(3)
        True
    """
    return Rule(f"from {low} to {high}", lambda value: (value >= low) & (value <= high))


def inside(low: float, high: float) -> Rule:
    """Between `low` and `high`, both excluded.

    Args:
        low: The lower bound, itself not allowed.
        high: The upper bound, itself not allowed.

    Example:
        >>> inside(0, 1).holds(1)
        False
    """
    return Rule(f"above {low} and below {high}", lambda value: (value > low) & (value < high))


def one_of(known: Collection[str]) -> Rule:
    """One of these names, or of the keys of this dict.

    Args:
        known: The allowed names.

    Example:
        >>> one_of(["encode", "decode"])
        one of 'encode', 'decode'
    """
    return Rule("", lambda name: name in known, known)


def advice(words: str) -> Rule:
    """Words for the error message only; every value is allowed.

    Args:
        words: What to write, in brackets.

    Example:
        >>> advice("in nats")
        (in nats)
    """
    return Rule(f"({words})", lambda value: True)


def of_floats(*dims: int) -> Rule:
    """A tensor of floating point; with numbers, of one of these numbers of dimensions.

    Example:
        >>> of_floats(1, 2)
        of floating point with 1 or 2 axes
    """
    words = f" with {' or '.join(map(str, dims))} axes" if dims else ""
    return Rule(f"of floating point{words}", lambda v: v.is_floating_point() and (not dims or v.dim() in dims))


FINITE = Rule(
    "without NaN and infinity", lambda value: value.isfinite() if isinstance(value, Tensor) else math.isfinite(value)
)
