"""A flow as a transform of Pyro; `cnf.interop.pyro` is the door to it."""

from __future__ import annotations

from pyro.distributions import TransformModule
from torch import Tensor
from torch.distributions import constraints

from cnf.flows import Flow


class FlowTransform(TransformModule):
    """The map of a flow from base to data, as a transform of torch that is a module too.

    As Pyro's transforms do, it keeps the last pair of points with its log-determinant, so that a sample and its density
    take one pass.

    Args:
        flow: The flow; a data-dependent start that was not taken is left out.
        context: One condition `(C,)`.

    Example:
        >>> import torch, cnf
        >>> from cnf.interop.flow_transform import FlowTransform
        >>> part = FlowTransform(cnf.build("realnvp", 2, hidden=8))
        >>> z = torch.randn(4, 3, 2)
        >>> part.log_abs_det_jacobian(z, part(z)).shape
        torch.Size([4, 3])
    """

    bijective = True
    domain = constraints.real_vector
    context: Tensor | None

    def __init__(self, flow: Flow, context: Tensor | None = None) -> None:
        super().__init__(cache_size=1)
        if not flow.initialized:
            flow.initialize(None)
        self.flow, self.codomain = flow, flow.support
        self.register_buffer("context", context)
        self._last: tuple[Tensor, Tensor] | None = None

    def _call(self, z: Tensor) -> Tensor:
        x, log_det, _ = self.flow.transform.decode(z.reshape(-1, *self.flow.base.event_shape), self._contexts(z))
        self._last = z, log_det.reshape(z.shape[:-1])
        return x.reshape(*z.shape[:-1], *self.flow.event_shape)

    def _inverse(self, x: Tensor) -> Tensor:
        return self.flow(x, self.context).z

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not x:
            self._call(x)
        assert self._last is not None
        return self._last[1]

    def _contexts(self, z: Tensor) -> Tensor | None:
        return self.flow.context_rows(self.context, z.shape[:-1])
