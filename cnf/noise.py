"""Noise that is drawn once and given again, so that two computations differ in their accuracy only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Operator = Callable[..., Any]


class _Mode(TorchDispatchMode):
    """A mode that does without the compiler of torch, whose import takes seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Recorded(_Mode):
    """Keeps all random numbers that torch draws within the block, from whichever generator.

    It sees the operators that torch itself marks as random, in place or not: `torch.randn(3)`, `x.normal_()`, and what
    distributions call. A seed would not do, because it gives other numbers in float32 than in float64. Not seen are
    random numbers of other libraries, and operators that draw and compute at once (dropout on a GPU).

    Attributes:
        draws: The numbers, in their order.

    Example:
        >>> import torch
        >>> with Recorded() as noise:
        ...     first = torch.zeros(3).normal_()
        >>> with Replayed(noise.draws):
        ...     second = torch.zeros(3, dtype=torch.float64).normal_()
        >>> torch.equal(first.double(), second)
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Tensor] = []

    def __torch_dispatch__(
        self, operator: Operator, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        if _draws(operator, result):
            self.draws.append(result.clone())  # what is drawn may be changed in place later
        return result


class Replayed(_Mode):
    """Gives numbers that were drawn before, one tensor after the other, in the dtype that is asked for now.

    Args:
        draws: The numbers, from `Recorded`.

    Raises:
        RuntimeError: In the block, other shapes are drawn than before, or more of them.

    Example:
        >>> import torch
        >>> with Replayed([torch.tensor([1.0, 2.0])]):
        ...     torch.randn(2)
        tensor([1., 2.])
    """

    def __init__(self, draws: Sequence[Tensor]) -> None:
        super().__init__()
        self.draws: Iterator[Tensor] = iter(draws)

    def __torch_dispatch__(
        self, operator: Operator, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        return result.copy_(self._next(result)) if _draws(operator, result) else result

    def _next(self, like: Tensor) -> Tensor:
        draw = next(self.draws, None)
        if draw is None or draw.shape != like.shape:
            before = "nothing" if draw is None else f"shape {tuple(draw.shape)}"
            raise RuntimeError(
                f"the noise of two evaluations differs: {before} was drawn before, shape {tuple(like.shape)} now. "
                "Draw noise whose shape depends on the shape of the data only"
            )
        return draw


def _draws(operator: Operator, result: Any) -> bool:
    return _is_random(operator) and isinstance(result, Tensor)


@functools.cache
def _is_random(operator: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in operator.tags
