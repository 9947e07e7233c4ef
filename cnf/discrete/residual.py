"""Residual flows: `z = x + g(x)` with a contraction g."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from cnf.arguments import Fraction, Size, SizeOrZero, Widths, checked
from cnf.discrete.fixed_points import FixedPoint, Undone
from cnf.discrete.implicit import solution
from cnf.discrete.log_dets import ExactLogDet, LogDet
from cnf.inputs import require_vectors
from cnf.networks.lipschitz import LipschitzMLP
from cnf.transforms import Mapped, Transform
from cnf.twin import parts_of, twin

Module = TypeVar("Module", bound=nn.Module)


@checked
class Residual(Transform):
    """`z = x + g(x)` with `Lip(g) < 1`, inverted by a fixed-point iteration; `log_det = log det(I + ∂g/∂x)`.

    Decode meets the tolerance of `inverse`. Its derivatives, of every order, come from the implicit function theorem,
    with linear systems solved to the same tolerance. An estimated log-determinant has noise: two calls give two values.
    `with_log_det` gives the flow that reports the exact one.

    Args:
        dim: D.
        hidden: Widths of the hidden layers of g.
        context_dim: Length of the context.
        lipschitz: Bound of `Lip(g)`, of the whole of g, in (0, 1).
        log_det: How the log-determinant is computed.
        inverse: The iteration of decode.

    Raises:
        ValueError: A bound outside (0, 1).
        ConvergenceError: From decode, if the tolerance is not met; it names the samples.

    References:
        Behrmann et al. 2019, i-ResNet, arXiv 1811.00995; Chen et al. 2019, Residual flows, arXiv 1906.02735.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Residual(2, hidden=(16, 16))
        >>> x = torch.ones(3, 2)
        >>> torch.allclose(layer.decode(layer.encode(x).value).value, x, atol=1e-4)
        True
    """

    def __init__(
        self,
        dim: Size,
        *,
        hidden: Widths = (64, 64),
        context_dim: SizeOrZero = 0,
        lipschitz: Fraction = 0.97,
        log_det: LogDet = ExactLogDet(),
        inverse: FixedPoint = FixedPoint(),
    ) -> None:
        super().__init__()
        self.dim, self.context_dim = dim, context_dim
        self.network = LipschitzMLP(dim, hidden=hidden, lipschitz=lipschitz, context_dim=context_dim)
        self.log_det, self.inverse = log_det, inverse

    @property
    def exact(self) -> bool:
        return self.log_det.exact

    def extra_repr(self) -> str:
        return f"dim={self.dim}, log_det={self.log_det}, inverse={self.inverse}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, self.dim)
        moved, jacobian = self.network.at(context).linearize(x)
        return Mapped(x + moved, self.log_det(jacobian))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        x = self.push(z, context)
        return Mapped(x, -self.log_det(self.network.at(context).linearize(x)[1]))

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        require_vectors(z, self.dim)
        return solution(Undone(self.inverse), z, *self.network.at(context).tensors())


@checked
def with_log_det(flow: Module, log_det: LogDet) -> Module:
    """A copy that shares all parameters, with another way to compute log-determinants in its residual layers.

    Train with `RussianRoulette`, for example, and report with `ExactLogDet`.

    Args:
        flow: A flow, or any module that holds residual layers.
        log_det: How the copy computes log-determinants.

    Example:
        >>> import cnf
        >>> from cnf.discrete import ExactLogDet, RussianRoulette, with_log_det
        >>> flow = cnf.build("residual", 2, log_det=RussianRoulette())
        >>> flow.exact, with_log_det(flow, ExactLogDet()).exact
        (False, True)
    """
    return twin(flow, Residual, lambda layer: {"log_det": log_det})


def continued(flow: Module) -> Module:
    """A copy that shares all parameters and estimates log-determinants without bias and with `smoothed` noise."""
    if all(layer.log_det.exact for layer in parts_of(flow, Residual)):
        return flow
    return twin(flow, Residual, lambda layer: {"log_det": layer.log_det.smoothed()})
