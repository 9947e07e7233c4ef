"""Posteriors of a classifier of noisy digits that is too sure of itself, and how sure it may be."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from cnf.manifolds import smooth


def posteriors(
    train: int, calibration: int, noise: float, copies: int, hidden: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Posteriors and true classes of the images that correct and of those that judge."""
    images, classes = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    parts = np.split(rng.permutation(len(images)), [train, train + calibration])

    def noisy(part: np.ndarray, copies: int) -> tuple[np.ndarray, np.ndarray]:
        clean = np.repeat(images[part] / 16, copies, 0)
        return clean + noise * rng.normal(size=clean.shape), np.repeat(classes[part], copies)

    network = MLPClassifier((hidden,), alpha=0, max_iter=400, tol=1e-7, n_iter_no_change=100, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is to go on for ever
        network.fit(*noisy(parts[0], 1))
    rows = [noisy(part, copies) for part in parts[1:]]
    return [
        (smooth(torch.from_numpy(network.predict_proba(x).astype(np.float64)), 1e-9), torch.from_numpy(y))
        for x, y in rows
    ]


def reliability(q: Tensor, classes: Tensor, bins: int) -> list[tuple[float, float, float]]:
    """Mean confidence, accuracy and share of the rows in each bin of confidence that has any."""
    confidence, guess = q.max(1)
    number, right = (confidence * bins).long().clamp(max=bins - 1), (guess == classes).double()
    members = [number == i for i in range(bins)]
    return [
        (confidence[rows].mean().item(), right[rows].mean().item(), rows.double().mean().item())
        for rows in members
        if rows.any()
    ]


def among(q: Tensor, classes: Tensor, digits: tuple[int, int, int]) -> list[Tensor]:
    """Posteriors among three digits, of the images of each."""
    three = [q[classes == digit][:, list(digits)] for digit in digits]
    return [(rows / rows.sum(1, keepdim=True)).float() for rows in three]
