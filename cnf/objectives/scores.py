"""Densities of a flow as functions of points alone, its weights held, and the values of targets."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.func import functional_call

from cnf.flows import Flow


def held(flow: Flow) -> Callable[[Tensor, Tensor | None], Tensor]:
    """`log q` of points `(N, *event)`, differentiable in them but not in the weights of the flow.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("realnvp", 2, hidden=8)
        >>> x = torch.ones(3, 2, requires_grad=True)
        >>> held(flow)(x, None).sum().backward()
        >>> x.grad, {parameter.grad for parameter in flow.parameters()}
        (tensor([[-1., -1.],
                [-1., -1.],
                [-1., -1.]]), {None})
    """
    weights = {name: parameter.detach() for name, parameter in flow.named_parameters()}

    def log_prob(x: Tensor, context: Tensor | None) -> Tensor:
        values: Tensor = functional_call(flow, weights, (x, context)).log_prob
        return values

    return log_prob


def drawn_along_paths(flow: Flow, n: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Samples and their log-densities, whose gradients follow the paths of the samples alone.

    Raises:
        ValueError: Log-determinants are estimated.

    Example:
        >>> import cnf
        >>> x, log_q = drawn_along_paths(cnf.build("realnvp", 2, hidden=8), 5, None)
        >>> x.shape, log_q.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """
    require_exact(flow, "path gradients")
    x = flow.rsample(n, context)
    return x, held(flow)(x, None if context is None else context.detach())


def require_exact(flow: Flow, what: str) -> None:
    """Refuse flows whose log-determinants are estimated.

    Raises:
        ValueError: They are.
    """
    if not flow.exact:
        raise ValueError(
            f"{what} need exact log-determinants, and this flow's are estimated: give divergence=cnf.Exact(), in a "
            "cnf.Phase for training alone"
        )


def target_values(log_target: Callable[..., Tensor], x: Tensor, context: Tensor | None) -> Tensor:
    """`log p̃` of samples `(N, *event)`, `(N,)`.

    Raises:
        ValueError: The target gives another shape.

    Example:
        >>> import torch
        >>> target_values(lambda x: -x.square().sum(1), torch.ones(3, 2), None)
        tensor([-2., -2., -2.])
    """
    log_p = log_target(x) if context is None else log_target(x, context)
    if log_p.shape != (len(x),):
        raise ValueError(
            f"log_target must give one number a sample, ({len(x)},), got {tuple(log_p.shape)} "
            f"from samples {tuple(x.shape)}"
        )
    return log_p
