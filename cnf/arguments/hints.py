"""The hints that arguments of the package carry: a type, narrowed by rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from cnf.arguments.rules import FINITE, Rule, above, at_least, between, inside, of_floats

LARGEST = 2**20  # of a size: two layers as wide as that take 4 TB
MOST = 2**53  # of a count: beyond, floating point does not count by ones

Size = Annotated[int, between(1, LARGEST)]  # of a layer, an event: what takes memory
Ambient = Annotated[int, between(2, LARGEST)]  # of the vectors that a manifold consists of
SizeOrZero = Annotated[int, between(0, LARGEST)]  # that may be 0, for none
Count = Annotated[int, between(1, MOST)]  # of steps, rows: what takes time
Whole = Annotated[int, between(0, MOST)]
Seed = Annotated[int, between(0, 2**32 - 1)]  # what numpy and torch both take
Finite = Annotated[float, FINITE]
Positive = Annotated[float, above(0)]
NonNegative = Annotated[float, at_least(0)]
Fraction = Annotated[float, inside(0, 1)]
Share = Annotated[float, Rule("above 0 and not above 1", lambda value: 0 < value <= 1)]
ShareOrZero = Annotated[float, Rule("from 0 to 1", lambda value: 0 <= value <= 1)]

Sizes = Annotated[Sequence[Size], Rule("", len)]
Shape = Size | Sizes  # of an event; a number for a vector of that length
Widths = Size | Sizes  # of hidden layers; a number for one

Reals = Annotated[Tensor | float, FINITE]  # one, or a tensor of them
Numbers = Annotated[Tensor, of_floats(), FINITE]
Vector = Annotated[Tensor, of_floats(1), FINITE]
Matrix = Annotated[Tensor, of_floats(2), FINITE]
Positives = Annotated[Tensor | float, above(0)]
