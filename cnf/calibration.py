"""Calibrating a classifier: its posteriors are corrected after training, on data it was not trained on."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Count, NonNegative, Size, checked
from cnf.distributions.interface import require_ambient
from cnf.distributions.simplex import as_point, log_interior
from cnf.manifolds.simplex import LogAffine


@checked
class DirichletCalibration(nn.Module):
    """`q = softmax(A log p + c)` with any matrix A: the posteriors when those of each class are Dirichlet distributed.

    For classification only: A need not have an inverse, so this is no `Transform` and has no density. It starts at the
    identity.

    Args:
        n: Number of classes.

    References:
        Kull et al. 2019, arXiv 1910.12656.
    """

    def __init__(self, n: Size) -> None:
        super().__init__()
        self.n = require_ambient(n, "a simplex")
        self.matrix = nn.Parameter(torch.eye(n))
        self.shift = nn.Parameter(torch.zeros(n))

    def log_posteriors(self, p: Tensor) -> Tensor:
        """`log q`, `(…, n)` to `(…, n)`."""
        return (log_interior(p, self.n) @ self.matrix.mT + self.shift).log_softmax(-1)

    def calibrate(self, p: Tensor) -> Tensor:
        """q: posteriors `(…, n)` to posteriors."""
        return as_point(self.log_posteriors(p))

    def forward(self, p: Tensor) -> Tensor:
        """The same as `calibrate`."""
        return self.calibrate(p)


Calibrator = TypeVar("Calibrator", LogAffine, DirichletCalibration)


@checked
def fit_calibration(
    posteriors: Tensor, labels: Tensor, model: Calibrator, *, penalty: NonNegative = 0.0, iterations: Count = 500
) -> Calibrator:
    """Fit a calibration to posteriors and true classes, by `min −mean log q(label)` with L-BFGS in float64.

    Deterministic: all data at once, from where the parameters of `model` are. Calibrate with data that the classifier
    was not trained on, else its errors do not show.

    Args:
        posteriors: What the classifier gives, `(N, n)`, inside the simplex.
        labels: The true classes, whole numbers 0 … n − 1, `(N,)`.
        model: A `Calibration` (without bias it is temperature scaling), `GeneralizedCalibration` or
            `DirichletCalibration`; it is left as it is.
        penalty: Weight of the sum of squared changes of the parameters; for many classes with few data.
        iterations: Steps of L-BFGS at most.

    Returns:
        A fitted copy of `model`; `fitted.calibrate(posteriors)` applies it.

    Raises:
        ValueError: Labels that are no classes or not as many as posteriors; posteriors off the simplex or with zeros
            (`smooth` them).
        TypeError: A model that needs a context.
    """
    if getattr(model, "context_dim", 0):
        raise TypeError("a calibration with a context is fitted as a flow, or without the context")
    _require_classes(posteriors, labels, model.n)
    fitted = copy.deepcopy(model).double().requires_grad_(True)
    p, classes = posteriors.detach().double(), labels.to(torch.long)
    parameters = list(fitted.parameters())
    starts = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=iterations, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        changes = sum((parameter - start).square().sum() for parameter, start in zip(parameters, starts, strict=True))
        value = F.nll_loss(fitted.log_posteriors(p), classes) + penalty * changes
        value.backward()
        return value

    optimizer.step(loss)
    fitted.zero_grad(set_to_none=True)
    return fitted.to(next(model.parameters()).dtype)


def _require_classes(posteriors: Tensor, labels: Tensor, n: int) -> None:
    if posteriors.dim() != 2 or posteriors.shape[1] != n or labels.shape != posteriors.shape[:1] or not len(labels):
        raise ValueError(
            f"posteriors must be (N, {n}) and labels (N,) with N > 0, "
            f"got {tuple(posteriors.shape)} and {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= n:
        raise ValueError(
            f"labels must be whole numbers 0 … {n - 1}, got {labels.dtype} "
            f"from {labels.min().item()} to {labels.max().item()}"
        )
