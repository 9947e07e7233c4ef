"""Independent columns of any kind: the simplest density of a mixed table, in the measure of a `TableFlow`."""

from __future__ import annotations

import numpy as np
import torch

from cnf.metrics import kernel_density
from cnf.tables import Column, Schema

HALF = 0.5  # rows that every level is given beforehand, so that none is impossible


def independent_log_prob(schema: Schema, train: np.ndarray, judged: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sums of the log-probabilities of columns, `(N,)`; empty cells count for nothing.

    Args:
        schema: The columns.
        train: Rows to learn from, coded as numbers, `(M, D)`.
        judged: Other rows, which choose the widths of kernels.
        rows: `(N, D)`.
    """
    total = np.zeros(len(rows))
    for place, column in enumerate(schema.columns):
        known = ~np.isnan(rows[:, place])
        parts = [part[~np.isnan(part)] for part in (train[:, place], judged[:, place], rows[:, place])]
        total[known] += _of_counts(*parts[::2]) if column.discrete else _of_numbers(column, *parts)
    return total


def _of_counts(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Shares of levels and whole numbers; all that training did not have share half a row."""
    values, counts = np.unique(train, return_counts=True)
    place = np.searchsorted(values, rows).clip(max=len(values) - 1)
    seen = np.where(values[place] == rows, counts[place], 0.0)
    log_prob: np.ndarray = np.log((seen + HALF) / (len(train) + HALF * (len(values) + 1)))
    return log_prob


def _of_numbers(column: Column, train: np.ndarray, judged: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Kernels for numbers, of their logarithms where they are positive, and shares for values of their own."""
    atoms = np.array(column.atoms)
    smooth = [part[~np.isin(part, atoms)] for part in (train, judged, rows)]
    is_atom, logged = np.isin(rows, atoms), column.kind == "positive"
    between = (len(smooth[0]) + HALF) / (len(train) + HALF * (len(atoms) + 1))
    log_prob = np.zeros(len(rows))
    if is_atom.any():
        counts = np.array([(train == value).sum() for value in rows[is_atom]])
        log_prob[is_atom] = np.log((counts + HALF) / (len(train) + HALF * (len(atoms) + 1)))
    if not is_atom.all():
        x, v, new = (torch.from_numpy(np.log(part) if logged else part)[:, None] for part in smooth)
        turns = [0.0] if column.period is None else [-column.period, 0.0, column.period]  # so that a circle has no edge
        wound = torch.cat([x + turn for turn in turns])
        density = kernel_density(wound, v if len(v) else x, generator=torch.Generator().manual_seed(0))
        slope = np.log(smooth[2]) if logged else 0.0
        log_prob[~is_atom] = np.log(between * len(turns)) + density.log_prob(new).numpy() - slope
    return log_prob
