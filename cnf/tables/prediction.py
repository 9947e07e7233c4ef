"""Predictions of one column from the others: their mean, quantiles, levels, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnf.metrics import crps, interval_coverage, pit


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The distribution of a column in N rows, given the other cells of each row.

    What compares with the values of the column is None where the table has no values for it.

    Attributes:
        column: Its name.
        samples: Draws as numbers, `(draws, N)`; of a category of texts the places of its levels.
        mean: `(N,)`; None for a category of texts.
        levels: Levels of a category or a binary column; empty for others.
        probabilities: Of the levels, `(N, L)`; None for columns without levels.
        pit: Probability integral transform of the values, `(N,)`, uniform if the prediction is calibrated; NaN where
            there is no value.
        crps: Continuous ranked probability score, `(N,)`, in the unit of the column; lower is better. None for a
            category of texts.

    Example:
        >>> import numpy as np
        >>> prediction = prediction_of("size", np.random.default_rng(0).normal(size=(99, 3)), np.array([0.0, 0.5, 9.0]))
        >>> prediction.quantiles([0.05, 0.95]).shape, prediction.pit.round(1).tolist()[2], prediction.coverage()
        ((3, 2), 1.0, 0.6666666666666666)
    """

    column: str
    samples: np.ndarray
    mean: np.ndarray | None = None
    levels: tuple[Any, ...] = ()
    probabilities: np.ndarray | None = None
    pit: np.ndarray | None = None
    crps: np.ndarray | None = None

    def __repr__(self) -> str:
        draws, rows = self.samples.shape
        return f"Prediction of {self.column!r} in {rows} rows, {draws} draws each"

    def quantiles(self, shares: Any) -> np.ndarray:
        """Quantiles at shares between 0 and 1, `(N, len(shares))`."""
        return np.quantile(self.samples, np.asarray(shares, dtype=float), axis=0).T

    def coverage(self, level: float = 0.9) -> float:
        """Share of values within their central interval of probability `level`.

        Raises:
            ValueError: The table had no values of the column.
        """
        if self.pit is None or not np.isfinite(self.pit).any():
            raise ValueError(f"the table has no values of {self.column!r}, so nothing can be covered")
        return interval_coverage(torch.from_numpy(self.pit[np.isfinite(self.pit)]), level).mean


def prediction_of(
    column: str, samples: np.ndarray, truth: np.ndarray, levels: tuple[Any, ...] = (), *, seed: int = 0
) -> Prediction:
    """The prediction that samples `(draws, N)` make, compared with values `(N,)`, NaN where there are none."""
    probabilities = (samples[:, :, None] == np.arange(len(levels))).mean(0) if levels else None
    known, texts = np.isfinite(truth), not all(isinstance(level, int | float) for level in levels)
    if levels and not texts:
        numbers = np.array(levels, dtype=float)
        samples = numbers[samples.astype(int)]
        truth = np.where(known, numbers[np.where(known, truth, 0).astype(int)], np.nan)
    mean = None if texts else samples.mean(0)
    if not known.any():
        return Prediction(column, samples, mean, levels, probabilities)
    drawn, values = torch.from_numpy(samples[:, known]), torch.from_numpy(truth[known])
    generator = torch.Generator().manual_seed(seed)
    scores = {"pit": pit(drawn, values, generator=generator)} | ({} if texts else {"crps": crps(drawn, values)})
    spread = {name: _spread(score.numpy(), known) for name, score in scores.items()}
    return Prediction(column, samples, mean, levels, probabilities, **spread)


def _spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    whole = np.full(known.shape, np.nan)
    whole[known] = values
    return whole
