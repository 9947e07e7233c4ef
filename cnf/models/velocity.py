"""Velocity networks trained elsewhere, as flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn

from cnf.arguments import NonNegative, Shape, advice, checked, one_of
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import VectorField
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.distributions import StandardNormal
from cnf.flows import Flow

ARGUMENTS: dict[str, Callable[..., Tensor]] = {
    "tx": lambda model, t, x, *context: model(t, x, *context),
    "xt": lambda model, t, x, *context: model(x, t, *context),
    "concat": lambda model, t, x, *context: model(torch.cat([x, t.unsqueeze(1)], 1), *context),
}
Network = Annotated[nn.Module, advice("wrap a function in one")]


@checked
def from_velocity(
    model: Network,
    event_shape: Shape,
    *,
    arguments: Annotated[str, one_of(ARGUMENTS)] = "tx",
    data_at: NonNegative = 1.0,
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta(),
) -> Flow:
    """A velocity network trained elsewhere (torchcfm, flow_matching, …) as a flow on a standard normal base.

    The network is not copied: it can be trained on, and a `state_dict` has it. Put it into `eval()` if it has
    dropout or batch norm. A context given to the flow is its last argument. Where activations have kinks (ReLU, SELU),
    the trace jumps, which costs an adaptive solver hundreds of evaluations a row and some accuracy:
    `flow.log_prob_with_error` says how much, and `RungeKutta("rk4", steps=20)` is cheaper where that will do.

    Args:
        model: Maps times `(N,)` and points `(N, *event)` to velocities `(N, *event)`.
        event_shape: Shape of one sample.
        arguments: "tx" for `model(t, x)`, "xt" for `model(x, t)`, "concat" for `model(torch.cat([x, t], 1))`.
        data_at: Where the data stand on the network's clock. 1, or any positive T: the base stands at 0. 0: the base
            stands at 1, as in diffusion.
        divergence: How the trace is found.
        solver: How the equation is integrated.

    Returns:
        The flow, in the dtype and on the device of the network's parameters.

    Raises:
        ValueError: Unknown arguments, times that cannot be joined to the points, an impossible time of the data.
        TypeError: The network is no `torch.nn.Module`.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
        >>> from_velocity(network, 2, arguments="concat").sample(5).shape
        torch.Size([5, 2])
    """
    base = StandardNormal(event_shape)
    if arguments == "concat" and len(base.event_shape) != 1:
        raise ValueError(f"times can be joined to vectors only, not to events {tuple(base.event_shape)}: use tx or xt")
    field = VelocityField(model, arguments, data_at)
    like = next((parameter for parameter in field.parameters() if parameter.is_floating_point()), torch.empty(()))
    return Flow(CNF(field, divergence, {}, solver), base.to(like))


@checked
class VelocityField(VectorField):
    """The field of a network whose time runs from 0 to T: `f(t, x) = T v(T t, x)`; for data at 0, `−v(1 − t, x)`.

    Args:
        model: The network v.
        arguments: A key of `ARGUMENTS`.
        data_at: T, or 0.
    """

    context_dim = None

    def __init__(
        self, model: Network, arguments: Annotated[str, one_of(ARGUMENTS)] = "tx", data_at: NonNegative = 1.0
    ) -> None:
        super().__init__()
        self.model, self.arguments, self.data_at = model, arguments, data_at

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        time = self.data_at * t if self.data_at else 1 - t
        read = () if context is None else (context,)
        velocity = ARGUMENTS[self.arguments](self.model, time.expand(len(x)), x, *read)
        if velocity.shape != x.shape:
            raise ValueError(f"the network must return the shape of x, {tuple(x.shape)}, got {tuple(velocity.shape)}")
        return velocity * (self.data_at or -1.0)
