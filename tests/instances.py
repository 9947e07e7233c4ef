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
from torch.distributions import constraints

from cnf import (
    CNF,
    Compose,
    ConvField,
    Inverse,
    MLPField,
    PlanarField,
    PotentialField,
    RungeKutta,
    Solver,
    Transform,
    UNetField,
)
from cnf.continuous.fields import ModuleField
from cnf.discrete import (
    RBIG,
    ActNorm,
    Affine,
    AffineMap,
    Autoregressive,
    BatchNorm,
    CircularSpline,
    Conditional,
    CouplingLayer,
    DenseLinear,
    ElementwiseMap,
    EncoderDecoder,
    FactorOut,
    GaussianDestructor,
    GaussianizationLayer,
    Gaussianized,
    HistogramDestructor,
    Householder,
    LearnedInverse,
    LevelMarginals,
    LogisticMixture,
    Logit,
    LULinear,
    MarginalGaussianization,
    NormalCDF,
    Permutation,
    Planar,
    Radial,
    RationalQuadratic,
    Regression,
    Residual,
    Rotation,
    Shift,
    Softplus,
    Squeeze,
    Standardize,
    StandardizeContext,
    TreeDestructor,
    Whiten,
    alternating,
    chain,
    checkerboard,
    glow_step,
    half,
    multiscale,
    multiscale_glow,
)
from cnf.manifolds import FourierField, Manifold, ManifoldCNF, ManifoldEncoderDecoder, SphereField, Torus, TorusField
from cnf.networks import ACTIVATIONS, MADE, Conditioner, ConvResNet, ResidualMLP
from cnf.transforms import Embedded, Flatten

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
        lambda c: randomized(
            MLPField(3, hidden=(6,) * depth, context_dim=c, activation=activation, time=time, residual=residual), scale
        ),
        contexts=(0, CONTEXT),
    )


def potential(depth: int, hidden: int = 6) -> Instance:
    return Instance(
        lambda c: randomized(PotentialField(3, hidden=hidden, depth=depth, context_dim=c), 0.8),
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


def angle(noise: Tensor) -> Tensor:
    return 2 * torch.pi * noise.sigmoid()


def coupling(elementwise: ElementwiseMap, mask: Tensor, event_shape: tuple[int, ...], tolerance: float) -> Instance:
    seen = event_shape[0] if mask.dim() == 2 else int(mask.sum())
    moved = event_shape[0] if mask.dim() == 2 else int((~mask).sum())
    net = vector_net if len(event_shape) == 1 else image_net
    return Instance(
        lambda c: randomized(CouplingLayer(elementwise, net(c)(seen, moved * elementwise.size), mask)),
        event_shape,
        (0, CONTEXT),
        tolerance=tolerance,
    )


def autoregressive(elementwise: ElementwiseMap, tolerance: float = 1e-10, **options: Any) -> Instance:
    def make(context_dim: int) -> Autoregressive:
        net = MADE(3, elementwise.size, hidden=8, blocks=1, context_dim=context_dim, activation="silu", **options)
        return randomized(Autoregressive(elementwise, net))

    return Instance(make, contexts=(0, CONTEXT), tolerance=tolerance)


def vector_net(context_dim: int) -> Callable[[int, int], Conditioner]:
    return lambda i, o: ResidualMLP(i, o, hidden=6, blocks=1, context_dim=context_dim, activation="tanh")


def image_net(context_dim: int) -> Callable[[int, int], Conditioner]:
    return lambda i, o: ConvResNet(i, o, hidden=4, blocks=1, context_dim=context_dim, activation="tanh")


class Direction(Conditioner):
    """One direction of a transform as a network, so that encoder and decoder are inverse to each other."""

    def __init__(self, transform: Transform, method: str) -> None:
        super().__init__()
        self.transform, self.method, self.context_dim = transform, method, transform.context_dim

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return getattr(self.transform, self.method)(x, context).value


def inverse_pair(transform: Transform, manifold: Manifold | None = None) -> LearnedInverse:
    networks = Direction(transform, "encode"), Direction(transform, "decode")
    return EncoderDecoder(*networks) if manifold is None else ManifoldEncoderDecoder(*networks, manifold=manifold)


def fitted(transform: Transform) -> Transform:
    """Initialized by rows that are neither normal nor independent."""
    rows = torch.randn(400, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    rows = rows + rows.roll(1, 1).square()
    transform.double().initialize(unit(rows) if transform.domain is constraints.unit_interval else rows)
    return transform


def tree_destructors() -> Transform:
    turns = [
        layer for seed in range(2) for layer in (Rotation(3, kind="random", seed=seed), TreeDestructor(3, depth=4))
    ]
    return fitted(chain([GaussianDestructor(3), *turns]))


FIELDS: dict[str, Instance] = {
    **{
        f"mlp-{activation}-{time}-{'residual-' if residual else ''}{depth}": mlp(activation, time, residual, depth)
        for activation, time, residual, depth in itertools.product(
            ACTIVATIONS, ("concat", "concatsquash"), (False, True), (1, 2, 3)
        )
    },
    "mlp-bottleneck": Instance(
        lambda c: randomized(MLPField(3, hidden=(6, 2, 5), context_dim=c, time="concatsquash"), 1.6),
        contexts=(0, CONTEXT),
    ),
    **{f"potential-{depth}": potential(depth) for depth in (1, 2, 3)},
    "potential-narrow": potential(2, hidden=2),
    "planar": Instance(
        lambda c: randomized(PlanarField(3, units=5, hidden=8, context_dim=c), 2.0), contexts=(0, CONTEXT)
    ),
    "conv": Instance(
        lambda c: randomized(ConvField((2, 3, 2), hidden=(4,), context_dim=c), 1.3), (2, 3, 2), contexts=(0, CONTEXT)
    ),
    "unet": Instance(
        lambda c: randomized(UNetField((1, 4, 2), hidden=2, context_dim=c)), (1, 4, 2), contexts=(0, CONTEXT)
    ),
    "fourier": Instance(lambda c: randomized(FourierField(3, hidden=6, context_dim=c)), contexts=(0, CONTEXT)),
    "sphere": Instance(
        lambda c: SphereField(3, randomized(FourierField(3, hidden=6, context_dim=c))), contexts=(0, CONTEXT)
    ),
    "sphere-closed": Instance(lambda c: SphereField(5, randomized(MLPField(5, hidden=(6, 6)))), (5,)),
    "torus": Instance(
        lambda c: TorusField(3, randomized(FourierField(6, hidden=6, context_dim=c))), contexts=(0, CONTEXT)
    ),
    "module": Instance(lambda c: ModuleField(randomized(UserField(c))), contexts=(0, CONTEXT)),
}

# Fields that are solved: of the perceptrons, one for every two settings, and every time, residual and depth.
SOLVED = [
    *(
        f"mlp-{activation}-{('concat', 'concatsquash')[(place + depth) % 2]}-"
        f"{'residual-' if (place // 2 + depth) % 2 else ''}{depth}"
        for place, activation in enumerate(ACTIVATIONS)
        for depth in (1, 2, 3)
    ),
    *(name for name in FIELDS if name != "unet" and (not name.startswith("mlp-") or name == "mlp-bottleneck")),
]

TRANSFORMS: dict[str, Instance] = {
    "affine": Instance(lambda c: affine((3,))),
    "affine-image": Instance(lambda c: affine((2, 3)), (2, 3)),
    "standardize": Instance(lambda c: initialized(Standardize(3), (3,))),
    "level-marginals": Instance(lambda c: fitted(LevelMarginals(3, 5)), data=unit),
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
    "embedded": Instance(
        lambda c: Embedded(conditional(c), nn.Sequential(nn.Flatten(), nn.Linear(c, c)), (c, 1)),
        contexts=(CONTEXT,),
        tolerance=1e-6,
    ),
    "flatten": Instance(lambda c: Flatten(conditional(c), (1, 3)), (1, 3), (0, CONTEXT), tolerance=1e-6),
    "standardize-context": Instance(
        lambda c: initialized(StandardizeContext(conditional(c), c), (3,), c), contexts=(CONTEXT,), tolerance=1e-6
    ),
    **{
        f"cnf-{name}": continuous(
            replace(FIELDS[name], contexts=(FIELDS[name].contexts[place // 2 % len(FIELDS[name].contexts)],)),
            TIGHTER if "-elu-" in name else TIGHT,
        )
        for place, name in enumerate(SOLVED)
    },
    "coupling-shift": Instance(
        lambda c: Compose([affine((3,)), coupling(Shift(), alternating(3), (3,), 0).make(c)]), contexts=(0, CONTEXT)
    ),
    "regression": Instance(lambda c: randomized(Regression(3, c)), contexts=(CONTEXT,)),
    "conditional-spline": Instance(
        lambda c: randomized(Conditional(RationalQuadratic(4), ResidualMLP(c, 3 * 11, hidden=8, blocks=1), c)),
        contexts=(CONTEXT,),
    ),
    "coupling-affine": coupling(AffineMap(), alternating(3), (3,), 1e-10),
    "coupling-spline": coupling(RationalQuadratic(4), half(3), (3,), 1e-8),
    "coupling-mixture": coupling(LogisticMixture(2), alternating(3, flip=True), (3,), 1e-6),
    "coupling-channels": coupling(AffineMap(), half(3), (3, 2, 2), 1e-10),
    "coupling-circular": replace(coupling(CircularSpline(4), half(3), (3,), 1e-8), data=angle, base=angle),
    "coupling-checkerboard": coupling(RationalQuadratic(4), checkerboard(2, 3), (2, 2, 3), 1e-8),
    "autoregressive-affine": autoregressive(AffineMap()),
    "autoregressive-spline": autoregressive(RationalQuadratic(4), 1e-8, order=(2, 0, 1)),
    "autoregressive-circular": replace(autoregressive(CircularSpline(4), 1e-8, angles=True), data=angle, base=angle),
    "autoregressive-mixture": autoregressive(LogisticMixture(2), 1e-6),
    "inverse-autoregressive": Instance(lambda c: Inverse(autoregressive(AffineMap()).make(c)), contexts=(0, CONTEXT)),
    "encoder-decoder": Instance(
        lambda c: inverse_pair(coupling(AffineMap(), alternating(3), (3,), 0).make(c)), contexts=(0, CONTEXT)
    ),
    "torus-cnf": Instance(
        lambda c: ManifoldCNF(Torus(3), randomized(FourierField(6, hidden=6, context_dim=c)), solver=TIGHT),
        contexts=(0, CONTEXT),
        tolerance=1e-6,
        data=angle,
        base=angle,
    ),
    "permutation": Instance(lambda c: Compose([affine((3,)), Permutation.random(3), affine((3,))])),
    "lu": Instance(lambda c: randomized(LULinear(3))),
    "lu-image": Instance(lambda c: randomized(LULinear(3, rotation=True)), (3, 2, 2)),
    "dense-linear": Instance(lambda c: randomized(DenseLinear(3))),
    "householder": Instance(lambda c: Compose([Householder(3), affine((3,))])),
    "actnorm": Instance(lambda c: randomized(ActNorm(3))),
    "actnorm-image": Instance(lambda c: initialized(ActNorm(3), (3, 2, 2)), (3, 2, 2)),
    "batchnorm": Instance(lambda c: randomized(initialized(BatchNorm(3), (3,))).eval()),
    "planar": Instance(lambda c: randomized(Planar(3, context_dim=c), 2.0), contexts=(0, CONTEXT)),
    "planar-hyper": Instance(lambda c: randomized(Planar(3, context_dim=c, hidden=5), 2.0), contexts=(CONTEXT,)),
    "radial": Instance(lambda c: randomized(Radial(3, context_dim=c), 2.0), contexts=(0, CONTEXT)),
    "radial-hyper": Instance(lambda c: randomized(Radial(3, context_dim=c, hidden=5), 2.0), contexts=(CONTEXT,)),
    "residual": Instance(
        lambda c: randomized(Residual(3, hidden=(6, 5), context_dim=c), 2.0), contexts=(0, CONTEXT), tolerance=1e-8
    ),
    "squeeze": Instance(
        lambda c: Compose([affine((2, 2, 2)), Squeeze(), affine((8, 1, 1)), Inverse(Squeeze())]), (2, 2, 2)
    ),
    "split": Instance(
        lambda c: Compose([affine((3,)), FactorOut(randomized(Planar(2, context_dim=c), 2.0), kept=1)]),
        contexts=(0, CONTEXT),
    ),
    "multiscale": Instance(
        lambda c: multiscale(
            [
                Flatten(randomized(Planar(32, context_dim=c), 2.0), (8, 2, 2)),
                randomized(LULinear(16, rotation=True)),
            ],
            channels=2,
        ),
        (2, 4, 4),
        (0, CONTEXT),
    ),
    "glow-step": Instance(lambda c: randomized(glow_step(3, vector_net(c))), contexts=(0, CONTEXT)),
    "glow-step-image": Instance(lambda c: randomized(glow_step(3, image_net(c)), 0.7), (3, 2, 2), (0, CONTEXT)),
    "glow-multiscale": Instance(
        lambda c: randomized(multiscale_glow((1, 4, 4), image_net(c), scales=2, steps=1), 0.7),
        (1, 4, 4),
        (0, CONTEXT),
        tolerance=1e-9,
    ),
    "whiten": Instance(lambda c: fitted(Compose([Standardize(3), Whiten(3)]))),
    "marginals": Instance(lambda c: fitted(MarginalGaussianization(3))),
    "rotation": Instance(lambda c: fitted(Compose([MarginalGaussianization(3), Rotation(3, kind="ica")]))),
    "rbig": Instance(lambda c: fitted(RBIG(3, layers=6))),
    "gaussianization": Instance(
        lambda c: randomized(GaussianizationLayer(3, components=4, context_dim=c, hidden=6)),
        contexts=(0, CONTEXT),
        tolerance=1e-6,
    ),
    "gaussianization-fitted": Instance(
        lambda c: fitted(Compose([GaussianizationLayer(3, components=8) for _ in range(2)])), tolerance=1e-6
    ),
    "normal-cdf": Instance(lambda c: NormalCDF(), base=unit),
    "gaussian-destructor": Instance(lambda c: fitted(GaussianDestructor(3)), base=unit),
    "gaussianized": Instance(lambda c: fitted(Gaussianized(MarginalGaussianization(3))), base=unit),
    "histogram-destructor": Instance(lambda c: fitted(HistogramDestructor(3)), data=unit, base=unit),
    "tree-destructor": Instance(lambda c: fitted(TreeDestructor(3, depth=5)), data=unit, base=unit),
    "destructors": Instance(lambda c: tree_destructors(), tolerance=1e-8),
}


def cases(instances: dict[str, Instance], *, conditional: bool = False) -> list[Any]:
    """The `pytest.param`s `(instance, context_dim)`, each under its name; only those with a context if asked."""
    return [
        pytest.param(instance, context_dim, id=f"{name}{'|context' if context_dim else ''}")
        for name, instance in instances.items()
        for context_dim in instance.contexts
        if context_dim or not conditional
    ]
