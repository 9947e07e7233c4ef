"""Coupling transforms: a part of the event is mapped by parameters that depend on the rest, which stays."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnf.arguments import Size, checked
from cnf.discrete.maps import ElementwiseMap
from cnf.inputs import require_event, require_features
from cnf.networks import Conditioner
from cnf.transforms import Mapped, Transform

NetOfSizes = Callable[[int, int], Conditioner]  # the numbers of inputs and outputs to a conditioner
Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # elements and raw parameters to values and log-slopes


@checked
def alternating(dim: Size, *, flip: bool = False) -> Tensor:
    """The mask `1, 0, 1, 0, …` of a vector or of channels, `(dim,)`.

    Args:
        dim: D.
        flip: Whether it starts with 0.

    Example:
        >>> alternating(5)
        tensor([ True, False,  True, False,  True])
    """
    return torch.arange(dim, device="cpu") % 2 == int(flip)


@checked
def half(dim: Size, *, flip: bool = False) -> Tensor:
    """The mask of the first half of a vector or of channels, `(dim,)`; of an odd number, the first half is the larger.

    Args:
        dim: D.
        flip: Whether it is the mask of the second half.

    Example:
        >>> half(5)
        tensor([ True,  True,  True, False, False])
    """
    first = torch.arange(dim, device="cpu") < (dim + 1) // 2
    return ~first if flip else first


@checked
def checkerboard(height: Size, width: Size, *, flip: bool = False) -> Tensor:
    """The mask of every other pixel, `(height, width)`.

    Args:
        height: H.
        width: W.
        flip: Whether it starts with 0.

    Example:
        >>> checkerboard(2, 3).int()
        tensor([[1, 0, 1],
                [0, 1, 0]], dtype=torch.int32)
    """
    rows, columns = torch.arange(height, device="cpu")[:, None], torch.arange(width, device="cpu")
    return (rows + columns) % 2 == int(flip)


@checked
class CouplingLayer(Transform):
    """`z_a = x_a`, `z_b = τ(x_b; θ(x_a, context))`; `log_det = Σ log dz_b/dx_b`. Both directions are one pass.

    The mask is true where the event stays as it is (a). A mask `(D,)` selects along the first axis of the event:
    elements of a vector, or channels of an image. The network then maps the A elements that stay, `(N, A, …)`, to `(N,
    B · size, …)` parameters of the B others. A mask `(H, W)` selects pixels of an image. The network then reads the
    image with zeros at the other pixels, and gives `(N, C · size, H, W)`.

    Args:
        elementwise: τ, with its number of parameters.
        net: θ.
        mask: Boolean, true where the event stays: `alternating`, `half`, `checkerboard` or any other.

    Raises:
        ValueError: A mask that is not boolean, or is all true or all false; in use, a network of another size.

    References:
        Dinh et al. 2014, NICE, arXiv 1410.8516. Dinh et al. 2017, RealNVP, arXiv 1605.08803.

    Example:
        >>> import torch, cnf
        >>> from cnf.discrete import AffineMap, CouplingLayer, alternating
        >>> net = cnf.networks.ResidualMLP(3, 2 * AffineMap().size)
        >>> layer = CouplingLayer(AffineMap(), net, alternating(5))
        >>> layer.encode(torch.zeros(4, 5)).value.shape
        torch.Size([4, 5])
    """

    mask: Tensor
    _kept: Tensor
    _moved: Tensor
    _back: Tensor

    def __init__(self, elementwise: ElementwiseMap, net: Conditioner, mask: Tensor) -> None:
        super().__init__()
        if mask.dtype != torch.bool or mask.dim() not in (1, 2) or mask.all() or not mask.any():
            raise ValueError(f"mask must be boolean, (D,) or (H, W), with true and false in it, got {mask}")
        self.elementwise, self.net = elementwise, net
        self.context_dim = net.context_dim
        self.domain, self.codomain = elementwise.domain, elementwise.codomain
        kept, moved = mask.nonzero().flatten(), (~mask).nonzero().flatten()
        buffers = {"mask": mask, "_kept": kept, "_moved": moved, "_back": torch.cat((kept, moved)).argsort()}
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer.to(torch.get_default_device()), persistent=False)

    @classmethod
    def sized(cls, elementwise: ElementwiseMap, net: NetOfSizes, mask: Tensor) -> CouplingLayer:
        """The layer of a mask `(D,)`, with a network of the sizes it needs, made by `net(inputs, outputs)`.

        Args:
            elementwise: τ.
            net: Makes θ from its numbers of inputs and outputs.
            mask: True where the event stays.
        """
        seen = int(mask.sum())
        return cls(elementwise, net(seen, (len(mask) - seen) * elementwise.size), mask)

    def extra_repr(self) -> str:
        return f"elementwise={self.elementwise}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self._map(self.elementwise.encode, x, context)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self._map(self.elementwise.decode, z, context)

    def _map(self, function: Function, x: Tensor, context: Tensor | None) -> Mapped:
        if self.mask.dim() == 2:
            require_event(x, torch.Size([x.shape[1], *self.mask.shape]))
            value, log_slope = function(x, self._raw(x * self.mask, context, x.shape[1]))
            log_slope = log_slope.masked_fill(self.mask, 0)
            return Mapped(torch.where(self.mask, x, value), log_slope.flatten(1).sum(1))
        require_features(x, len(self.mask))
        kept, moved = x.index_select(1, self._kept), x.index_select(1, self._moved)
        value, log_slope = function(moved, self._raw(kept, context, moved.shape[1]))
        value = torch.cat((kept, value), 1).index_select(1, self._back)
        return Mapped(value, log_slope.flatten(1).sum(1))

    def _raw(self, seen: Tensor, context: Tensor | None, moved: int) -> Tensor:
        """The parameters of each element that moves, last."""
        raw = self.net(seen, context)
        size = self.elementwise.size
        if raw.shape[1] != moved * size:
            raise ValueError(
                f"{self.elementwise} on {moved} elements needs {moved * size} outputs of the network, "
                f"got {raw.shape[1]}"
            )
        return raw.unflatten(1, (moved, size)).movedim(2, -1)
