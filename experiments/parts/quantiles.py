"""Predictions as quantiles, of a flow's samples or by gradient boosting, and their scores."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import cnf
from cnf.metrics import mean_and_error

LEVELS = torch.cat([(torch.arange(20) + 0.5) / 20, torch.tensor([0.05, 0.95])])  # the two last are those of an interval


def sampled(flow: cnf.Flow, context: Tensor, draws: int, seed: int) -> Tensor:
    """Quantiles `(levels, N)` of so many samples of each row."""
    draw = torch.Generator().manual_seed(seed)
    samples = torch.stack([flow.sample(len(context), context, generator=draw)[:, 0] for _ in range(draws)])
    return samples.quantile(LEVELS, dim=0)


def boosted(train: Tensor, context: Tensor) -> Tensor:
    """Quantiles by scikit-learn with its own settings, one model a level."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    fits = []
    for level in LEVELS.tolist():
        model = HistGradientBoostingRegressor(loss="quantile", quantile=level, random_state=0)
        fits.append(model.fit(train[:, :-1].numpy(), train[:, -1].numpy()).predict(context.numpy()))
    return torch.tensor(np.stack(fits), dtype=torch.float32)


def scores(quantiles: Tensor, y: Tensor) -> dict[str, float]:
    """CRPS of all quantiles but the two last, and the share between these, which should be 0.9."""
    missed, level = y - quantiles[:-2], LEVELS[:-2, None]
    losses = 2 * torch.maximum(level * missed, (level - 1) * missed).mean(0)
    crps, inside = mean_and_error(losses), ((quantiles[-2] <= y) & (y <= quantiles[-1])).double().mean()
    return {"crps": crps.mean, "crps_error": crps.standard_error, "coverage": inside.item()}
