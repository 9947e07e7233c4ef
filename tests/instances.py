"""What the contract tests run over. A new transform, field or model is one more line in the dict at the end.

All weights are random: builders that start at the identity would let a wrong log-determinant pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from cnf import CNF, Compose, ConvField, Inverse, MLPField, PlanarField, PotentialField, RungeKutta, Solver, Transform
from cnf.continuous.fields import ModuleField
from cnf.discrete.elementwise import Affine, Logit, Softplus, Standardize, StandardizeContext
from cnf.networks import ACTIVATIONS
from cnf.transforms import Flatten

Module = TypeVar("Module", bound=nn.Module)

TIGHT = RungeKutta("dopri5", rtol=1e-8, atol=1e-8)
TIGHTER = RungeKutta("dopri5", rtol=1e-9, atol=1e-9)  # for elu, whose slope has a kink that steps stumble over
CONTEXT = 2  # length of the context where there is one


@dataclass(frozen=True)
class Instance:
    """How to make a transform or a field, and what may be asked of it.

    Attributes:
        make: Context length to the module, with new random weights each time.
        event_shape: Shape of one sample.
        contexts: Context lengths to test it with; 0 is without.
        tolerance: Of round trips and log-determinants in float64.
        data: Standard normal noise to where `encode` takes it.
        base: Standard normal noise to where `decode` takes it.
        unreached: Parameters that have no influence on the map, by name.
    """

    make: Callable[[int], Any]
    event_shape: tuple[int, ...] = (3,)
    contexts: tuple[int, ...] = (0,)
    tolerance: float = 1e-10
    data: Callable[[Tensor], Tensor] = lambda noise: noise
    base: Callable[[Tensor], Tensor] = lambda noise: noise
    unreached: tuple[str, ...] = ()


def randomized(module: Module, scale: float = 1.0) -> Module:
    """Draw all weights so that every layer keeps the size of what comes in, times `scale`."""
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.normal_(std=scale / fan_in**0.5)
    return module


class UserField(nn.Module):
    """A field as a user writes it, without anything of this package."""

    def __init__(self, context_dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(4 + context_dim, 6)
        self.outer = nn.Linear(6, 3)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        parts = [x, t.reshape(-1, 1).expand(len(x), 1), *([] if context is None else [context])]
        return self.outer(torch.sin(self.inner(torch.cat(parts, 1))))


def mlp(activation: str, time: str, residual: bool, depth: int) -> Instance:
    scale = {"concat": 1.0, "concatsquash": 1.6}[time] * (0.5 if activation == "elu" else 1.0)
    return Instance(
        lambda c: randomized(MLPField(3, (6,) * depth, c, activation, time, residual=residual), scale),
        contexts=(0, CONTEXT),
    )


def potential(depth: int) -> Instance:
    return Instance(
        lambda c: randomized(PotentialField(3, 6, depth=depth, context_dim=c), 0.8),
        contexts=(0, CONTEXT),
        unreached=("linear.bias",),  # the constant of a potential
    )


def continuous(field: Instance, solver: Solver = TIGHT) -> Instance:
    return Instance(
        lambda c: CNF(field.make(c), solver=solver),
        field.event_shape,
        field.contexts,
        tolerance=1e-6,
        unreached=tuple(f"field.{name}" for name in field.unreached),
    )


def conditional(context_dim: int) -> CNF:
    return CNF(FIELDS["mlp-tanh-concat-2"].make(context_dim), solver=TIGHT)


def initialized(transform: Transform, event_shape: tuple[int, ...], context_dim: int = 0) -> Transform:
    scale, context = 0.5 + torch.rand(event_shape), torch.randn(50, context_dim) * 3 + 1
    transform.initialize(torch.randn(50, *event_shape) * scale + 0.3, context if context_dim else None)
    return transform


def affine(event_shape: tuple[int, ...]) -> Affine:
    sign = torch.rand(event_shape).sub(0.5).sign()
    return Affine(event_shape, shift=torch.randn(event_shape), scale=sign * (0.3 + torch.rand(event_shape)))


def unit(noise: Tensor) -> Tensor:
    return noise.sigmoid()


def positive(noise: Tensor) -> Tensor:
    return noise.exp()


FIELDS: dict[str, Instance] = {
    **{
        f"mlp-{activation}-{time}-{'residual-' if residual else ''}{depth}": mlp(activation, time, residual, depth)
        for activation, time, residual, depth in itertools.product(
            ACTIVATIONS, ("concat", "concatsquash"), (False, True), (1, 2, 3)
        )
    },
    **{f"potential-{depth}": potential(depth) for depth in (1, 2, 3)},
    "planar": Instance(lambda c: randomized(PlanarField(3, 5, hyper=8, context_dim=c), 2.0), contexts=(0, CONTEXT)),
    "conv": Instance(
        lambda c: randomized(ConvField((2, 3, 2), (4,), context_dim=c), 1.3), (2, 3, 2), contexts=(0, CONTEXT)
    ),
    "module": Instance(lambda c: ModuleField(randomized(UserField(c))), contexts=(0, CONTEXT)),
}

TRANSFORMS: dict[str, Instance] = {
    "affine": Instance(lambda c: affine((3,))),
    "affine-image": Instance(lambda c: affine((2, 3)), (2, 3)),
    "standardize": Instance(lambda c: initialized(Standardize(3), (3,))),
    "logit": Instance(lambda c: Logit(), data=unit),
    "logit-margin": Instance(lambda c: Logit(0.05), (2, 2), data=unit),
    "softplus": Instance(lambda c: Softplus(), data=positive),
    "inverse": Instance(lambda c: Inverse(affine((3,)))),
    "inverse-logit": Instance(lambda c: Inverse(Logit()), base=unit),
    "inverse-cnf": Instance(lambda c: Inverse(conditional(c)), contexts=(0, CONTEXT), tolerance=1e-6),
    "compose": Instance(lambda c: Compose([Softplus(), affine((3,))]), data=positive),
    "compose-cnf": Instance(
        lambda c: Compose([affine((3,)), conditional(c), Inverse(affine((3,))), conditional(0)]),
        contexts=(0, CONTEXT),
        tolerance=1e-6,
    ),
    "flatten": Instance(lambda c: Flatten(conditional(c), (1, 3)), (1, 3), (0, CONTEXT), tolerance=1e-6),
    "standardize-context": Instance(
        lambda c: initialized(StandardizeContext(conditional(c), c), (3,), c), contexts=(CONTEXT,), tolerance=1e-6
    ),
    **{f"cnf-{name}": continuous(field) for name, field in FIELDS.items() if "-elu-" not in name},
    **{
        f"cnf-{name}": continuous(replace(field, contexts=(CONTEXT,)), TIGHTER)
        for name, field in FIELDS.items()
        if "-elu-" in name
    },
}


def cases(instances: dict[str, Instance], *, conditional: bool = False) -> list[Any]:
    """The `pytest.param`s `(instance, context_dim)`, each under its name; only those with a context if asked."""
    return [
        pytest.param(instance, context_dim, id=f"{name}{'|context' if context_dim else ''}")
        for name, instance in instances.items()
        for context_dim in instance.contexts
        if context_dim or not conditional
    ]
