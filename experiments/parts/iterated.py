"""Empty cells filled by scikit-learn's iterative imputer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - it is what lets the next line work
from sklearn.impute import IterativeImputer

from cnf.tables import Schema


def iterated(holes: np.ndarray, schema: Schema, model: Any, seed: int) -> np.ndarray:
    """Filled by scikit-learn, with categories as indicators."""
    parts = [
        np.where(np.isnan(cells)[:, None], np.nan, cells[:, None] == np.arange(len(column.levels)))
        if column.levels and not column.ordered
        else ((cells - np.nanmean(cells)) / np.nanstd(cells))[:, None]
        for column, cells in zip(schema.columns, holes.T, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before it has converged
        full = IterativeImputer(model, max_iter=4, random_state=seed).fit_transform(np.concatenate(parts, 1))
    pieces = np.split(full, np.cumsum([part.shape[1] for part in parts])[:-1], 1)
    columns = [
        piece.argmax(1) if column.levels and not column.ordered else piece[:, 0] * np.nanstd(cells) + np.nanmean(cells)
        for column, cells, piece in zip(schema.columns, holes.T, pieces, strict=True)
    ]
    return np.stack(columns, 1)
