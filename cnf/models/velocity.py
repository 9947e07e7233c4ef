"""Velocity networks from other libraries as flows."""

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
    """A velocity network from another library (torchcfm, flow_matching, …) as a flow with a standard normal base.

    The network is not copied, so it can be trained further, and the `state_dict` of the flow contains it. Call `eval()`
    on it if it has dropout or batch norm. A context given to the flow is passed as the last argument.

    With activations that are not smooth (ReLU, SELU), the trace jumps. An adaptive solver then needs hundreds of
    evaluations per row and loses accuracy; `flow.log_prob_with_error` estimates the error. A fixed grid,
    `RungeKutta("rk4", steps=20)`, is cheaper if its accuracy suffices.

    Args:
        model: Maps times `(N,)` and points `(N, *event)` to velocities `(N, *event)`.
        event_shape: Shape of one sample.
        arguments: "tx" for `model(t, x)`, "xt" for `model(x, t)`, "concat" for `model(torch.cat([x, t], 1))`.
        data_at: Time at which samples equal data, in the network's time. With a positive T, the base is at time 0. With
            0, the base is at time 1, as in diffusion models.
        divergence: Computes or estimates the trace.
        solver: The ODE solver.

    Returns:
        The flow, in the dtype and on the device of the network's parameters.

    Raises:
        ValueError: `arguments` is unknown, or "concat" for events that are no vectors; `data_at` is negative; in use,
            the network returns another shape than that of x.
        TypeError: `model` is no `torch.nn.Module`.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 2))
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
