"""Autoregressive transforms: each dimension is mapped by parameters that depend on the ones before it."""

from __future__ import annotations

import torch
from torch import Tensor

from cnf.arguments import checked
from cnf.discrete.maps import ElementwiseMap
from cnf.inputs import require_vectors
from cnf.networks import MADE
from cnf.transforms import Mapped, Transform


@checked
class Autoregressive(Transform):
    """`z_i = τ(x_i; θ_i)` with `θ_i` a function of `x_{<i}` and the context; `log_det = Σᵢ log dz_i/dx_i`.

    Encode is one pass of the network. Decode goes through the dimensions in the order of the network and computes each
    hidden unit once. `Inverse(Autoregressive(...))` exchanges the two: it is the inverse autoregressive flow.

    Args:
        elementwise: τ, with its number of parameters.
        net: The masked network that gives them, `elementwise.size` for each dimension.

    Raises:
        ValueError: The network has another number of outputs.

    References:
        Papamakarios et al. 2017, MAF, arXiv 1705.07057. Kingma et al. 2016, IAF, arXiv 1606.04934.

    Example:
        >>> import torch, cnf
        >>> from cnf.discrete import AffineMap, Autoregressive
        >>> maf = Autoregressive(AffineMap(), cnf.networks.MADE(3, AffineMap().size, hidden=32))
        >>> maf.encode(torch.zeros(5, 3)).value.shape
        torch.Size([5, 3])
    """

    def __init__(self, elementwise: ElementwiseMap, net: MADE) -> None:
        super().__init__()
        if net.outputs_per_dim != elementwise.size:
            raise ValueError(
                f"{elementwise} needs {elementwise.size} outputs for each dimension, the network has "
                f"{net.outputs_per_dim}: give it outputs_per_dim={elementwise.size}"
            )
        self.elementwise, self.net = elementwise, net
        self.context_dim = net.context_dim
        self.domain, self.codomain = elementwise.domain, elementwise.codomain

    def extra_repr(self) -> str:
        return f"elementwise={self.elementwise}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, self.net.dim)
        raw = self.net(x, context).unflatten(1, (self.net.dim, -1))
        z, log_slope = self.elementwise.encode(x, raw)
        return Mapped(z, log_slope.sum(1))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, self.net.dim)
        steps, x = self.net.steps(context), z[:, :0]
        values: list[Tensor] = [z] * self.net.dim
        log_det = z.new_zeros(len(z))
        for i in self.net.order:
            x, log_slope = self.elementwise.decode(z[:, i : i + 1], steps(x).unsqueeze(1))
            values[i], log_det = x, log_det + log_slope.squeeze(1)
        return Mapped(torch.cat(values, 1), log_det)
