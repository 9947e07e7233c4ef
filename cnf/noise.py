"""Noise drawn once and given again, so that two computations differ in nothing but their accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DRAWS = {
    torch.rand, torch.randn, torch.randint, torch.rand_like, torch.randn_like, torch.randint_like,
    torch.bernoulli, torch.multinomial, torch.normal,
}  # fmt: skip


class Recorded(TorchFunctionMode):
    """Keeps what is drawn within the block, whoever draws it from whichever generator.

    Seeds cannot stand for it: one seed gives other normal numbers in float32 than in float64.

    Attributes:
        draws: In their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in DRAWS:
            self.draws.append(result)
        return result


class Replayed(TorchFunctionMode):
    """Gives what was drawn before, one for one, in the dtype that is now asked for."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        super().__init__()
        self.draws = iter(draws)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        return next(self.draws).to(result) if function in DRAWS else result
