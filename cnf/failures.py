"""Rows whose density cannot be computed: they are taken out of the batch and named, the others have their values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from torch import Tensor

from cnf.arguments import one_of
from cnf.errors import FailedRowsWarning, SampleError

OnFailure = Annotated[str, one_of(("raise", "nan"))]


def surviving(
    evaluate: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, context: Tensor | None
) -> tuple[Tensor, dict[int, str]]:
    """The values of all rows, NaN where a row failed, and the reasons of those failures by row number.

    Args:
        evaluate: Rows `(k, *event)` and their context to their values `(k,)`; its SampleErrors name rows among the k.
        x: `(N, *event)`.
        context: `(N, C)` or None.

    Raises:
        SampleError: It names no rows.
    """
    left, failures = torch.arange(len(x), device=x.device), dict[int, str]()
    while True:
        try:
            values = evaluate(x[left], None if context is None else context[left])
        except SampleError as error:
            if not error.samples:
                raise
            failures |= zip(error.renumbered(left.tolist()).samples, error.reasons(), strict=True)
            left = left.new_tensor([row for row in left.tolist() if row not in failures])
        else:
            return values.new_full((len(x),), torch.nan).index_copy(0, left, values), dict(sorted(failures.items()))


def warn(failures: Mapping[int, str], n: int, place: str = "NaN stands in their place") -> None:
    """Warn about failed rows, if there are any, and say what is in their place."""
    if failures:
        warnings.warn(FailedRowsWarning(f"{told(failures, n)}; {place}"), stacklevel=3)


def told(failures: Mapping[int, str], n: int, shown: int = 8) -> str:
    """The number of failed rows, and the first ones with their reasons, in words.

    Example:
        >>> told({3: "NaN"}, 10)
        '1 of 10 rows have no log-density (row 3: NaN)'
    """
    first = [f"row {row}: {reason}" for row, reason in list(failures.items())[:shown]]
    rest = ["…"] if len(failures) > shown else []
    return f"{len(failures)} of {n} rows have no log-density ({'; '.join([*first, *rest])})"
