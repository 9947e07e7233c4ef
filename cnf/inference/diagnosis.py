"""Diagnoses by arviz-stats: Pareto tails of weights, convergence of chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

FEWEST = 100  # draws from which a tail can be fitted


def smoothed(log_weights: Tensor) -> tuple[float | None, Tensor]:
    """Pareto shape k̂ and smoothed weights; None and the weights as they are where arviz-stats or draws are missing."""
    stats = _statistics()
    finite = log_weights.isfinite()
    if stats is None or int(finite.sum()) < FEWEST or log_weights[finite].std() < 1e-6:
        return None, log_weights
    raw = log_weights[finite].double().cpu()
    values, k_hat = stats.psislw(-raw.numpy())  # which takes logarithms of 1/w, and gives weights of sum 1
    smooth = torch.as_tensor(np.asarray(values))
    smooth = smooth + (raw - smooth)[raw.argmin()]  # the smallest weights are left as they are
    return float(k_hat), log_weights.masked_scatter(finite, smooth.to(log_weights))


def convergence(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Split R̂ and bulk effective sample size of each dimension of chains `(chains, n, *event)`, `(*event)` each.

    Raises:
        ImportError: arviz-stats is not installed.
    """
    stats = _statistics()
    if stats is None:
        raise ImportError('R̂ and effective sample sizes need arviz-stats: pip install "cnf[inference]"')
    chains = samples.double().cpu().flatten(2).numpy()
    columns = [chains[:, :, place] for place in range(chains.shape[2])]
    shape = samples.shape[2:]
    r_hat = torch.tensor([float(stats.rhat(column)) for column in columns]).reshape(shape)
    return r_hat, torch.tensor([float(stats.ess(column)) for column in columns]).reshape(shape)


def _statistics() -> Any:
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        return None
    return array_stats
