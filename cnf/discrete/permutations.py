"""Permutations of the features of a vector, or of the channels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from cnf.arguments import Rule, Whole, checked
from cnf.inputs import require_features
from cnf.transforms import Mapped, Transform


def _whole(order: Sequence[int] | Tensor) -> bool:
    return len(order) > 0 if not isinstance(order, Tensor) else order.dtype == torch.long and order.dim() == 1


WHOLE = Rule("of whole numbers, which is not empty", _whole)


@checked
class Permutation(Transform):
    """`z_i = x_{order_i}` along the first axis of the event, with log-determinant 0.

    Args:
        order: The numbers 0 … D − 1, each once.

    Raises:
        ValueError: `order` is not a permutation.

    Example:
        >>> import torch, cnf
        >>> cnf.discrete.Permutation([2, 0, 1]).encode(torch.tensor([[10.0, 11.0, 12.0]])).value
        tensor([[12., 10., 11.]])
    """

    order: Tensor

    def __init__(self, order: Annotated[Sequence[Whole] | Tensor, WHOLE]) -> None:
        super().__init__()
        order = torch.as_tensor(order, dtype=torch.long)
        if order.dim() != 1 or not (order.is_meta or order.sort().values.tolist() == list(range(len(order)))):
            raise ValueError(f"order must have each of 0 … D − 1 once, got {order.tolist()}")
        self.register_buffer("order", order)

    @classmethod
    def reversal(cls, dim: int) -> Permutation:
        """The order D − 1 … 0."""
        return cls(range(dim - 1, -1, -1))

    @classmethod
    def random(cls, dim: int, *, generator: torch.Generator | None = None) -> Permutation:
        """A random order, drawn once; the state dict carries it."""
        return cls(torch.randperm(dim, generator=generator))

    def extra_repr(self) -> str:
        return f"dim={len(self.order)}"

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(x, len(self.order))
        return Mapped(x[:, self.order], x.new_zeros(len(x)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_features(z, len(self.order))
        return Mapped(z[:, self.order.argsort()], z.new_zeros(len(z)))
