"""What an objective is, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from cnf.flows import Flow


class Loss(NamedTuple):
    """What an objective returns for a batch.

    Attributes:
        value: The scalar to minimise, a mean over the batch.
        metrics: Further scalars to log, without gradient.
        rows: The loss of each row of data, `(N,)`, where there is one. Messages name the rows whose loss is not
            finite; with its gradient, `cnf.fit` can weigh the rows.

    Example:
        >>> import torch
        >>> rows = torch.tensor([1.0, 3.0], requires_grad=True)
        >>> Loss(rows.mean(), {"largest": rows.max().detach()}, rows).value
        tensor(2., grad_fn=<MeanBackward0>)
    """

    value: Tensor
    metrics: Mapping[str, Tensor] = {}
    rows: Tensor | None = None


Objective = Callable[[Flow, Tensor, Tensor | None], Loss | Tensor]
"""What `cnf.fit` minimises: any callable of a flow, a batch and its context or None. A scalar tensor is a loss too.

An objective that is a module is trained and saved with the flow. One that draws its own samples says so by an attribute
`draws_samples = True`; then `cnf.fit` takes `data=None`, and does not look at the values of rows that it is given. One
whose flow is a density of latent variables says so by `has_latents = True`; rows of data may then have any shape.

Example:
    >>> import torch, cnf
    >>> def robust(flow, x, context=None):
    ...     rows = -flow.log_prob(x, context)
    ...     return cnf.Loss(rows.clamp(max=20.0).mean(), {"worst": rows.max().detach()}, rows)
    >>> flow, config = cnf.build("realnvp", 2, hidden=8), cnf.FitConfig(steps=2, progress=False)
    >>> sorted(cnf.fit(flow, torch.randn(64, 2), robust, config=config).history[-1])
    ['epoch', 'evaluations', 'learning_rate', 'loss', 'seconds', 'step', 'worst']
"""


def as_loss(returned: object) -> Loss:
    """What an objective returned as a `Loss`.

    Raises:
        TypeError: It is neither that nor a scalar tensor.
        ValueError: The loss is no scalar, or does not depend on any parameter.

    Example:
        >>> import torch
        >>> as_loss(torch.ones(1, requires_grad=True)).value.shape
        torch.Size([])
        >>> as_loss(torch.ones(2, requires_grad=True))
        Traceback (most recent call last):
        ValueError: the loss must be one number, got (2,): return its mean over the rows
    """
    loss = returned if isinstance(returned, Loss) else Loss(returned) if isinstance(returned, Tensor) else None
    if loss is None or not isinstance(loss.value, Tensor):
        raise TypeError(
            f"an objective must return cnf.Loss(value) or a scalar tensor, got {type(returned).__name__}: "
            "keep the value a tensor, with its gradient"
        )
    if loss.value.numel() != 1:
        raise ValueError(f"the loss must be one number, got {tuple(loss.value.shape)}: return its mean over the rows")
    if torch.is_grad_enabled() and not loss.value.requires_grad:
        raise ValueError("the loss depends on no parameter: do not detach it, and compute it from the flow")
    return loss._replace(value=loss.value.reshape(()))


def weighted(loss: Loss, weights: Tensor) -> Loss:
    """The mean of the rows' losses, each times its weight.

    Raises:
        TypeError: The objective gives no loss for each row of data.

    Example:
        >>> import torch
        >>> rows = torch.tensor([1.0, 3.0], requires_grad=True)
        >>> weighted(Loss(rows.mean(), {}, rows), torch.tensor([2.0, 0.0])).value.item()
        1.0
    """
    if loss.rows is None or not loss.rows.requires_grad or loss.rows.shape != weights.shape:
        raise TypeError(
            "weights need an objective that gives the loss of each row of data, with its gradient, as the rows of "
            "cnf.Loss; this one does not, and objectives that draw their own samples cannot"
        )
    return loss._replace(value=(weights.to(loss.rows) * loss.rows).mean())


def some(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A batch as it came.

    Raises:
        ValueError: It is empty, so that a mean over its rows does not exist.

    Example:
        >>> import torch
        >>> some(torch.zeros(0, 2), None)
        Traceback (most recent call last):
        ValueError: an objective needs at least one row, got x of shape (0, 2)
    """
    if not x.numel():
        raise ValueError(f"an objective needs at least one row, got x of shape {tuple(x.shape)}")
    return x, context


def draws_samples(objective: Objective) -> bool:
    """Whether an objective makes its own samples, so that rows of data only say how many: it has `draws_samples`.

    Example:
        >>> import cnf
        >>> draws_samples(cnf.ReverseKL(lambda x: x.sum(-1))), draws_samples(cnf.MaximumLikelihood())
        (True, False)
    """
    return getattr(objective, "draws_samples", False) is True


def has_latents(objective: Objective) -> bool:
    """Whether the flow is a density of latent variables, not of the rows of data: the objective has `has_latents`.

    Example:
        >>> import cnf
        >>> has_latents(cnf.MaximumLikelihood())
        False
    """
    return getattr(objective, "has_latents", False) is True
