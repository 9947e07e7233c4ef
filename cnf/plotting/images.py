"""What a flow of images makes: samples, the same at other temperatures, and images between images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from cnf.arguments import NonNegative, Size, checked
from cnf.flows import Flow
from cnf.plotting.mosaic import image_figure
from cnf.plotting.plane import evaluating

MOST_CLASSES = 10  # columns of a picture
TEMPERATURES = (0.5, 0.7, 0.85, 1.0)  # of the samples of a report


@checked
def samples_figure(
    flow: Flow,
    *,
    rows: Size = 10,
    columns: Size = 10,
    temperatures: Sequence[NonNegative] = (),
    context: Tensor | None = None,
    generator: Generator | None = None,
) -> Figure:
    """Draw samples of a flow of images in a grid; with temperatures, a row for each, from the same noise.

    At temperature T the noise is `T z` with z from the base. Below 1, samples come from the more usual part of the
    base, and are no samples of the model.

    Args:
        flow: A flow of images.
        rows: Rows of samples, without temperatures.
        columns: Samples in a row.
        temperatures: T of each row.
        context: Conditions `(K, C)`, one for each column; there are K columns then.
        generator: Source of the noise; the global one of torch by default.

    Raises:
        ValueError: The flow is none of images.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("realnvp", (1, 4, 4), levels=17)
        >>> figure = cnf.plotting.samples_figure(flow, columns=5, temperatures=(0.5, 1.0))
        >>> print(figure.get_figwidth(), "inches wide")
        3.0 inches wide
    """
    _check(flow)
    columns = columns if context is None else len(context)
    scales = [1.0] * rows if not temperatures else list(temperatures)
    with evaluating(flow):
        noise = flow.base.sample(columns * (1 if temperatures else rows), generator=generator)
        z = torch.cat([scale * noise for scale in scales]) if temperatures else noise
        conditions = None if context is None else context.repeat(len(scales), 1)
        return image_figure(shades(flow, flow.transform.push(z, conditions)), columns=columns)


@checked
def interpolation_figure(
    flow: Flow,
    first: Tensor,
    second: Tensor,
    *,
    steps: Size = 10,
    contexts: tuple[Tensor, Tensor] | None = None,
    generator: Generator | None = None,
) -> Figure:
    """Draw images between pairs of images, along great circles between their base points; a row for each pair.

    Args:
        flow: A flow of images.
        first: Images at the left, `(N, C, H, W)`, in the units of the data.
        second: Images at the right, as many.
        steps: Images in a row, those of the pair included.
        contexts: Conditions of the two, `(N, C)` each; between them they are mixed.
        generator: Source of the noise of dequantisation; the global one of torch by default.

    Raises:
        ValueError: The flow is none of images, or the two are not of one shape.

    References:
        Kingma and Dhariwal 2018, Glow, arXiv 1807.03039.

    Example:
        >>> import torch, cnf
        >>> flow, images = cnf.build("realnvp", (1, 4, 4), levels=17), torch.zeros(3, 1, 4, 4)
        >>> figure = cnf.plotting.interpolation_figure(flow, images, images + 16, steps=5)
        >>> print(figure.get_figwidth(), "inches wide")
        3.0 inches wide
    """
    _check(flow)
    if first.shape != second.shape:
        raise ValueError(f"expected as many images at both ends, got {tuple(first.shape)} and {tuple(second.shape)}")
    left, right = (None, None) if contexts is None else contexts
    shares = torch.linspace(0, 1, steps).tolist()
    with evaluating(flow), _seeded(generator):
        ends = flow(first, left).z, flow(second, right).z
        z = torch.stack([_on_great_circle(*ends, share) for share in shares], 1).flatten(0, 1)
        mixed = None
        if left is not None and right is not None:
            mixed = torch.stack([torch.lerp(left, right, share) for share in shares], 1).flatten(0, 1)
        return image_figure(shades(flow, flow.transform.push(z, mixed)), columns=steps)


def neighbours_figure(
    flow: Flow, images: Tensor, context: Tensor | None = None, *, generator: Generator | None = None
) -> Figure:
    """Draw images between the first and the second, the third and the fourth, and so on; see `interpolation_figure`.

    Args:
        flow: A flow of images.
        images: `(N, C, H, W)`, in the units of the data; of an odd number the last is left out.
        context: Their conditions `(N, C)`, or None.
        generator: As for `interpolation_figure`.

    Example:
        >>> import torch, cnf
        >>> flow, images = cnf.build("realnvp", (1, 4, 4), levels=17), torch.zeros(5, 1, 4, 4)
        >>> print(cnf.plotting.neighbours_figure(flow, images).get_figwidth(), "inches wide")
        6.0 inches wide
    """
    n = len(images) // 2 * 2
    contexts = None if context is None else (context[:n:2], context[1:n:2])
    return interpolation_figure(flow, images[:n:2], images[1:n:2], contexts=contexts, generator=generator)


def shades(flow: Flow, images: Tensor) -> Tensor:
    """Images in the units of the data as shades in [0, 1]; whole numbers are divided by the largest there can be."""
    brightest = float(getattr(flow.transform.domain, "upper_bound", 1))
    return (images / brightest).clamp(0, 1)


def classes_shown(classes: int) -> Tensor | None:
    """Conditions `(K, C)` of the first classes of labelled images, one-hot, at most ten; None without any.

    Args:
        classes: C, the number of classes; 0 for none.

    Example:
        >>> classes_shown(2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    return torch.eye(classes)[:MOST_CLASSES] if classes else None


def _on_great_circle(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The point at a share of the way from one vector to another, with lengths in between, `(N, *event)`."""
    first, second = a.flatten(1), b.flatten(1)
    angle = torch.cosine_similarity(first, second).clamp(-1 + 1e-6, 1 - 1e-6).arccos()[:, None]
    point = (((1 - share) * angle).sin() * first + (share * angle).sin() * second) / angle.sin()
    return point.reshape(a.shape)


def _check(flow: Flow) -> None:
    if len(flow.event_shape) != 3:
        raise ValueError(f"expected a flow of images (C, H, W), got one of events {tuple(flow.event_shape)}")


@contextmanager
def _seeded(generator: Generator | None) -> Iterator[None]:
    """Noise of a generator in the place of the global one's, which stays as it was."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng([]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
