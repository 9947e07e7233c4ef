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
    """Words for the message, without a demand."""
    return Rule(f"({words})", lambda value: True)


def of_floats(*dims: int) -> Rule:
    """A tensor of floating point; with numbers, of one of these numbers of dimensions."""
    words = f" with {' or '.join(map(str, dims))} axes" if dims else ""
    return Rule(f"of floating point{words}", lambda v: v.is_floating_point() and (not dims or v.dim() in dims))


FINITE = Rule(
    "without NaN and infinity", lambda value: value.isfinite() if isinstance(value, Tensor) else math.isfinite(value)
)
