"""Arguments checked by the signature: what a hint says is what the documentation says and what is enforced.

`@checked` stands on a function or a class. At a call, each argument is held against its hint: plain types, classes,
`Sequence`, `Mapping`, unions, and the aliases at the end, which narrow a type by rules: `Size` is a whole
number from 1 on, `Positive` a finite number above 0. A wrong type is a TypeError, a wrong value a ValueError; the
message says what was expected and what came. What no hint can say, such as that low is below high, stays in the code.
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
    Size,
    SizeOrZero,
    Sizes,
    Vector,
    Whole,
    Widths,
)
from cnf.arguments.rules import FINITE, Rule, above, advice, at_least, between, inside, of_floats, one_of

__all__ = [
    "Ambient",
    "Count",
    "FINITE",
    "Finite",
    "Fraction",
    "LARGEST",
    "MOST",
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
