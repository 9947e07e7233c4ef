"""Continuous models as published: FFJORD, RNODE, OT-Flow, and the planar CNF of the first paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from cnf.arguments import Ambient, Size, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import ConvField, PlanarField, PotentialField, TimeName
from cnf.continuous.regularizers import HamiltonJacobi, JacobianFrobenius, KineticEnergy, Regularizer
from cnf.continuous.solvers import Solver
from cnf.discrete import multiscale_halves
from cnf.flows import Flow
from cnf.models.assembly import EVALUATION, SEVERAL, Preprocess, assemble, halvings, is_image, size
from cnf.models.fields import at_rest, field_of_events, nearly_flat
from cnf.networks import ActivationName
from cnf.transforms import Transform

AS_PUBLISHED = (64, 64, 64)
FEW = (32, 32)  # channels of images, for minutes of a processor


@checked
def ffjord(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths | None = None,
    activation: ActivationName | None = None,
    time: TimeName = "concatsquash",
    blocks: Size = 1,
    scales: Size | None = None,
    divergence: Divergence | None = None,
    solver: Solver = EVALUATION,
    preprocess: Preprocess | None = None,
    levels: Ambient | None = None,
) -> Flow:
    """FFJORD: a free-form field of ConcatSquash layers; convolutional, in scales, for images of whole numbers.

    As published: three hidden layers of 64, tanh (softplus for images), dopri5 at 1e-5; trained with the exact trace
    in two dimensions and one Gaussian Hutchinson probe in more, evaluated with the exact trace. Deviations: the
    end time is 1 and not learned (the size of the field has the same effect); data are standardised; gradients go
    through the solver's steps, not the adjoint (`solver=Torchdiffeq()` has it); every sample meets the tolerance, not
    the mean of the batch.

    With `levels`, images have scales as published: CNFs, a squeeze, CNFs, and half of the channels set aside; at the
    last one CNFs alone. Deviations there: two hidden layers of 32 and one CNF before and after each squeeze, for two
    minutes of one core (theirs: `hidden=(64, 64, 64)`, `blocks=2`, five days of six GPUs); pixels are made normal one
    by one (theirs: a logit); fields start at zero; log-determinants are estimated by 4 probes in evaluation
    (`divergence=Exact()` takes a tangent for each pixel).

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        hidden: Widths of the hidden layers; channels for images.
        activation: Of the field; tanh, or softplus for images, by default.
        time: How time enters the field of vectors.
        blocks: CNFs in a row (tables: 1 to 10, as published); before and after each squeeze of images.
        scales: Scales of images with `levels`; by default up to 3, with height and width halved between them.
        divergence: How the trace is found in evaluation, as above by default.
        solver: Solver of evaluation.
        preprocess: A key of `cnf.models.PREPROCESSING` or `cnf.models.OF_LEVELS`.
        levels: L, for whole numbers in {0, …, L − 1}; None for continuous data.

    References:
        Grathwohl et al. 2019, arXiv 1810.01367.

    Example:
        >>> flow = ffjord((1, 4, 4), hidden=(8,), levels=17)
        >>> flow.sample(2).shape
        torch.Size([2, 1, 4, 4])
    """
    if is_image(event_shape) and levels is not None:
        conv = partial(_image_field, hidden or FEW, context_dim, activation or "softplus")
        make = lambda shape: CNF(conv(shape), divergence or SEVERAL, {}, solver)  # noqa: E731
        body = _in_scales(event_shape, make, blocks, scales)
        return assemble(event_shape, context_dim, [body], preprocess, flat=False, levels=levels)
    fields = [
        field_of_events(event_shape, hidden or AS_PUBLISHED, context_dim=context_dim, activation=activation, time=time)
        for _ in range(blocks)
    ]
    members = [CNF(field, divergence or Exact(), {}, solver) for field in fields]
    return assemble(event_shape, context_dim, members, preprocess, flat=not is_image(event_shape), levels=levels)


@checked
def rnode(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths | None = None,
    activation: ActivationName | None = None,
    time: TimeName = "concat",
    blocks: Size = 1,
    scales: Size | None = None,
    divergence: Divergence | None = None,
    solver: Solver = EVALUATION,
    preprocess: Preprocess | None = None,
    levels: Ambient | None = None,
) -> Flow:
    """RNODE: FFJORD with penalties on kinetic energy and Jacobian, which allow a fixed grid in training.

    As published: trained by RK4 with step ¼, one Gaussian probe shared by trace and Frobenius norm, last layer started
    at zero, both λ = 0.01 (in the recipe, converted to nats); evaluated by dopri5 at 1e-5. Deviations: the network is
    FFJORD's for tables; data are standardised. Images of whole numbers have the scales of `ffjord`, with its
    deviations.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        hidden: Widths of the hidden layers; channels for images.
        activation: Of the field; tanh, or softplus for images, by default.
        time: How time enters the field of vectors.
        blocks: CNFs before and after each squeeze of images with `levels`.
        scales: Scales of images with `levels`; as for `ffjord`.
        divergence: How the trace is found in evaluation; as for `ffjord`.
        solver: Solver of evaluation.
        preprocess: A key of `cnf.models.PREPROCESSING` or `cnf.models.OF_LEVELS`.
        levels: L, for whole numbers in {0, …, L − 1}; None for continuous data.

    References:
        Finlay et al. 2020, arXiv 2002.02798.

    Example:
        >>> import torch
        >>> flow = rnode((2,), hidden=(8, 8))
        >>> {name: cost.shape for name, cost in flow(torch.zeros(3, 2)).costs.items()}
        {'kinetic': torch.Size([3]), 'frobenius': torch.Size([3])}
    """
    costs: dict[str, Regularizer] = {"kinetic": KineticEnergy(), "frobenius": JacobianFrobenius()}
    if is_image(event_shape) and levels is not None:
        conv = partial(_image_field, hidden or FEW, context_dim, activation or "softplus")
        make = lambda shape: CNF(conv(shape), divergence or SEVERAL, costs, solver)  # noqa: E731
        body = _in_scales(event_shape, make, blocks, scales)
        return assemble(event_shape, context_dim, [body], preprocess, flat=False, levels=levels)
    widths = hidden or AS_PUBLISHED
    field = at_rest(field_of_events(event_shape, widths, context_dim=context_dim, activation=activation, time=time))
    transform = CNF(field, divergence or Exact(), costs, solver)
    return assemble(event_shape, context_dim, [transform], preprocess, flat=not is_image(event_shape), levels=levels)


def _image_field(hidden: Widths, context_dim: int, activation: str, shape: Sequence[int]) -> ConvField:
    """The field of images of a scale, at rest."""
    return at_rest(ConvField(shape, hidden=hidden, context_dim=context_dim, activation=activation))


def _in_scales(
    event_shape: Sequence[int], make: Callable[[Sequence[int]], Transform], blocks: int, scales: int | None
) -> Transform:
    """CNFs before and after each squeeze of an image."""
    count = halvings(event_shape, 2) + 1 if scales is None else scales

    def several(shape: Sequence[int]) -> list[Transform]:
        return [make(shape) for _ in range(blocks)]

    return multiscale_halves(event_shape, several, several, scales=count)


@checked
def ot_flow(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Size = 32,
    depth: Size = 1,
    rank: Size | None = None,
    divergence: Divergence = Exact(),
    solver: Solver = EVALUATION,
    preprocess: Preprocess | None = None,
) -> Flow:
    """OT-Flow: the gradient of a potential, its exact trace in closed form, penalties on transport and HJB equation.

    As published for toys: width 32 and one residual layer (1,229 parameters in two dimensions), trained by RK4 with 8
    steps. Deviations: data are standardised; the potential starts nearly flat; evaluated by dopri5. The weights of
    the recipe are the paper's for POWER, α = (1, 500, 5), divided by that of the likelihood. The paper tunes them for
    each set: `cnf.MaximumLikelihood({"kinetic": ..., "hjb": ...})` takes others.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        hidden: Width of the residual network of the potential.
        depth: Its residual layers.
        rank: Rank of the quadratic form; up to 10 by default.
        divergence: How the trace is found in evaluation.
        solver: Solver of evaluation.
        preprocess: A key of `cnf.models.PREPROCESSING`.

    References:
        Onken et al. 2021, arXiv 2006.00104.

    Example:
        >>> sum(parameter.numel() for parameter in ot_flow((2,)).parameters())
        1229
    """
    field = PotentialField(size(event_shape), hidden=hidden, depth=depth, rank=rank, context_dim=context_dim)
    costs = {"kinetic": KineticEnergy(), "hjb": HamiltonJacobi()}
    transform = CNF(nearly_flat(field), divergence, costs, solver)
    return assemble(event_shape, context_dim, [transform], preprocess, flat=True)


@checked
def planar_cnf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    units: Size = 64,
    divergence: Divergence = Exact(),
    solver: Solver = EVALUATION,
    preprocess: Preprocess | None = None,
) -> Flow:
    """The planar CNF: a sum of gated planar units whose weights a hypernetwork computes from time.

    As published: 64 units, dopri5 at 1e-5. Deviations from the authors' code: end time 1 instead of 10 and a unit
    normal base instead of variance 0.1; data are standardised.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        units: Planar units.
        divergence: How the trace is found in evaluation.
        solver: Solver of evaluation.
        preprocess: A key of `cnf.models.PREPROCESSING`.

    References:
        Chen et al. 2018, arXiv 1806.07366.

    Example:
        >>> planar_cnf((2,), units=8).sample(3).shape
        torch.Size([3, 2])
    """
    field = PlanarField(size(event_shape), units=units, context_dim=context_dim)
    return assemble(event_shape, context_dim, [CNF(field, divergence, {}, solver)], preprocess, flat=True)
