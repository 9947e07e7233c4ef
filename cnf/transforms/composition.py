"""Several transforms in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import checked
from cnf.starts import time_is_up
from cnf.transforms.interface import ContinuousPart, Mapped, Transform, context_for


@checked
class Compose(Transform):
    """Several transforms in a row, `encode = f_k ∘ … ∘ f_1`; log-determinants and costs add up.

    Conditional and unconditional transforms can be mixed: those whose `context_dim` is not 0 read the context.

    Args:
        transforms: In the order of `encode`: the first one sees the data.

    Example:
        >>> import torch, cnf
        >>> from cnf.discrete import Affine
        >>> chain = Compose([Affine(2, shift=1.0), Affine(2, scale=2.0)])
        >>> chain.encode(torch.tensor([[3.0, 5.0]]))
        Mapped(value=tensor([[1., 2.]]), log_det=tensor([-1.3863]), costs={})
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.data_dependent = any(transform.data_dependent for transform in transforms)
        self.continuous = any(transform.continuous for transform in transforms)
        dims = [transform.context_dim for transform in transforms]
        self.context_dim = None if None in dims else max((dim for dim in dims if dim), default=0)
        self.domain = transforms[0].domain if transforms else constraints.real
        self.codomain = transforms[-1].codomain if transforms else constraints.real

    @property
    def _members(self) -> list[Transform]:
        return cast("list[Transform]", list(self.transforms))

    def data_shape(self, base_shape: torch.Size) -> torch.Size:
        for transform in reversed(self._members):
            base_shape = transform.data_shape(base_shape)
        return base_shape

    def base_shape(self, data_shape: torch.Size) -> torch.Size:
        for transform in self._members:
            data_shape = transform.base_shape(data_shape)
        return data_shape

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        mapped = Mapped(x, x.new_zeros(x.shape[0]))
        for transform in self._members:
            mapped = _then(mapped, transform.encode(mapped.value, context_for(transform, context)))
        return mapped

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        mapped = Mapped(z, z.new_zeros(z.shape[0]))
        for transform in reversed(self._members):
            mapped = _then(mapped, transform.decode(mapped.value, context_for(transform, context)))
        return mapped

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for transform in reversed(self._members):
            z = transform.push(z, context_for(transform, context))
        return z

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Initialize the members one after another, each on the output of those before it."""
        waiting = sum(transform.data_dependent for transform in self._members)
        for transform in self._members:
            transform.initialize(x, context_for(transform, context))
            waiting -= transform.data_dependent
            if not waiting or time_is_up():
                return
            x = transform.encode(x, context_for(transform, context)).value

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        places = [place for place, transform in enumerate(self._members) if transform.continuous]
        if len(places) > 1:
            raise ValueError(
                f"this flow has {len(places)} CNFs in a row: flow matching trains one field: build it with one CNF"
            )
        if not places:
            return super().continuous_part(z, x, context)
        before, inner, after = self._members[: places[0]], self._members[places[0]], self._members[places[0] + 1 :]
        for transform in before:
            x = transform.encode(x, context_for(transform, context)).value
        for transform in reversed(after):
            z = transform.push(z, context_for(transform, context))
        return inner.continuous_part(z, x, context_for(inner, context))

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        """The path of the continuous members, each of which takes an equal share of [0, 1].

        The discrete members act on every state, so that all states are in the units of the data.
        """
        shares = sum(transform.continuous for transform in self._members)
        if not shares:
            return super().path(z, times, context)
        states, passed = z.expand(len(times), *z.shape), 0
        for transform in reversed(self._members):
            if transform.continuous:
                local, read = (times * shares - passed).clamp(0, 1), context_for(transform, context)
                moved = transform.path(states[times.argmax()], local, read)
                waiting = [transform.path(state, local[:1] * 0, read)[0] for state in states[local == 0]]
                states, passed = torch.cat([torch.stack(waiting), moved[local > 0]]) if waiting else moved, passed + 1
            else:
                states = torch.stack([transform.push(state, context_for(transform, context)) for state in states])
        return states


def _then(first: Mapped, second: Mapped) -> Mapped:
    costs = dict(first.costs)
    for name, cost in second.costs.items():
        costs[name] = costs[name] + cost if name in costs else cost
    return Mapped(second.value, first.log_det + second.log_det, costs)
