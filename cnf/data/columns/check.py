"""The check of a table's columns, once for each training."""

from __future__ import annotations

import warnings

import numpy as np

from cnf.data.columns.impossible import ERRORS
from cnf.data.columns.look import Look
from cnf.data.columns.meaningless import WARNINGS
from cnf.data.rows import Batch, Rows
from cnf.errors import DataError, DataWarning
from cnf.spread import FEWEST

MOST_CELLS = 2**22  # that are checked: about one second
MOST_ROWS = 65_536
MOST_ITEMS = 1024  # of a dataset; each may be read from a file


def check_rows(rows: Rows, *, quiet: bool = False) -> None:
    """Check the columns of rows that a flow is trained on; rows that were checked before are left alone.

    Events with several axes (images) are not checked.

    Args:
        rows: The rows.
        quiet: Whether to leave out the warning; errors are raised all the same.

    Raises:
        DataError: No density exists: a column is constant, follows from others, or varies too little for its dtype.

    Warns:
        DataWarning: A density exists, but its likelihood means little: a column of few values, an index, values far
            out, copied rows.

    Example:
        >>> import torch
        >>> x = torch.randn(1000, 2)
        >>> x[:, 1] = x[:, 0].exp()
        >>> check_rows(Rows(x))
        Traceback (most recent call last):
        cnf.errors.DataError: column 1 follows from column 0 in all 1,000 rows: drop one of them, ...
    """
    if rows.checked:
        return
    rows.checked = True
    some = _some(rows)
    read = rows.read(some.tolist())  # what is not finite, or not in the dtype, is an error there
    sample = rows.raw(some) or _as_arrays(read)
    if sample[0].ndim != 2:
        return
    look = Look(rows, *sample)
    if errors := [text for rule in ERRORS for text in rule(look)]:
        raise DataError("; ".join(errors))
    remarks = [text for rule in WARNINGS for text in rule(look)] if not quiet and look.n >= FEWEST else []
    if remarks:
        warnings.warn(DataWarning("; ".join(remarks)), stacklevel=3)


def _as_arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    x, context, numbers = batch
    return x.cpu().numpy(), None if context is None else context.cpu().numpy(), numbers.numpy()


def _some(rows: Rows) -> np.ndarray:
    """Numbers of rows drawn at random, of bounded size, in the order of the data."""
    width = max(sum(int(np.prod(part.shape[1:])) for part in rows.parts), 1)
    most = min(MOST_ROWS, max(4096, MOST_CELLS // width)) if rows.parts else MOST_ITEMS
    if len(rows) <= most:
        return np.arange(len(rows))
    return np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))
