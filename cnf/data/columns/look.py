"""The columns of some rows, at the precision of the flow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from cnf.data.columns.column import SeenColumn
from cnf.data.columns.dependence import Tie, ties
from cnf.data.rows import Rows


class Look:
    """The columns of some rows.

    Args:
        rows: Where they are from.
        x: `(n, D)` as it was given.
        context: `(n, C)` or None.
        numbers: Of the rows.
    """

    def __init__(self, rows: Rows, x: np.ndarray, context: np.ndarray | None, numbers: np.ndarray) -> None:
        self.rows, self.numbers, self.n = rows, numbers, len(x)
        self.x = self._columns(x, rows.columns, "column")
        self.context = [] if context is None else self._columns(context, rows.context_columns, "context column")
        self.named = bool(rows.columns)

    def _columns(self, values: np.ndarray, names: Sequence[str], kind: str) -> list[SeenColumn]:
        rounded = torch.as_tensor(values).to(self.rows.dtype).double().numpy()
        coarsest = torch.as_tensor(values[:0]).dtype
        eps = torch.finfo(self.rows.dtype).eps
        eps = max(eps, torch.finfo(coarsest).eps) if coarsest.is_floating_point else eps
        called = [repr(name) for name in names] if len(names) == values.shape[1] else []
        called = called or [f"{kind} {i}" for i in range(values.shape[1])]
        raw = values.astype(np.float64)
        return [SeenColumn(called[i], rounded[:, i], raw[:, i], eps) for i in range(values.shape[1])]

    @property
    def seen(self) -> str:
        """How many rows were checked."""
        return f"in all {self.n:,} rows" + (" looked at" if self.n < len(self.rows) else "")

    @cached_property
    def tied(self) -> list[Tie]:
        """Columns that follow from others."""
        return ties(self.context, self.x)
