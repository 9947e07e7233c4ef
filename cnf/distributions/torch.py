"""Distributions of torch as base densities."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.transforms import Transform as TorchTransform

from cnf.arguments import checked
from cnf.distributions.interface import BaseDensity


@checked
class TorchBase(BaseDensity):
    """A distribution of torch as a base density, with `log p = −∞` outside its support.

    Its parameters become buffers: `.to()` and `state_dict` include them, but they are not trained. For trainable
    parameters use `DiagonalNormal` or `GaussianMixture`.

    Args:
        distribution: A continuous distribution with an empty batch shape and an event shape that is not empty.

    Raises:
        ValueError: `distribution` is a batch, is discrete, has scalar events or contains no tensors.

    Example:
        >>> import torch, cnf
        >>> from torch.distributions import MultivariateNormal
        >>> base = cnf.distributions.TorchBase(MultivariateNormal(torch.zeros(2), torch.eye(2)))
        >>> base.double().sample(3).dtype
        torch.float64
    """

    def __init__(self, distribution: Distribution) -> None:
        _require_one_density(distribution)
        super().__init__(distribution.event_shape)
        self.distribution = _replaced(distribution, torch.clone)
        numbers = [(name, number) for name, number in _numbers(self.distribution) if number.is_floating_point()]
        if not numbers:
            raise ValueError(f"{type(distribution).__name__} holds no tensors that tell its dtype: take a base of cnf")
        for place, (name, number) in enumerate(numbers):
            self.register_buffer(f"{name}_{place}", number)
        self._names = [f"{name}_{place}" for place, (name, _) in enumerate(numbers)]
        self._like = numbers[0][1].new_zeros(())

    @property
    def support(self) -> constraints.Constraint:
        return _support(self._current())

    def log_prob(self, z: Tensor) -> Tensor:
        if not len(z):  # torch's Independent cannot sum the events of none
            return z.flatten(1).sum(1)
        distribution = self._current()
        log_prob: Tensor = distribution.log_prob(z)
        inside = _support(distribution).check(z)
        return log_prob.masked_fill(~inside, -math.inf)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        distribution = self._current()
        draw = distribution.rsample if distribution.has_rsample else distribution.sample
        if generator is None:
            return draw((n,))
        seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # distributions of torch take no generator
            torch.manual_seed(seed)
            return draw((n,))

    def _current(self) -> Distribution:
        """The distribution with the buffers as they are now."""
        numbers = iter([getattr(self, name) for name in self._names])

        def current(old: Tensor) -> Tensor:
            return next(numbers) if old.is_floating_point() else old.to(self.device)

        current_one: Distribution = _replaced(self.distribution, current)
        return current_one


@checked
def as_base(base: BaseDensity | Distribution) -> BaseDensity:
    """The base density for a distribution of torch; a `BaseDensity` is returned unchanged.

    Args:
        base: A `BaseDensity` or a distribution of torch.

    Raises:
        TypeError: `base` is neither of them.

    Example:
        >>> import torch
        >>> normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
        >>> type(as_base(normal)).__name__
        'TorchBase'
    """
    if isinstance(base, Distribution):
        return TorchBase(base)
    if not isinstance(base, BaseDensity):
        raise TypeError(f"a base must be a BaseDensity or a torch distribution, got {type(base).__name__}")
    return base


def _support(distribution: Distribution) -> constraints.Constraint:
    support: Any = distribution.support
    found: constraints.Constraint = support
    return found


def _require_one_density(distribution: Distribution) -> None:
    name, batch = type(distribution).__name__, tuple(distribution.batch_shape)
    if batch:
        raise ValueError(
            f"a base must be one density, but this {name} is a batch {batch} of them: make the batch an event with "
            f"torch.distributions.Independent(distribution, {len(batch)})"
        )
    if not distribution.event_shape:
        raise ValueError(
            f"a base must be a density of vectors, but this {name} is one of scalars: give its parameters the shape "
            "(1,), within torch.distributions.Independent(distribution, 1)"
        )
    if distribution.support is None or distribution.support.is_discrete:
        raise ValueError(f"a base must have a density, but the values of this {name} are discrete")


def _parts(owner: object) -> Iterator[tuple[str, Any]]:
    """What an object of torch.distributions holds, in a fixed order, without what leads back to it."""
    inverted = type(owner).__name__ == "_InverseTransform"  # its `_inv` is what it consists of, that of others a cache
    return ((name, value) for name, value in sorted(vars(owner).items()) if name != "_inv" or inverted)


def _numbers(owner: object) -> Iterator[tuple[str, Tensor]]:
    """All tensors in a distribution, in those it is made of, and in their transforms."""
    for name, value in _parts(owner):
        members = value if isinstance(value, (list, tuple)) else [value]
        for member in members:
            if isinstance(member, Tensor):
                yield name, member
            elif isinstance(member, (Distribution, TorchTransform)):
                yield from ((f"{name}_{inner}", number) for inner, number in _numbers(member))


def _replaced(owner: Any, make: Callable[[Tensor], Tensor]) -> Any:
    """A copy with other tensors, each made from the one that was there, in the order of `_numbers`; unchecked."""

    def replaced(value: Any) -> Any:
        if isinstance(value, Tensor):
            return make(value.detach())
        return _replaced(value, make) if isinstance(value, (Distribution, TorchTransform)) else value

    twin = copy.copy(owner)
    for name, value in _parts(owner):
        if isinstance(value, list):
            vars(twin)[name] = [replaced(member) for member in value]
        elif type(value) is tuple:
            vars(twin)[name] = tuple(replaced(member) for member in value)
        else:
            vars(twin)[name] = replaced(value)
    if isinstance(twin, Distribution):
        twin._validate_args = False  # values outside the support have a density of 0
    return twin
