"""Flows as density estimators of sbi, the library of simulation-based inference.

It needs sbi, `pip install "cnf[sbi]"`, which is imported when `estimator` is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnf.discrete import StandardizeContext
from cnf.flows import Flow
from cnf.interop.guests import guest
from cnf.models import build
from cnf.objectives import Objective, Phase
from cnf.transforms import Embedded

if TYPE_CHECKING:
    from cnf.interop.density_estimator import FlowEstimator

__all__ = ["estimator"]


def estimator(
    model: str = "cnf",
    *,
    likelihood: bool = False,
    objective: Objective | None = None,
    embedding_net: nn.Module | None = None,
    **options: Any,
) -> Callable[[Tensor, Tensor], FlowEstimator]:
    """A builder for `sbi.inference.NPE(density_estimator=…)`, or for `NLE` with `likelihood=True`.

    sbi trains what it builds by its own loop, `inference.train(learning_rate=…)`, with the objective and the solver of
    the model's recipe. To train by `cnf.fit` instead, call the builder:

        built = cnf.interop.sbi.estimator("cnf")(theta, x)
        cnf.fit(built.net, (theta, x))  # data of several dimensions flattened, `x.flatten(1)`
        posterior = sbi.inference.NPE(prior).build_posterior(built)

    Args:
        model: Name of the model, a key of `cnf.MODELS`.
        likelihood: Whether the flow is a density of the data x given parameters θ, as NLE needs it, and not of θ given
            x.
        objective: What is minimised, such as `cnf.FlowMatching()`; that of the recipe's last phase by default.
        embedding_net: From conditions `(N, *shape)` to features `(N, F)`, trained along.
        options: Of the model.

    Returns:
        A function of θ `(N, D)` and x `(N, *shape)`, which takes standardisation and the like from them.

    Raises:
        ImportError: sbi is not installed.
        ValueError: An unknown model or option.

    Example:
        >>> import torch
        >>> from cnf.interop.sbi import estimator
        >>> theta, x = torch.randn(100, 2), torch.randn(100, 3)
        >>> built = estimator("cnf", hidden=(8, 8))(theta, x)  # doctest: +SKIP
        >>> built.log_prob(theta[None], x).shape  # doctest: +SKIP
        torch.Size([1, 100])
    """
    guest("sbi", "sbi", "cnf.interop.sbi.estimator")
    from cnf.interop.density_estimator import FlowEstimator

    def built(theta: Tensor, x: Tensor) -> FlowEstimator:
        of, given = (x, theta) if likelihood else (theta, x)
        flow = _flow(model, of, given, embedding_net, options)
        phase = flow.recipe[-1]
        if objective is not None:
            flow.recipe = (Phase(objective, learning_rate=phase.learning_rate, optimizer=phase.optimizer),)
        return FlowEstimator(flow, given.shape[1:], embedding_net)

    return built


def _flow(model: str, of: Tensor, given: Tensor, embedding_net: nn.Module | None, options: dict[str, Any]) -> Flow:
    """A conditional flow, started from the data."""
    width = given[0].numel()
    if embedding_net is None:
        flow = build(model, of.shape[1:], width, **options)
    else:
        with torch.no_grad():
            features = embedding_net(given[:2]).shape[1]
        inner = build(model, of.shape[1:], features, **options)
        transform = StandardizeContext(Embedded(inner.transform, embedding_net, given.shape[1:]), width)
        flow = Flow(transform, inner.base, recipe=inner.recipe)
    flow.initialize(of, given.flatten(1))
    return flow
