"""Calibration of classifiers: their posteriors are corrected after training, on data they were not trained on.

Three models can be fitted, in the order of their flexibility: `cnf.manifolds.Calibration` (without bias it is
temperature scaling), `cnf.manifolds.GeneralizedCalibration` and `DirichletCalibration`.
"""

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

__all__ = ["DirichletCalibration", "fit_calibration"]


@checked
class DirichletCalibration(nn.Module):
    """`q = softmax(A log p + c)` with any matrix A: correct if the posteriors of each class are Dirichlet distributed.

    It is for classification only. A need not have an inverse, so this is no `Transform` and has no density. It starts
    at the identity.

    Args:
        n: Number of classes.

    Raises:
        ValueError: n is below 2.

    References:
        Kull et al. 2019, arXiv 1910.12656.

    Example:
        >>> import torch
        >>> DirichletCalibration(3).calibrate(torch.tensor([0.7, 0.2, 0.1])).detach()
        tensor([0.7000, 0.2000, 0.1000])
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
        """The corrected posteriors q of posteriors `(…, n)`."""
        return as_point(self.log_posteriors(p))

    def forward(self, p: Tensor) -> Tensor:
        """The same as `calibrate`."""
        return self.calibrate(p)


Calibrator = TypeVar("Calibrator", LogAffine, DirichletCalibration)


@checked
def fit_calibration(
    posteriors: Tensor, labels: Tensor, model: Calibrator, *, penalty: NonNegative = 0.0, iterations: Count = 500
) -> Calibrator:
    """Fit a calibration to posteriors and true classes: minimise `−mean log q(label)` by L-BFGS in float64.

    The result is deterministic: L-BFGS uses all data at once and starts at the parameters of `model`. Fit it to data
    that the classifier was not trained on; on training data its errors do not show.

    Args:
        posteriors: Posteriors from the classifier, `(N, n)`, inside the simplex.
        labels: The true classes, whole numbers from 0 to n − 1, `(N,)`.
        model: A `Calibration`, `GeneralizedCalibration` or `DirichletCalibration`; it is not changed.
        penalty: Weight of the sum of squared changes of the parameters; useful for many classes and few data.
        iterations: Largest number of steps of L-BFGS.

    Returns:
        A fitted copy of `model`; `fitted.calibrate(posteriors)` applies it.

    Raises:
        ValueError: Labels that are not classes or not as many as the posteriors; posteriors off the simplex or with
            zeros (use `smooth`).
        TypeError: The model reads a context.

    Example:
        >>> import torch
        >>> from cnf.manifolds import Calibration
        >>> posteriors = torch.tensor([[0.9, 0.1]] * 4)  # the classifier says 90 %
        >>> labels = torch.tensor([0, 0, 0, 1])  # but is right in 75 %
        >>> fitted = fit_calibration(posteriors, labels, Calibration(2, bias=False))
        >>> fitted.calibrate(posteriors[:1]).detach()
        tensor([[0.7500, 0.2500]])
    """
    if getattr(model, "context_dim", 0):
        raise TypeError("fit_calibration takes a model without a context: train it as a flow, with cnf.fit")
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
