"""Whether two sets of draws are of one distribution, by a classifier."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from torch import Tensor


def c2st(first: Tensor, second: Tensor) -> float:
    """As in the benchmark: two hidden layers of 10 D, standardised by the first set, five folds."""
    n = min(len(first), len(second))
    rows = ((torch.cat([first[:n], second[:n]]) - first.mean(0)) / first.std(0)).numpy()
    labels, width = np.repeat([0, 1], n), 10 * rows.shape[1]
    order = np.random.default_rng(0).permutation(2 * n)
    classifier = MLPClassifier((width, width), max_iter=1_000, early_stopping=False, random_state=0)
    return float(cross_val_score(classifier, rows[order], labels[order], cv=5).mean())
