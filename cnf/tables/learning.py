"""Training of a flow on the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnf.data.keys import row_keys
from cnf.data.rows import Rows
from cnf.data.splits import split
from cnf.errors import DataError
from cnf.models import build
from cnf.objectives import AnyGiven
from cnf.tables.coding import Coding
from cnf.training import FitConfig, FitResult, fit

FEWEST_ROWS = 20
MASKS = 16  # different ones that judge
JUDGED = 0.1  # share of the rows that judge training, and that p-values are compared with


def learned(
    model: str,
    coding: Coding,
    values: np.ndarray,
    names: Sequence[str],
    options: Mapping[str, Any],
    *,
    folder: str | Path | None,
    clock: Callable[[], float],
) -> tuple[FitResult, np.ndarray]:
    """Train a model on numbers of a table, `(N, D)` with NaN for empty cells.

    Args:
        model: A key of `cnf.MODELS`.
        coding: How the numbers become rows of the flow.
        values: The numbers.
        names: Of the columns that are modelled.
        options: Fields of `cnf.FitConfig`; of `seconds` and `steps` the latter counts, if it is given.
        folder: Where to keep the checkpoint.
        clock: Gives the seconds that the budget counts.

    Returns:
        The result, and the numbers of the rows that judged it.

    Raises:
        DataError: Too few rows, or rows that are empty.
    """
    if len(values) < FEWEST_ROWS:
        raise DataError(f"expected at least {FEWEST_ROWS} rows to learn from, got {len(values)}")
    coded = coding.encode(values)
    if empty := np.flatnonzero(~coded.present.any(1).numpy()).tolist():
        raise DataError(f"{len(empty)} rows have no values, first {empty[:5]}, counted from 0: remove them")
    flow = build(model, coded.x.shape[1], **coding.options)
    train, judged = _parts(values, options["seed"])
    context = coded.context(np.zeros(coded.x.shape[1], dtype=bool))
    rows = Rows((coded.x[train], context[train]), columns=names)
    rows.checked = True  # by the schema, which knows which columns have levels
    masked = coded.context(_masks(len(coded.x), coded.x.shape[1], options["seed"]))
    both = coded.x[np.concatenate((judged, judged))], torch.cat((context[judged], masked[judged]))
    budget = {name: value for name, value in options.items() if value is not None}
    if "steps" in budget:
        del budget["seconds"]
    result = fit(flow, rows, validation=Rows(both), config=FitConfig(**budget), folder=folder, clock=clock)
    return result, judged


def _parts(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows to train on and of those to judge by; copies of a row are on one side."""
    fractions = (1 - 2 * JUDGED, JUDGED, JUDGED)
    parts = split(len(values), seed=seed, fractions=fractions, copies=row_keys(values))
    return np.sort(np.concatenate((parts.train, parts.test))), np.sort(parts.validation)


def _masks(n: int, dim: int, seed: int) -> np.ndarray:
    """Random given cells for rows that judge the conditional densities."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        masks: np.ndarray = AnyGiven(joint=1e-9, groups=MASKS).masks(n, dim, torch.device("cpu")).numpy()
    return masks[np.random.default_rng(seed).permutation(n)]
