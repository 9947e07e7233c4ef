"""What all models are put together from: preprocessing, a body, a standard normal base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from cnf.arguments import Ambient, SizeOrZero, Sizes, checked, one_of
from cnf.continuous.divergences import Hutchinson
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.discrete import (
    Dequantize,
    LevelMarginals,
    Logit,
    MarginalGaussianization,
    Standardize,
    StandardizeContext,
    Whiten,
)
from cnf.distributions import BaseDensity, StandardNormal, as_event_shape
from cnf.flows import Flow
from cnf.manifolds.geometry import Sphere
from cnf.transforms import Compose, Flatten, Transform

EVALUATION: Solver = RungeKutta("dopri5", rtol=1e-5, atol=1e-5)
"""The solver that continuous models are evaluated with."""

SEVERAL = Hutchinson(probes=4)
"""Probes that fields of images are evaluated with: a tangent for each pixel would take longer than the training."""

PREPROCESSING: dict[str, Callable[[Sequence[int]], list[Transform]]] = {
    "standardize": lambda shape: [Standardize(shape), *_taming(shape)],
    "gaussianize": lambda shape: [Standardize(shape), _flattened(_marginals(size(shape)), shape)],
    "whiten": lambda shape: [*PREPROCESSING["gaussianize"](shape), _flattened(Whiten(size(shape)), shape)],
    "logit": lambda shape: [Logit(1e-6), Standardize(shape)],
    "logit_gaussianize": lambda shape: [Logit(1e-6), *PREPROCESSING["gaussianize"](shape)],
    "none": lambda shape: [],
}
OF_LEVELS: dict[str, Callable[[Sequence[int], int], list[Transform]]] = {
    "levels": lambda shape, levels: [_flattened(LevelMarginals(size(shape), levels), shape)],
    "levels_whiten": lambda shape, levels: [
        *OF_LEVELS["levels"](shape, levels), _flattened(Whiten(size(shape)), shape)
    ],
}  # fmt: skip
Preprocess = Annotated[str, one_of((*PREPROCESSING, *OF_LEVELS))]


@checked
def assemble(
    event_shape: Sizes,
    context_dim: SizeOrZero,
    members: Sequence[Transform],
    preprocess: Preprocess | None,
    *,
    flat: bool,
    extra: SizeOrZero = 0,
    base: BaseDensity | None = None,
    levels: Ambient | None = None,
) -> Flow:
    """Preprocessing, then the members in the order of `encode`, on a standard normal base; `flat` ones get vectors.

    Unless told otherwise, images `(C, H, W)`, whose values are in [0, 1], pass a logit, so that samples are in [0, 1]
    too, and all else is standardised. With `levels`, images are whole numbers, which are dequantised and then made
    normal pixel by pixel.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context, which is standardised; 0 for none.
        members: Transforms of the body.
        preprocess: A key of `PREPROCESSING` or, for data with levels, of `OF_LEVELS`; None for the default.
        flat: Whether the members take vectors, so that other events are flattened for them.
        extra: Dimensions that the members append; the base is then one of vectors.
        base: Another base.
        levels: L, for whole numbers in {0, …, L − 1}; None for data that are continuous.

    Raises:
        ValueError: `preprocess` is for data with levels, and there are none.

    Example:
        >>> import cnf
        >>> flow = assemble((2, 3), 0, [cnf.CNF(cnf.MLPField(6))], "none", flat=True)
        >>> flow.sample(5).shape
        torch.Size([5, 2, 3])
    """
    image = "logit" if levels is None else "levels"
    front = _front(preprocess or (image if is_image(event_shape) else "standardize"), event_shape, levels)
    body: Transform = members[0] if len(members) == 1 else Compose(members)
    if flat:
        body = _flattened(body, event_shape)
    if context_dim:
        body = StandardizeContext(body, context_dim)
    normal = StandardNormal(size(event_shape) + extra if extra else event_shape)
    return Flow(Compose([*front, body]), normal if base is None else base)


def _front(preprocess: str, shape: Sequence[int], levels: int | None) -> list[Transform]:
    """Preprocessing, with dequantisation before it where there are levels."""
    if levels is None:
        if preprocess in OF_LEVELS:
            raise ValueError(f"preprocess={preprocess!r} is for whole numbers: give their number of levels=...")
        return PREPROCESSING[preprocess](shape)
    made = OF_LEVELS[preprocess](shape, levels) if preprocess in OF_LEVELS else PREPROCESSING[preprocess](shape)
    return [Dequantize(levels), *made]


def _marginals(dim: int, *, wild_only: bool = False) -> Transform:
    """Fine enough for the clusters of columns that repeat their values; cross-validation decides whether to."""
    return MarginalGaussianization(dim, knots=256, narrowest=1 / 64, wild_only=wild_only)


def _taming(shape: Sequence[int]) -> list[Transform]:
    """Columns of a table with a few wild rows are made normal, so that those do not blind the model to the others."""
    return [_marginals(size(shape), wild_only=True)] if len(shape) == 1 else []


def _flattened(transform: Transform, event_shape: Sequence[int]) -> Transform:
    """A transform of vectors as one of events."""
    return Flatten(transform, event_shape) if len(event_shape) > 1 else transform


def is_image(event_shape: Sequence[int]) -> bool:
    """Whether events are `(C, H, W)`.

    Example:
        >>> is_image((3, 8, 8)), is_image((192,))
        (True, False)
    """
    return len(event_shape) == 3


def halvings(event_shape: Sequence[int], most: int) -> int:
    """How often height and width of an image can be halved, at most `most` times.

    Example:
        >>> halvings((1, 28, 28), 3)
        2
    """
    return max(n for n in range(most + 1) if all(size % 2**n == 0 for size in event_shape[1:]))


def size(event_shape: Sequence[int]) -> int:
    """Number of elements of an event.

    Example:
        >>> size((3, 8, 8))
        192
    """
    return as_event_shape(event_shape).numel()


def sphere_of(event_shape: Sequence[int]) -> Sphere:
    """The sphere that events are points of.

    Raises:
        ValueError: Events that are no vectors.

    Example:
        >>> sphere_of((3,))
        Sphere(n=3)
    """
    if len(event_shape) != 1:
        raise ValueError(f"points on a sphere are vectors (n,), got event_shape {tuple(event_shape)}")
    return Sphere(event_shape[0])
