"""Arguments that are checked by their type hints.

`@checked` decorates a function or a class. At a call, each argument is compared with its hint: plain types, classes,
`Sequence`, `Mapping`, unions, and the aliases of `cnf.arguments.hints`, which narrow a type by rules: `Size` is a whole
number of at least 1, `Positive` a finite number above 0. A wrong type is a TypeError, a wrong value a ValueError; the
message says what was expected and what came. Rules between arguments, such as low < high, are checked in the code.
"""

from cnf.arguments.checking import checked, conform, hints_of
from cnf.arguments.hints import (
    LARGEST,
    MOST,
    Ambient,
    Count,
    Finite,
    Fraction,
    Matrix,
    NonNegative,
    Numbers,
    Positive,
    Positives,
    Reals,
    Seed,
    Shape,
    Share,
    ShareOrZero,
    Size,
    SizeOrZero,
    Sizes,
    Vector,
    Whole,
    Widths,
)
from cnf.arguments.rules import FINITE, Rule, above, advice, at_least, between, inside, of_floats, one_of

__all__ = [
    "FINITE",
    "LARGEST",
    "MOST",
    "Ambient",
    "Count",
    "Finite",
    "Fraction",
    "Matrix",
    "NonNegative",
    "Numbers",
    "Positive",
    "Positives",
    "Reals",
    "Rule",
    "Seed",
    "Shape",
    "Share",
    "ShareOrZero",
    "Size",
    "SizeOrZero",
    "Sizes",
    "Vector",
    "Whole",
    "Widths",
    "above",
    "advice",
    "at_least",
    "between",
    "checked",
    "conform",
    "hints_of",
    "inside",
    "of_floats",
    "one_of",
]
