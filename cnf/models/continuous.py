"""Continuous models: our default, and the published ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from cnf.arguments import Size, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import ConvField, MLPField, PlanarField, PotentialField, TimeName, VectorField
from cnf.continuous.regularizers import HamiltonJacobi, JacobianFrobenius, KineticEnergy, Regularizer
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.discrete import Augment
from cnf.flows import Flow
from cnf.models.assembly import Preprocess, assemble, is_image, size
from cnf.networks import ActivationName

START = 0.1  # size of a field that begins near zero: not at zero itself, where a quadratic form has no gradient


def _nearly_flat(field: PotentialField) -> PotentialField:
    """Begin near the identity: the published weights of the potential, 1 each, are a push of hundreds of nats."""
    with torch.no_grad():
        field.weight.mul_(START / len(field.weight))
        field.quadratic.mul_(START)
    return field


def _zero_last(field: MLPField | ConvField) -> MLPField | ConvField:
    """Begin at the identity: the last layer's weights, bias and, where it has one, shift at zero."""
    for module in (field.layers[-1], *field.shifts[-1:]):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    return field


@checked
def cnf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths | None = None,
    activation: ActivationName = "silu",
    time: TimeName = "concat",
    residual: bool = False,
    divergence: Divergence = Exact(),
    regularizers: Mapping[str, Regularizer] | None = None,
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: Preprocess | None = None,
) -> Flow:
    """Our recommended default: a smooth field whose exact trace is cheap, trained with it at a tolerance of 0.01.

    Up to three dimensions it has three hidden layers of 64, whose trace has a closed form as dear as a few tangents;
    beyond, two of 128, whose closed form costs one product, whatever the dimension, and columns are made normal one
    by one first (`MarginalGaussianization`), which leaves the field what they have to do with each other. The training
    tolerance is loose but kept for every sample: on a fixed grid the likelihood can be pushed above the truth by making
    the solver err. The matrices between hidden layers are trained by Muon.

    Images `(C, H, W)` with values in [0, 1] are flattened: a logit, then pixels made normal one by one, two layers of
    256, and a small weight on the kinetic energy. Pixels are mostly near 0 or 1, so their logits are far from the base;
    a field that had to carry them there left most of the base empty, and samples drawn there have no path to the data.

    Options are those of `MLPField` and `CNF`; `regularizers` is the kinetic energy for images, and none otherwise.
    """
    dim, image = size(event_shape), is_image(event_shape)
    hidden = hidden or ((64, 64, 64) if dim <= 3 else (256, 256) if image else (128, 128))
    if regularizers is None:
        regularizers = {"kinetic": KineticEnergy()} if image else {}
    field = MLPField(dim, hidden=hidden, context_dim=context_dim, activation=activation, time=time, residual=residual)
    transform = CNF(_zero_last(field), divergence, regularizers, solver)
    preprocess = preprocess or ("logit_gaussianize" if image else "standardize" if dim <= 3 else "gaussianize")
    return assemble(event_shape, context_dim, [transform], preprocess, flat=True)


@checked
def ffjord(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths = (64, 64, 64),
    activation: ActivationName | None = None,
    time: TimeName = "concatsquash",
    blocks: Size = 1,
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: Preprocess | None = None,
) -> Flow:
    """FFJORD: a free-form field of ConcatSquash layers; convolutional, after a logit, for images `(C, H, W)`.

    As published: three hidden layers of 64, tanh (softplus for images), dopri5 at 1e-5; trained with the exact trace
    in two dimensions and one Gaussian Hutchinson probe in more, evaluated with the exact trace. Deviations: the
    end time is 1 and not learned (the field's scale stands for it); data are standardised; gradients go through the
    solver's steps, not the adjoint (`solver=Torchdiffeq()` has it); every sample meets the tolerance, not the
    batch's mean.

    Args:
        blocks: CNFs in a row (tables: 1 to 10, as published).

    References:
        Grathwohl et al. 2019, arXiv 1810.01367.
    """
    image = is_image(event_shape)

    def field() -> VectorField:
        if image:
            return ConvField(event_shape, hidden=hidden, context_dim=context_dim, activation=activation or "softplus")
        return MLPField(
            size(event_shape), hidden=hidden, context_dim=context_dim, activation=activation or "tanh", time=time
        )

    cnfs = [CNF(field(), divergence, {}, solver) for _ in range(blocks)]
    return assemble(event_shape, context_dim, cnfs, preprocess, flat=not image)


@checked
def rnode(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths = (64, 64, 64),
    activation: ActivationName | None = None,
    time: TimeName = "concat",
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: Preprocess | None = None,
) -> Flow:
    """RNODE: FFJORD with kinetic and Jacobian penalties, which allow a fixed grid in training.

    As published: trained by RK4 with step ¼, one Gaussian probe shared by trace and Frobenius norm, last layer started
    at zero, both λ = 0.01 (in the recipe, converted to nats); evaluated by dopri5 at 1e-5. Deviations: the network is
    FFJORD's for tables; data are standardised.

    References:
        Finlay et al. 2020, arXiv 2002.02798.
    """
    image = is_image(event_shape)
    field: VectorField
    if image:
        field = ConvField(event_shape, hidden=hidden, context_dim=context_dim, activation=activation or "softplus")
    else:
        field = MLPField(
            size(event_shape), hidden=hidden, context_dim=context_dim, activation=activation or "tanh", time=time
        )
    costs = {"kinetic": KineticEnergy(), "frobenius": JacobianFrobenius()}
    transform = CNF(_zero_last(field), divergence, costs, solver)
    return assemble(event_shape, context_dim, [transform], preprocess, flat=not image)


@checked
def ot_flow(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Size = 32,
    depth: Size = 1,
    rank: Size | None = None,
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: Preprocess | None = None,
) -> Flow:
    """OT-Flow: the gradient of a potential, its exact trace in closed form, transport and HJB penalties.

    As published for toys: width 32 and one residual layer (1,229 parameters in two dimensions), trained by RK4 with 8
    steps. Deviations: data are standardised; the potential starts nearly flat; evaluated by dopri5; the weights of
    the recipe are the paper's for POWER, α = (1, 500, 5), divided by that of the likelihood. The paper tunes them for
    each set: `MaximumLikelihood(weights=...)` takes others.

    References:
        Onken et al. 2021, arXiv 2006.00104.
    """
    field = _nearly_flat(
        PotentialField(size(event_shape), hidden=hidden, depth=depth, rank=rank, context_dim=context_dim)
    )
    costs = {"kinetic": KineticEnergy(), "hjb": HamiltonJacobi()}
    return assemble(event_shape, context_dim, [CNF(field, divergence, costs, solver)], preprocess, flat=True)


@checked
def planar_cnf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    units: Size = 64,
    divergence: Divergence = Exact(),
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: Preprocess | None = None,
) -> Flow:
    """The planar CNF of Chen et al.: gated planar units whose weights a hypernetwork of time gives.

    As published: 64 units, dopri5 at 1e-5. Deviations from the authors' code: end time 1 instead of 10 and a unit
    normal base instead of variance 0.1; data are standardised.

    References:
        Chen et al. 2018, arXiv 1806.07366.
    """
    field = PlanarField(size(event_shape), units=units, context_dim=context_dim)
    return assemble(event_shape, context_dim, [CNF(field, divergence, {}, solver)], preprocess, flat=True)


@checked
def augmented_cnf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    extra: Size = 1,
    hidden: Widths | None = None,
    activation: ActivationName = "silu",
    time: TimeName = "concat",
    residual: bool = False,
    divergence: Divergence = Exact(),
    regularizers: Mapping[str, Regularizer] = {},
    solver: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5),
    preprocess: Preprocess | None = None,
) -> Flow:
    """The field of our default with dimensions of noise beside the data, so that paths can go round each other.

    `log_prob` is one draw of a lower bound of the log-density, see `Augment`; `cnf.metrics.importance_log_prob` has
    bounds as tight as wanted. In the papers q(e | x) is trained and the flow discrete; here q is standard normal.

    Args:
        extra: Dimensions of noise. Other options are those of `cnf`.

    References:
        Huang et al. 2020, arXiv 2002.07101; Chen et al. 2020, VFlow, arXiv 2002.09741; in neural ODEs, with zeros:
        Dupont et al. 2019, arXiv 1904.01681.
    """
    dim = size(event_shape) + extra
    hidden = hidden or ((64, 64, 64) if dim <= 3 else (128, 128))
    field = MLPField(dim, hidden=hidden, context_dim=context_dim, activation=activation, time=time, residual=residual)
    members = [Augment(extra, event_shape), CNF(_zero_last(field), divergence, regularizers, solver)]
    return assemble(event_shape, context_dim, members, preprocess, flat=False, extra=extra)
