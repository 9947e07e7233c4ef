"""Classification by densities: Bayes' rule."""

from __future__ import annotations

import torch
from torch import Tensor

from cnf.arguments import Reals, Size, checked
from cnf.flows import Flow
from cnf.noise import Recorded, Replayed


@checked
@torch.no_grad()
def class_log_probs(flow: Flow, x: Tensor, *, prior: Reals | None = None, draws: Size = 1) -> Tensor:
    """The posterior `log P(y | x) = log p(x | y) + log P(y) − log Σ_y p(x | y) P(y)` of the classes, `(N, K)`.

    The context of the flow is the class as K numbers, of which one is 1 (`cnf.data.one_hot`). Where densities
    have noise (`Dequantize`), all classes see the same, so that it cancels in the comparison.

    Args:
        flow: A density of x given the class.
        x: `(N, *event)`.
        prior: The shares of the classes, `(K,)`; equal by default.
        draws: Draws of the noise, over which the log-densities are averaged.

    Returns:
        Log-probabilities; `argmax(1)` is the classification.

    Raises:
        ValueError: A flow without context, or a prior that is not K positive numbers.

    References:
        Fetaya et al. 2020, Understanding the limitations of conditional generative models, arXiv 1906.01171.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("maf", 2, context_dim=3, layers=1, hidden=4)
        >>> log_probs = class_log_probs(flow, torch.zeros(5, 2))
        >>> torch.allclose(log_probs.exp().sum(1), torch.ones(5))
        True
    """
    classes = flow.transform.context_dim
    if not classes:
        raise ValueError("a classifier needs a flow with the class as context: build it with context_dim=classes")
    shares = torch.ones(classes) if prior is None else torch.as_tensor(prior)
    if shares.shape != (classes,) or not bool((shares > 0).all()):
        raise ValueError(f"prior must be {classes} positive numbers, got {shares.tolist()}")
    log_prior = (shares / shares.sum()).log().to(x)
    total = torch.stack([_given_each_class(flow, x, classes) for _ in range(draws)]).mean(0) + log_prior
    return total.log_softmax(1)


def _given_each_class(flow: Flow, x: Tensor, classes: int) -> Tensor:
    """`log p(x | y)` for all y, with the same noise, `(N, K)`."""
    contexts = torch.eye(classes).to(x)
    with Recorded() as noise:
        columns = [flow.log_prob(x, contexts[0])]
    for context in contexts[1:]:
        with Replayed(noise.draws):
            columns.append(flow.log_prob(x, context))
    return torch.stack(columns, 1)
