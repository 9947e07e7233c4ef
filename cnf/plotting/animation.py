"""The path from noise to data of a continuous flow, of points on the plane or of images, as a GIF."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import Generator, Tensor

from cnf.arguments import Ambient, Count, NonNegative, Positive, Size, checked
from cnf.files import write_bytes
from cnf.flows import Flow
from cnf.plotting.images import shades
from cnf.plotting.mosaic import mosaic
from cnf.plotting.plane import checked_condition, evaluating, panels_in_a_row, paths_of, scatter, shade
from cnf.plotting.style import DENSITY, as_numpy
from cnf.plotting.windows import levels, path_window, smoothed

ACROSS = 600  # pixels of a grid of images, at least about
KNOTS = 17  # times at which an animation asks for the path; between them it is straight to less than a pixel


@checked
def images_animation(
    flow: Flow,
    path: str | Path,
    *,
    rows: Size = 5,
    columns: Size = 10,
    frames: Size = 40,
    fps: Positive = 20,
    hold: NonNegative = 2.0,
    context: Tensor | None = None,
    generator: Generator | None = None,
) -> Path:
    """Write the way of images from noise to data as a GIF that plays in a loop; of continuous flows.

    Args:
        flow: A continuous flow of images.
        path: The file, ending in `.gif`; an error leaves no incomplete file.
        rows: Rows of images.
        columns: Images in a row.
        frames: Number of pictures, at equal distances in time from t = 0 to t = 1.
        fps: Pictures per second.
        hold: Seconds for which the last picture is shown.
        context: Conditions `(columns, C)`, one for each column.
        generator: Source of the noise; the global one of torch by default.

    Returns:
        The path.

    Raises:
        TypeError: The flow has no continuous transform.
        ValueError: The flow is none of images, another suffix, or fewer than two frames.

    Example:
        >>> import tempfile, cnf
        >>> flow = cnf.build("cnf", (1, 4, 4), levels=17, hidden=(8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(cnf.plotting.images_animation(flow, f"{folder}/path.gif", rows=1, columns=2, frames=2).name)
        path.gif
    """
    path = _as_gif(path)
    if len(flow.event_shape) != 3 or frames < 2:
        raise ValueError(f"expected a flow of images and frames >= 2, got {tuple(flow.event_shape)} and {frames}")
    with evaluating(flow):
        z = flow.base.sample(rows * columns, generator=generator)
        conditions = None if context is None else context.repeat(rows, 1)
        states = flow.trajectory(z, np.linspace(0, 1, frames).tolist(), conditions)
    mosaics = [mosaic(as_numpy(shades(flow, state)), columns) for state in states]
    scale = max(1, ACROSS // mosaics[0].shape[1])
    pictures = [Image.fromarray((255 * each.repeat(scale, 0).repeat(scale, 1)).astype(np.uint8)) for each in mosaics]
    write_bytes(path, _gif(pictures, _durations(frames, fps, hold)))
    return path


@checked
def path_animation(
    flow: Flow,
    path: str | Path,
    *,
    n: Count = 30_000,
    frames: Size = 50,
    fps: Positive = 20,
    hold: NonNegative = 2.0,
    density: bool = True,
    resolution: Ambient = 200,
    context: Tensor | None = None,
    generator: Generator | None = None,
) -> Path:
    """Write the path from noise to data of a continuous flow on the plane as a GIF that plays in a loop.

    Args:
        flow: A continuous flow of event shape `(2,)`.
        path: The file, ending in `.gif`; an error leaves no incomplete file.
        n: Number of samples that are followed.
        frames: Number of pictures, at equal distances in time from t = 0 to t = 1.
        fps: Pictures per second.
        hold: Seconds for which the last picture is shown.
        density: Whether to show the smoothed density of the samples; otherwise the samples themselves.
        resolution: Cells of the density along the longer side, 0.016 inches each. Above 30,000 samples, the smoothing
            becomes narrower with their number.
        context: The condition `(C,)` of a conditional flow, the same for all samples.
        generator: Source of the noise; the global one of torch by default.

    Returns:
        The path.

    Raises:
        TypeError: The flow has no continuous transform.
        ValueError: The flow is not two-dimensional, a context is missing, another suffix, or a number is too small.

    Example:
        >>> import tempfile, cnf
        >>> flow = cnf.build("cnf", 2, hidden=(8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(cnf.plotting.path_animation(flow, f"{folder}/path.gif", n=50, frames=2, resolution=20).name)
        path.gif
    """
    path = _as_gif(path)
    if frames < 2 or n < 1 or resolution < 1 or fps <= 0 or hold < 0:
        given = f"frames={frames}, n={n}, resolution={resolution}, fps={fps}, hold={hold}"
        raise ValueError(f"expected frames >= 2, n >= 1, resolution >= 1, fps > 0 and hold >= 0, got {given}")
    context = checked_condition("path_animation", flow, context)
    knots = np.linspace(0, 1, min(KNOTS, frames))
    states = paths_of(flow, knots.tolist(), n, context, generator)
    pictures = _pictures(states, np.linspace(0, 1, frames), density=density, bins=resolution)
    write_bytes(path, _gif(list(_indexed(pictures)), _durations(frames, fps, hold)))
    return path


def _as_gif(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"an animation is written as .gif, got {path.name!r}")
    return path


def _durations(frames: int, fps: float, hold: float) -> list[float]:
    """Milliseconds of each picture."""
    return [1000 / fps] * (frames - 1) + [1000 * hold or 1000 / fps]


def _pictures(states: np.ndarray, times: np.ndarray, *, density: bool, bins: int) -> list[Image.Image]:
    """A picture of the points at each time, from their states at equally spaced times."""
    window = path_window(states)
    blur = bins * min(1 / 200, math.sqrt(0.75 / states.shape[1]))  # in bins, finer for more than 30,000 points
    darkest = levels(smoothed(states[-1], window, bins, blur * _width(1)), [0.01])[0]
    figure, (axes,) = panels_in_a_row([""], window, size=0.016 * bins, ticks=0)
    canvas = FigureCanvasAgg(figure)
    pictures = []
    for time in times.tolist():
        for artist in (*axes.images, *axes.collections):
            artist.remove()
        axes.title.set_text(f"$t = {time:.2f}$")
        points = _between(states, time)
        if density:
            shade(axes, smoothed(points, window, bins, blur * _width(time)), window, darkest)
        else:
            scatter(axes, points)
        canvas.draw()
        figure.set_layout_engine("none")  # the layout of the first picture holds for all
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return pictures


def _width(time: float) -> float:
    """Width of the smoothing in bins: noise is smoother than most data."""
    return 5 - 3 * time


def _between(states: np.ndarray, time: float) -> np.ndarray:
    """The state at a time in [0, 1], linear between the states at equally spaced times."""
    place = time * (len(states) - 1)
    k = min(int(place), len(states) - 2)
    line: np.ndarray = states[k] + (place - k) * (states[k + 1] - states[k])
    return line


def _gif(pictures: Sequence[Image.Image], milliseconds: Sequence[float]) -> bytes:
    """The pictures as a GIF."""
    first, *rest = pictures
    file = io.BytesIO()
    duration = [round(each, -1) for each in milliseconds]  # the format counts in hundredths of a second
    first.save(file, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
    return file.getvalue()


def _indexed(pictures: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """The pictures with one palette for all, so that no colour flickers."""
    shades = np.concatenate([DENSITY(np.linspace(0, 1, 96))[:, :3], np.linspace(0, 0.9, 32)[:, None].repeat(3, 1)])
    palette = Image.new("P", (1, 1))
    palette.putpalette((255 * shades).round().astype(np.uint8).tobytes())
    return (_in_colours(picture, palette) for picture in pictures)


def _in_colours(picture: Image.Image, palette: Image.Image) -> Image.Image:
    """The picture in the nearest colours of a palette; white, its first one, exactly: pillow's search is coarse."""
    indices = np.array(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    indices[(np.asarray(picture) == 255).all(-1)] = 0
    indexed = Image.fromarray(indices)
    indexed.putpalette(palette.getpalette() or [])
    return indexed
