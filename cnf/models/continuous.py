"""The default model, the same with dimensions of noise, and the model of flow matching."""

from __future__ import annotations

from collections.abc import Mapping

from cnf.arguments import Ambient, Size, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import TimeName, UNetField
from cnf.continuous.regularizers import KineticEnergy, Regularizer
from cnf.continuous.solvers import Solver
from cnf.discrete import Augment
from cnf.flows import Flow
from cnf.models.assembly import EVALUATION, SEVERAL, Preprocess, assemble, halvings, is_image, size
from cnf.models.fields import smooth_field
from cnf.networks import ActivationName
from cnf.networks.residual import as_widths

WHITENED = 4_096  # pixels at most that are made uncorrelated: a matrix of them takes 64 MiB, and a minute


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
    solver: Solver = EVALUATION,
    preprocess: Preprocess | None = None,
    levels: Ambient | None = None,
) -> Flow:
    """The default: a smooth field with an exact trace in closed form, trained at a loose tolerance.

    Up to three dimensions the field has three hidden layers of 64, whose trace costs about as much as a few tangents.
    Beyond, it has two of 128, whose trace costs one matrix product, whatever the dimension; there, columns are made
    normal one by one first (`MarginalGaussianization`) and uncorrelated next (`Whiten`), so that the field learns only
    how they depend on each other beyond that. A small weight on the kinetic energy keeps paths short.
    The tolerance of training is loose, but every sample keeps it: on a fixed grid, training can push the likelihood
    above the truth by making the solver err. Matrices between hidden layers are trained by Muon.

    Images `(C, H, W)` with values in [0, 1] are flattened: a logit, then pixels made normal one by one, and two
    layers of 256. Most pixels are near 0 or 1, where their logits are far from the base. A field that had to carry
    them there would leave most of the base empty, and samples drawn there would have no path to the data. With
    `levels`, images are whole numbers: they are dequantised, made normal pixel by pixel (`LevelMarginals`, exactly)
    and uncorrelated (`Whiten`, up to 4,096 of them).

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        hidden: Widths of the hidden layers, as above by default.
        activation: Of the field; a smooth one.
        time: How time enters the field: "concat" or "concatsquash".
        residual: Whether hidden layers add to what they are given.
        divergence: How the trace is found in evaluation.
        regularizers: Path costs by name; by default the kinetic energy, as `kinetic`.
        solver: Solver of evaluation.
        preprocess: A key of `cnf.models.PREPROCESSING` or `cnf.models.OF_LEVELS`, as above by default.
        levels: L, for whole numbers in {0, …, L − 1}; None for continuous data.

    Example:
        >>> import torch
        >>> flow = cnf((2,), hidden=(8, 8))
        >>> flow.log_prob(torch.zeros(1, 2)).detach()  # at the start it is its base
        tensor([-1.8379])
    """
    dim, image = size(event_shape), is_image(event_shape)
    hidden = hidden or ((256, 256) if image else None)
    regularizers = {"kinetic": KineticEnergy()} if regularizers is None else regularizers
    field = smooth_field(dim, hidden, context_dim=context_dim, activation=activation, time=time, residual=residual)
    preprocess = preprocess or (_of_images(dim, levels) if image else "standardize" if dim <= 3 else "whiten")
    transform = CNF(field, divergence, regularizers, solver)
    return assemble(event_shape, context_dim, [transform], preprocess, flat=True, levels=levels)


@checked
def flow_matching(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths | None = None,
    blocks: Size = 1,
    divergence: Divergence | None = None,
    solver: Solver = EVALUATION,
    preprocess: Preprocess | None = None,
    levels: Ambient | None = None,
) -> Flow:
    """A CNF for flow matching: the field of the default for vectors, a small U-Net for images.

    As published: a velocity network with straight paths between noise and data; trained without solving its equation,
    and evaluated by the likelihood of its ODE. Here the points of noise and data are paired by optimal transport
    where there is no context; where there is one, it is left out in a tenth of the rows, so that samples can be guided
    (`cnf.guided`). Deviations for images: a U-Net of minutes; pixels are made normal one by one.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        hidden: Widths of the hidden layers; for images the channels, 32 by default.
        blocks: Residual blocks of the U-Net at each resolution.
        divergence: How the trace is found in evaluation: exact, or for images by 4 probes.
        solver: Solver of evaluation.
        preprocess: A key of `cnf.models.PREPROCESSING` or `cnf.models.OF_LEVELS`.
        levels: L, for whole numbers in {0, …, L − 1}; None for continuous data.

    References:
        Lipman et al. 2023, arXiv 2210.02747; Tong et al. 2024, arXiv 2302.00482; Ho and Salimans 2022,
        arXiv 2207.12598.

    Example:
        >>> flow = flow_matching((1, 4, 4), hidden=8, levels=17)
        >>> flow.sample(2).shape
        torch.Size([2, 1, 4, 4])
    """
    if not is_image(event_shape):
        return cnf(
            event_shape, context_dim, hidden=hidden, divergence=divergence or Exact(), regularizers={}, solver=solver,
            preprocess=preprocess, levels=levels,
        )  # fmt: skip
    channels, times = as_widths(hidden or 32)[-1], halvings(event_shape, 1)
    field = UNetField(event_shape, hidden=channels, halvings=times, blocks=blocks, context_dim=context_dim)
    body = CNF(field, divergence or SEVERAL, {}, solver)
    return assemble(event_shape, context_dim, [body], preprocess, flat=False, levels=levels)


def _of_images(dim: int, levels: int | None) -> str:
    """The preprocessing of images with so many pixels and levels."""
    if levels is None:
        return "logit_gaussianize"
    return "levels_whiten" if dim <= WHITENED else "levels"


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
    solver: Solver = EVALUATION,
    preprocess: Preprocess | None = None,
) -> Flow:
    """The field of the default with dimensions of noise beside the data, so that paths need not cross.

    `log_prob` is one draw of a lower bound of the log-density, see `Augment`; `cnf.metrics.importance_log_prob` gives
    tighter bounds. In the papers q(e | x) is trained and the flow discrete; here q is standard normal.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        extra: Dimensions of noise.
        hidden: As for `cnf`, in the dimension with noise; so are the other options.
        activation: Of the field.
        time: How time enters the field.
        residual: Whether hidden layers add to what they are given.
        divergence: How the trace is found in evaluation.
        regularizers: Path costs by name.
        solver: Solver of evaluation.
        preprocess: A key of `cnf.models.PREPROCESSING`.

    References:
        Huang et al. 2020, arXiv 2002.07101; Chen et al. 2020, VFlow, arXiv 2002.09741; in neural ODEs, with zeros:
        Dupont et al. 2019, arXiv 1904.01681.

    Example:
        >>> flow = augmented_cnf((2,), extra=3, hidden=(8, 8))
        >>> flow.event_shape, flow.base.event_shape
        (torch.Size([2]), torch.Size([5]))
    """
    field = smooth_field(
        size(event_shape) + extra, hidden, context_dim=context_dim, activation=activation, time=time, residual=residual
    )
    members = [Augment(extra, event_shape), CNF(field, divergence, regularizers, solver)]
    return assemble(event_shape, context_dim, members, preprocess, flat=False, extra=extra)
