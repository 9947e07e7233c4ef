"""Coupling and autoregressive flows as published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cnf.arguments import Ambient, Positive, Size, SizeOrZero, Sizes, Widths, checked
from cnf.discrete import (
    ActNorm,
    AffineMap,
    Autoregressive,
    Conditional,
    CouplingLayer,
    ElementwiseMap,
    LULinear,
    Permutation,
    RationalQuadratic,
    Regression,
    Shift,
    alternating,
)
from cnf.flows import Flow
from cnf.models.assembly import Preprocess, assemble, size
from cnf.models.fields import Hidden
from cnf.networks import MADE, Conditioner, ConditionerActivation, ResidualMLP
from cnf.transforms import Inverse, Transform


@checked
def nice(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 4,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    preprocess: Preprocess | None = None,
) -> Flow:
    """NICE: additive couplings, which keep volumes, and one diagonal scaling at the end.

    As published: 4 couplings of alternating halves with plain ReLU networks (theirs have 5 layers of 1000 for images),
    a scaling `exp(s)` after the last. Deviations: the scaling has a shift beside it; a standard normal base instead of
    a logistic one. Events are flattened vectors.

    Args:
        layers: Number of couplings.
        hidden: Widths of the hidden layers of the conditioners, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.

    References:
        Dinh et al. 2014, arXiv 1410.8516.
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    members = [*(net.coupling(Shift(), dim, flip=i % 2 == 1) for i in range(layers)), ActNorm(dim)]
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def realnvp(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """RealNVP on vectors: affine couplings of alternating halves.

    As published: log-scales through a tanh; 5 couplings, as in the tables of the MAF paper (which have 10 as well).
    Deviations: no batch norm, which would make rows depend on each other; the scale of the tanh is fixed; one network
    gives shift and scale. Events are flattened vectors.

    Args:
        layers: Number of couplings.
        hidden: Widths of the hidden layers of the conditioners, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bound: Bound of the log-scale of a layer.

    References:
        Dinh et al. 2017, arXiv 1605.08803.
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    members = [net.coupling(AffineMap(bound=bound), dim, flip=i % 2 == 1) for i in range(layers)]
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def maf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """MAF: affine autoregressive layers, the order reversed from one to the next. Sampling takes D steps a layer.

    As published: 5 layers of a MADE with two hidden layers (1 or 2 of 100 to 1024 units there). Deviations: no batch
    norm between layers, which would make rows depend on each other; log-scales are `bound · tanh`; layers start at the
    identity. Events are flattened vectors.

    Args:
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bound: Bound of the log-scale of a layer.

    References:
        Papamakarios et al. 2017, arXiv 1705.07057.
    """
    members = _masked(size(event_shape), Net(context_dim, hidden, blocks, activation), layers, bound)
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def iaf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = (128, 128),
    blocks: SizeOrZero = 0,
    activation: ConditionerActivation = "relu",
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """IAF: the MAF with the two directions exchanged. Sampling is one pass a layer, densities take D steps.

    As published: affine layers with the order reversed from one to the next, near the identity at the start.
    Deviations: the scale is `exp(bound · tanh)` instead of a sigmoid gate. Events are flattened vectors.

    Args:
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bound: Bound of the log-scale of a layer.

    References:
        Kingma et al. 2016, arXiv 1606.04934.
    """
    members = _masked(size(event_shape), Net(context_dim, hidden, blocks, activation), layers, bound)
    return assemble(event_shape, context_dim, [Inverse(member) for member in members], preprocess, flat=True)


@checked
def nsf_coupling(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = 128,
    blocks: SizeOrZero = 2,
    activation: ConditionerActivation = "relu",
    bins: Ambient = 8,
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """NSF with couplings: rational-quadratic splines, a permutation and an LU linear layer before each.

    As published: 8 bins on [−3, 3], residual conditioners of 2 blocks, a random permutation and an LU layer before each
    coupling and after the last, alternating halves. Deviations: 5 couplings of width 128 (theirs 10 of 32 to 256, by
    data set); no dropout in the conditioners; a context shifts and scales
    the data first. Events are flattened vectors.

    Args:
        layers: Number of couplings.
        hidden: Widths of the hidden layers of the conditioners, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bins: Bins of a spline.
        bound: Where the splines end and the identity begins, in standardised units.

    References:
        Durkan et al. 2019, arXiv 1906.04032.
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    spline = RationalQuadratic(bins, bound)
    members = net.centred(dim) + _mixed([net.coupling(spline, dim, flip=i % 2 == 1) for i in range(layers)], dim)
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


@checked
def nsf_autoregressive(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    layers: Size = 5,
    hidden: Widths = 128,
    blocks: SizeOrZero = 2,
    activation: ConditionerActivation = "relu",
    bins: Ambient = 8,
    bound: Positive = 3.0,
    preprocess: Preprocess | None = None,
) -> Flow:
    """NSF with autoregressive layers, the strongest of these on tables. Sampling takes D steps a layer.

    As published: 8 bins on [−3, 3], residual MADEs of 2 blocks, a random permutation and an LU layer before each layer
    and after the last. Deviations: 5 layers of width 128 (theirs 10 of 64 to 512, by data set); no dropout; a
    context shifts and scales the data first. Events are flattened vectors.

    Args:
        layers: Number of layers.
        hidden: Widths of the hidden layers of the MADEs, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`.
        bins: Bins of a spline.
        bound: Where the splines end and the identity begins, in standardised units.

    References:
        Durkan et al. 2019, arXiv 1906.04032.
    """
    dim, net = size(event_shape), Net(context_dim, hidden, blocks, activation)
    spline = RationalQuadratic(bins, bound)
    members = net.centred(dim) + _mixed([net.autoregressive(spline, dim, reverse=False) for _ in range(layers)], dim)
    return assemble(event_shape, context_dim, members, preprocess, flat=True)


class Net(NamedTuple):
    """The settings of the conditioners of a flow."""

    context_dim: int
    hidden: Hidden
    blocks: int
    activation: str
    angles: bool = False

    def coupling(self, elementwise: ElementwiseMap, dim: int, *, flip: bool) -> Transform:
        """A coupling of alternating halves; in one dimension there is only the context to see."""
        if dim == 1:
            return self.autoregressive(elementwise, dim, reverse=flip)

        def net(inputs: int, outputs: int) -> Conditioner:
            return ResidualMLP(inputs, outputs, **self._asdict())

        return CouplingLayer.sized(elementwise, net, alternating(dim, flip=flip))

    def centred(self, dim: int) -> list[Transform]:
        """With a context, a layer that shifts and scales by it: splines end at a bound, and what a condition moves
        beyond it would be left where it is."""
        if not self.context_dim:
            return []
        options = {name: value for name, value in self._asdict().items() if name != "context_dim"}
        elementwise = AffineMap()
        net = ResidualMLP(self.context_dim, dim * elementwise.size, **options)
        return [Regression(dim, self.context_dim), Conditional(elementwise, net, self.context_dim)]

    def autoregressive(self, elementwise: ElementwiseMap, dim: int, *, reverse: bool) -> Transform:
        """An autoregressive layer in the order of the dimensions, or against it."""
        order = range(dim)[::-1] if reverse else range(dim)
        return Autoregressive(elementwise, MADE(dim, elementwise.size, order=order, **self._asdict()))


def _masked(dim: int, net: Net, layers: int, bound: float) -> list[Transform]:
    """Affine autoregressive layers, the order reversed from one to the next."""
    return [net.autoregressive(AffineMap(bound=bound), dim, reverse=i % 2 == 1) for i in range(layers)]


def _mixed(members: Sequence[Transform], dim: int) -> list[Transform]:
    """A random permutation and an LU layer before each member and after the last."""
    mixed: list[Transform] = []
    for member in members:
        mixed += [Permutation.random(dim), LULinear(dim), member]
    return [*mixed, Permutation.random(dim), LULinear(dim)]
