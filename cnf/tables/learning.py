"""Training of a flow on the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnf.data.keys import row_keys
from cnf.data.rows import Rows
from cnf.data.splits import split
from cnf.errors import DataError
from cnf.flows import Flow
from cnf.models import MODELS, build
from cnf.objectives import AnyGiven
from cnf.tables.coding import Coding
from cnf.training import FitConfig, FitResult, fit

FEWEST_ROWS = 20
FEW_ROWS, NARROW = 2_000, (64, 64)  # up to so many rows, a wider field learns them by heart
ADVICE = "cnf.build and cnf.fit train others on rows of numbers"
MASKS = 16  # different ones that judge
JUDGED = 0.1  # share of the rows that judge training, and that p-values are compared with
MOST_JUDGED = 5_000  # of them
LEAST_JUDGED, LARGEST_SHARE = 100, 0.2  # of few rows more judge: a mean over a score of rows ends training by chance


def learned(
    model: str,
    coding: Coding,
    values: np.ndarray,
    names: Sequence[str],
    config: FitConfig,
    *,
    options: Mapping[str, Any] = {},
    weights: np.ndarray | None = None,
    **run: Any,
) -> tuple[FitResult, np.ndarray]:
    """Train a model on numbers of a table, `(N, D)` with NaN for empty cells.

    Args:
        model: A key of `cnf.MODELS`.
        coding: How the numbers become rows of the flow.
        values: The numbers.
        names: Of the columns that are modelled.
        config: Budget and settings.
        options: Of the model; of few rows its hidden layers are narrower than its own default.
        weights: Of the rows, `(N,)`.
        run: `folder`, `resume` and `clock` as for `cnf.fit`.

    Returns:
        The result, and the numbers of the rows that judged it.

    Raises:
        DataError: Too few rows, or rows that are empty.
    """
    if not takes_tables(model):
        raise ValueError(f"expected a model that takes any cells as given, such as 'any_cnf', got {model!r}: {ADVICE}")
    if len(values) < FEWEST_ROWS:
        raise DataError(f"expected at least {FEWEST_ROWS} rows to learn from, got {len(values)}")
    coded = coding.encode(values)
    if empty := np.flatnonzero(~coded.present.any(1).numpy()).tolist():
        raise DataError(f"{len(empty)} rows have no values, first {empty[:5]}, counted from 0: remove them")
    context = coded.context(np.zeros(coded.x.shape[1], dtype=bool))
    train, judged = parts_of(row_keys(values), config.seed)
    masked = coded.rows(judged).context(_masks(len(judged), coded.x.shape[1], config.seed))
    judges = torch.cat((coded.x[judged],) * 2), torch.cat((context[judged], masked))
    width = {"hidden": NARROW} if len(values) <= FEW_ROWS else {}
    flow = build(model, coded.x.shape[1], **width | coding.options | dict(options))
    result = trained(flow, (coded.x, context), train, judges, names, config, judged=judged, weights=weights, **run)
    return result, judged


def trained(
    flow: Flow,
    data: tuple[Any, Any],
    train: np.ndarray,
    judges: tuple[Tensor, Tensor],
    names: Sequence[str],
    config: FitConfig,
    *,
    judged: np.ndarray,
    weights: np.ndarray | None = None,
    **run: Any,
) -> FitResult:
    """Train a flow on some rows of `data`, `x` and contexts in memory or on disk, and judge it by others."""
    rows = Rows(data, choice=train, columns=names)
    rows.checked = True  # by the schema, which knows which columns have levels
    if weights is not None:
        run |= {"weights": weights[train], "validation_weights": np.tile(weights[judged], 2)}
    return fit(flow, rows, validation=Rows(judges), config=config, **run)


def takes_tables(model: str) -> bool:
    """Whether a model takes any cells of a row as given, and the others as modelled."""
    return model in MODELS and {"circles", "levels"} <= set(MODELS[model].options)


def parts_of(keys: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows to train on and of those to judge by; rows with equal keys are on one side."""
    share = min(max(JUDGED, LEAST_JUDGED / len(keys)), LARGEST_SHARE, MOST_JUDGED / len(keys))
    parts = split(len(keys), seed=seed, fractions=(1 - 2 * share, share, share), copies=keys)
    return np.sort(np.concatenate((parts.train, parts.test))), np.sort(parts.validation)


def _masks(n: int, dim: int, seed: int) -> np.ndarray:
    """Random given cells for rows that judge the conditional densities."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        masks: np.ndarray = AnyGiven(joint=1e-9, groups=MASKS).masks(n, dim, torch.device("cpu")).numpy()
    return masks[np.random.default_rng(seed).permutation(n)]
