"""Masked networks: the outputs for a dimension depend on the dimensions before it only."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Rule, Size, SizeOrZero, Whole, Widths, checked
from cnf.networks.activations import ConditionerActivation
from cnf.networks.residual import ResidualNet, as_widths, circular


@checked
class MaskedLinear(nn.Linear):
    """`(M ∘ W) x + b` with a mask M of zeros and ones.

    Args:
        mask: M, `(outputs, inputs)`, of zeros and ones.

    Raises:
        ValueError: `mask` has not two axes, or is empty.

    Example:
        >>> import torch
        >>> layer = MaskedLinear(torch.tensor([[1, 0]]))
        >>> bool(torch.equal(layer(torch.tensor([[2.0, 3.0]])), layer(torch.tensor([[2.0, 9.0]]))))
        True
    """

    mask: Tensor

    def __init__(
        self,
        mask: Annotated[Tensor, Rule("with two axes and not empty", lambda mask: mask.dim() == 2 and mask.numel())],
    ) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mask * self.weight, self.bias)


@checked
class MADE(ResidualNet):
    """A masked residual network: the outputs for a dimension depend on the context and on those before it in `order`.

    A hidden unit of degree m depends on the first m dimensions. The outputs at position p depend on units of degree
    ≤ p. Degrees are evenly spread and sorted, so that `steps` can evaluate the network one dimension at a time, with
    every unit computed once. Layers and blocks are those of `ResidualNet`.

    Args:
        dim: Length D of the input.
        outputs_per_dim: Outputs for each dimension; y is `(N, D · outputs_per_dim)`, dimension after dimension.
        hidden: Widths of the hidden layers; an int is one layer. Each should have at least D units.
        blocks: Number of residual blocks, of the last width; 0 makes a plain masked MLP.
        context_dim: Length of the context; 0 for none.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        order: A permutation of 0 … D − 1, by default sorted. The outputs for its first dimension depend on no other.
        angles: Whether x are angles in radians; the first layer then reads their cosines and sines.

    Raises:
        ValueError: `order` is not a permutation, or a width is not positive.

    References:
        Germain et al. 2015, MADE, arXiv 1502.03509. Nash and Durkan 2019, ResMADE, arXiv 1904.05626.

    Example:
        >>> import torch, cnf
        >>> net = cnf.networks.MADE(3, 2, hidden=16)
        >>> net(torch.zeros(5, 3)).shape
        torch.Size([5, 6])
    """

    def __init__(
        self,
        dim: Size,
        outputs_per_dim: Size,
        *,
        hidden: Widths = 64,
        blocks: SizeOrZero = 2,
        context_dim: SizeOrZero = 0,
        activation: ConditionerActivation = "relu",
        order: Sequence[Whole] | None = None,
        angles: bool = False,
    ) -> None:
        order = tuple(range(dim)) if order is None else tuple(order)
        if sorted(order) != list(range(dim)):
            raise ValueError(f"order must have each of 0 … {dim - 1} once, got {order}")
        place = torch.tensor(order).argsort()
        seen = [_degrees(width, dim, context_dim) for width in as_widths(hidden)]
        degrees = [torch.tensor(degree) for degree in seen]
        last = degrees[-1]
        super().__init__(
            [
                MaskedLinear(degrees[0][:, None] > place.repeat_interleave(2 if angles else 1)),
                *(MaskedLinear(b[:, None] >= a) for a, b in zip(degrees, degrees[1:], strict=False)),
            ],
            [[MaskedLinear(last[:, None] >= last) for _ in range(2)] for _ in range(blocks)],
            MaskedLinear(place.repeat_interleave(outputs_per_dim)[:, None] >= last),
            context_dim=context_dim,
            activation=activation,
            angles=angles,
        )
        self.dim, self.outputs_per_dim, self.order = dim, outputs_per_dim, order
        self._rows = [_rows(degree, dim) for degree in seen]

    def steps(self, context: Tensor | None = None) -> Steps:
        """The same network, evaluated one dimension at a time."""
        return Steps(self, self._rows, None if self.context is None else self.shown(context))


class Steps:
    """A MADE evaluated one dimension at a time; each hidden unit is computed once, as soon as its inputs are known.

    A call takes the previous dimension, `(N, 1)`, or `(N, 0)` the first time, and returns the outputs for the next one
    in `order`, `(N, outputs_per_dim)`. All calls together cost one `forward` and have the same gradients.
    """

    def __init__(self, net: MADE, rows: Sequence[Sequence[slice]], shown: Tensor | None) -> None:
        outputs = [slice(i * net.outputs_per_dim, (i + 1) * net.outputs_per_dim) for i in net.order]
        first, *hidden = (_Growing(layer, r) for layer, r in zip(net.layers, rows, strict=True))
        first.weight = first.weight.unflatten(1, (net.dim, -1))[:, list(net.order)].flatten(1)
        self._first, self._hidden, self._last = first, hidden, _Growing(net.last, outputs)
        self._pairs = [(_Growing(inner, rows[-1]), _Growing(outer, rows[-1])) for inner, outer in net.pairs]
        self._activation, self._shown, self._rows, self._step = net.activation, shown, rows[0], 0
        self._angles = net.angles

    def __call__(self, x: Tensor) -> Tensor:
        step, act = self._step, self._activation
        h = self._first(circular(x) if self._angles else x, step)
        if self._shown is not None:
            h = h + self._shown[:, self._rows[step]]
        for layer in self._hidden:
            h = layer(act(h), step)
        for inner, outer in self._pairs:
            h = h + outer(act(inner(act(h), step)), step)
        self._step += 1
        return self._last(act(h), step)


class _Growing:
    """A masked layer whose inputs arrive step by step; a step gives the outputs that see nothing else.

    The inputs so far are just those that the mask lets through, so the mask itself is not needed.
    """

    def __init__(self, layer: nn.Module, rows: Sequence[slice]) -> None:
        linear = cast(MaskedLinear, layer)
        self.weight: Tensor = linear.weight
        self.bias, self.rows = linear.bias, rows
        self.inputs: Tensor | None = None

    def __call__(self, new: Tensor, step: int) -> Tensor:
        self.inputs = new if self.inputs is None else torch.cat((self.inputs, new), 1)
        rows = self.rows[step]
        return F.linear(self.inputs, self.weight[rows, : self.inputs.shape[1]], self.bias[rows])


def _degrees(width: int, dim: int, context_dim: int) -> list[int]:
    """How many dimensions each hidden unit sees, sorted; units that see none serve only a context."""
    least = 0 if context_dim or dim == 1 else 1
    return [dim - 1 - unit * (dim - least) // width for unit in reversed(range(width))]


def _rows(degrees: Sequence[int], dim: int) -> list[slice]:
    """Which units have degree 0, …, D − 1."""
    ends = [bisect.bisect_right(degrees, place) for place in range(dim)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
