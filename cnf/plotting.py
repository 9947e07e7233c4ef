"""Pictures of flows and their data: the only file that imports matplotlib.

Every function returns a `matplotlib.figure.Figure` of its own, without pyplot and its global state, so that pictures
can be made anywhere, with or without a display. `save_figure` writes them, `path_animation` writes a GIF.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from PIL import Image
from torch import Generator, Tensor

from cnf.checkpoints import write_bytes
from cnf.flows import Flow

Values = Tensor | np.ndarray

FORMATS = ("png", "pdf", "svg", "jpg", "webp")
CHUNK = 1_024  # points that a flow sees at once: bounds the memory, and fits a cache
KNOTS = 17  # times at which an animation asks for the path; between them it is straight to less than a pixel
ENCLOSED = (0.9, 0.6, 0.3)  # parts of the rows that a corner plot's contours enclose

BLUE, VERMILION = "#0072b2", "#d55e00"  # from the palette of Okabe and Ito, told apart by all eyes
INK, GREY = "#1d3c80", "0.4"
TINTS = ("#d3e7f3", "#93c3df", "#5ba3cd")  # of BLUE, from the widest contour inwards
# From white through blue to night in equal steps along a curve in Oklab: uniform to the eye, lightness falls linearly.
NIGHT = (
    "#ffffff", "#cdedff", "#9fd8ff", "#76bffc", "#52a4ef", "#3889dc", "#286dc2", "#2153a3", INK, "#17285c", "#0f1738",
)  # fmt: skip
DENSITY = LinearSegmentedColormap.from_list("density", NIGHT)
CURVES = {"loss": BLUE, "validation_nll": VERMILION, "evaluations": GREY}  # of training


# Flows on the plane.


def fit_figure(
    flow: Flow,
    data: Values,
    *,
    context: Tensor | None = None,
    true_density: Callable[[Tensor], Tensor] | None = None,
    samples: int = 6_000,
    resolution: int = 200,
    columns: Sequence[str] = ("", ""),
    generator: Generator | None = None,
) -> Figure:
    """Data, density and samples of a flow on the plane, side by side.

    All panels have the same limits, set by the bulk of the data, and all densities the same colour scale.

    Args:
        flow: A flow of event shape `(2,)`.
        data: Points `(N, 2)`.
        context: The condition `(C,)` of a conditional flow, the same for all points.
        true_density: The exact log-density, `(N, 2)` to `(N,)`, for a panel of its own.
        samples: How many points to draw of the data and of the flow, at most as many as there are data.
        resolution: Points of the density's grid along the longer side, each in the middle of its cell.
        columns: Names of the two axes.
        generator: Source of the samples' noise; the global one by default.

    Raises:
        ValueError: Flow or data are not two-dimensional, the data are empty or not finite, a context is missing, or
            a density is NaN.
    """
    context = _condition("fit_figure", flow, context)
    points = _points(data)
    samples = min(samples, len(points))
    window = _window(np.array([_interval(points[:, 0]), _interval(points[:, 1])]))
    with _evaluating(flow):
        densities = {"learned density": _image(lambda x: _log_prob(flow, x, context), window, resolution, flow)}
        if true_density is not None:
            densities = {"exact density": _image(true_density, window, resolution, flow)} | densities
        drawn = _numpy(flow.sample(samples, context, generator=generator))
    darkest = _levels(next(iter(densities.values())), [0.01])[0]
    figure, panels = _row(["data", *densities, "samples"], window, names=columns)
    _scatter(panels[0], _thin(points, samples))
    for axes, image in zip(panels[1:-1], densities.values(), strict=True):
        _shade(axes, image, window, darkest)
    _scatter(panels[-1], drawn)
    return figure


def trajectory_figure(
    flow: Flow,
    *,
    times: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    n: int = 4_000,
    context: Tensor | None = None,
    generator: Generator | None = None,
) -> Figure:
    """Samples of a continuous flow on the plane on their way from noise to data, one panel for each time.

    Args:
        flow: A continuous flow of event shape `(2,)`.
        times: Increasing times in [0, 1].
        n: How many samples.
        context: The condition `(C,)` of a conditional flow, the same for all samples.
        generator: Source of the noise; the global one by default.

    Raises:
        TypeError: The flow has no continuous transform.
        ValueError: The flow is not two-dimensional, a context is missing, or times are not increasing in [0, 1].
    """
    context = _condition("trajectory_figure", flow, context)
    states = _paths(flow, times, n, context, generator)
    figure, panels = _row([f"$t = {time:.4g}$" for time in times], _path_window(states), size=1.5, ticks=0)
    for axes, points in zip(panels, states, strict=True):
        _scatter(axes, points)
    return figure


def path_animation(
    flow: Flow,
    path: str | Path,
    *,
    n: int = 30_000,
    frames: int = 50,
    fps: float = 20,
    hold: float = 2.0,
    density: bool = True,
    resolution: int = 200,
    context: Tensor | None = None,
    generator: Generator | None = None,
) -> Path:
    """Write the way from noise to data of a continuous flow on the plane as a GIF that plays in a loop.

    Args:
        flow: A continuous flow of event shape `(2,)`.
        path: Where to write, ending in `.gif`; the file appears whole or not at all.
        n: How many samples travel.
        frames: Pictures, at equal distances in time from t = 0 to t = 1.
        fps: Pictures a second.
        hold: Seconds to stay on the last picture.
        density: Whether to show the samples' smoothed density; otherwise the samples themselves.
        resolution: Cells of the density along the longer side, 0.016 inches each. Fine detail wants more samples too:
            of more than 30,000 the blur covers always as many.
        context: The condition `(C,)` of a conditional flow, the same for all samples.
        generator: Source of the noise; the global one by default.

    Returns:
        The path.

    Raises:
        TypeError: The flow has no continuous transform.
        ValueError: The flow is not two-dimensional, a context is missing, the path is no GIF, or a number is too small.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"an animation is written as .gif, got {path.name!r}")
    if frames < 2 or n < 1 or resolution < 1 or fps <= 0 or hold < 0:
        given = f"frames={frames}, n={n}, resolution={resolution}, fps={fps}, hold={hold}"
        raise ValueError(f"expected frames >= 2, n >= 1, resolution >= 1, fps > 0 and hold >= 0, got {given}")
    context = _condition("path_animation", flow, context)
    knots = np.linspace(0, 1, min(KNOTS, frames))
    states = _paths(flow, knots.tolist(), n, context, generator)
    pictures = _pictures(states, np.linspace(0, 1, frames), density=density, bins=resolution)
    write_bytes(path, _gif(pictures, [1000 / fps] * (frames - 1) + [1000 * hold or 1000 / fps]))
    return path


# Tables, images and training.


def corner_figure(
    data: Values,
    samples: Values,
    columns: Sequence[str],
    *,
    max_columns: int = 8,
    labels: tuple[str, str] = ("data", "samples"),
) -> Figure:
    """Compare a table with samples of it: a histogram of each column, contours of each pair of columns.

    The contours enclose 30, 60 and 90 per cent of the rows; dots are rows of the data. The bulk of the data sets the
    limits, and a power of ten that an axis is divided by stands in brackets after its name.

    Args:
        data: `(N, D)`, drawn filled.
        samples: `(M, D)`, drawn as lines.
        columns: Names of the `D` columns.
        max_columns: Of more columns than these the first ones are shown, and the legend's title says so.
        labels: What to call the two tables.

    Raises:
        ValueError: Tables of unequal width, another number of names, no rows, or values that are not finite.
    """
    tables = _tables(data, samples, columns, labels)
    shown = min(len(columns), max_columns)
    limits = [_interval(column) for column in tables[0].T[:shown]]
    figure, grid = _triangle(columns[:shown], limits)
    for i in range(shown):
        _histograms(grid[i, i], [table[:, i] for table in tables], limits[i])
        for j in range(i):
            _contours(grid[i, j], [table[:, [j, i]] for table in tables], Window(*limits[j], *limits[i], False))
    figure.legend(
        handles=[Patch(color=TINTS[1], lw=0), Line2D([], [], color=VERMILION, lw=1.2)], labels=labels,
        title=f"first {shown} of {len(columns)} columns" if shown < len(columns) else None, title_fontsize=9,
        loc="upper right" if shown > 1 else "outside upper right", frameon=False, fontsize=9, alignment="left",
    )  # fmt: skip
    return figure


def image_figure(images: Values, *, columns: int = 10) -> Figure:
    """Images in a grid, row by row.

    Args:
        images: Grey `(N, 1, H, W)` or coloured `(N, 3, H, W)`, with values in [0, 1].
        columns: Images in a row.

    Raises:
        ValueError: Another shape, no images, or values outside [0, 1].
    """
    pixels = _numpy(images)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.size:
        raise ValueError(f"images must be (N, 1, H, W) or (N, 3, H, W) and not empty, got {pixels.shape}")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # NaN, too, ends here
        raise ValueError(f"images must have values in [0, 1], got {low:.4g} to {high:.4g}: scale or clamp them")
    mosaic = _mosaic(pixels, min(columns, len(pixels)))
    height, width, _ = mosaic.shape
    inches = max(2, 0.6 * min(columns, len(pixels)))
    figure = Figure(figsize=(inches, inches * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure


def training_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and validation likelihood over the steps, and below them the evaluations a solve.

    A loss that is no likelihood (flow matching) has a panel of its own, for it has other units. The steep start is
    left out where it would flatten all that follows.

    Args:
        history: `FitResult.history`: one mapping a check.

    Raises:
        ValueError: The history is empty.
    """
    if not history:
        raise ValueError("the history is empty: training ended before its first check")
    panels = _training_panels(history)
    heights = [1.2 if "evaluations" in panel else 2.4 for panel in panels]
    figure = Figure(figsize=(5, 0.6 + sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _curves(axes, history, panel)
    grid[-1].set_xlim(left=0)
    grid[-1].set_xlabel("step", fontsize=8)
    figure.align_ylabels()
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: float = 150) -> Path:
    """Write a figure, whole or not at all; a missing folder is made.

    Args:
        figure: What to write.
        path: Where to; its suffix is the format.
        dpi: Pixels an inch.

    Returns:
        The path.

    Raises:
        ValueError: An unknown suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ValueError(f"cannot write a figure as {path.name!r}: the suffix must be one of .{', .'.join(FORMATS)}")
    file = io.BytesIO()
    figure.savefig(file, format=suffix, dpi=dpi)
    write_bytes(path, file.getvalue())
    return path


# What comes in.


def _numpy(values: Values) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _table(name: str, values: Values) -> np.ndarray:
    rows = _numpy(values)
    if rows.ndim != 2:
        raise ValueError(f"the {name} must be a table (N, D), got shape {rows.shape}")
    if not rows.size:
        raise ValueError(f"the {name} are empty, shape {rows.shape}: there is nothing to draw")
    bad = (~np.isfinite(rows).all(1)).nonzero()[0]
    if len(bad):
        raise ValueError(
            f"the {name} have NaN or infinite values in {len(bad)} of {len(rows)} rows, first in rows "
            f"{bad[:5].tolist()}: remove or impute them"
        )
    return rows


def _tables(data: Values, samples: Values, columns: Sequence[str], labels: tuple[str, str]) -> list[np.ndarray]:
    tables = [_table(label, values) for label, values in zip(labels, (data, samples), strict=True)]
    widths = [table.shape[1] for table in tables]
    if len({*widths, len(columns)}) > 1:
        raise ValueError(
            f"expected the same number of columns everywhere, got {widths[0]} in the {labels[0]}, {widths[1]} in the "
            f"{labels[1]} and {len(columns)} names"
        )
    return tables


def _points(data: Values) -> np.ndarray:
    rows = _numpy(data)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(
            f"the data must be points (N, 2), got shape {rows.shape}: for a table of another width use "
            "corner_figure(data, samples, columns)"
        )
    return _table("data", rows)


def _condition(function: str, flow: Flow, context: Tensor | None) -> Tensor | None:
    """The context in the flow's dtype, after flow and context are checked."""
    if flow.event_shape != (2,):
        raise ValueError(
            f"{function} draws flows of event shape (2,), got {tuple(flow.event_shape)}: for a table use "
            "corner_figure(data, flow.sample(n), columns), for images image_figure(flow.sample(n))"
        )
    width = flow.transform.context_dim
    if context is None:
        if width:
            raise ValueError(f"this flow is conditional: give context, one vector ({width},) for all points")
        return None
    if context.dim() != 1:
        raise ValueError(f"context must be one vector ({width or 'C'},) for all points, got {tuple(context.shape)}")
    return context.to(flow.base.device, flow.base.dtype)


# What a flow has to say.


@contextmanager
def _evaluating(flow: Flow) -> Iterator[None]:
    """No gradients, and all modules in evaluation mode; each goes back to its own mode afterwards."""
    training = [module for module in flow.modules() if module.training]
    flow.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _log_prob(flow: Flow, x: Tensor, context: Tensor | None) -> Tensor:
    """The flow's log-density; −∞ outside its support, where transforms refuse to be evaluated."""
    inside = flow.support.check(x)
    log_prob = x.new_full((len(x),), -math.inf)
    log_prob[inside] = flow.log_prob(x[inside], context)
    return log_prob


def _image(log_prob: Callable[[Tensor], Tensor], window: Window, resolution: int, flow: Flow) -> np.ndarray:
    """The density in the middle of each cell of a grid, the lowest row first."""
    x, y = window.centres(resolution)
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).to(flow.base.device, flow.base.dtype)
    values = _numpy(torch.cat([log_prob(rows) for rows in grid.split(CHUNK)]))
    if values.shape != (len(grid),) or np.isnan(values).any():
        raise ValueError(
            f"a log-density must be one number for each of the {len(grid)} points of the grid, got shape "
            f"{values.shape} with {np.isnan(values).sum()} NaN"
        )
    return np.exp(values).reshape(len(y), len(x))


def _paths(
    flow: Flow, times: Sequence[float], n: int, context: Tensor | None, generator: Generator | None
) -> np.ndarray:  # fmt: skip
    """Where `n` samples are at each time, `(len(times), n, 2)`."""
    with _evaluating(flow):
        z = flow.base.sample(n, generator)
        return _numpy(torch.cat([flow.trajectory(rows, times, context) for rows in z.split(CHUNK)], 1))


# What is computed from points.


class Window(NamedTuple):
    """The part of the plane that is shown; `isometric` if a unit is as long along x as along y."""

    left: float
    right: float
    bottom: float
    top: float
    isometric: bool

    @property
    def sides(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Limits of x and of y."""
        return self[:2], self[2:4]

    @property
    def shape(self) -> float:
        """Height over width on paper."""
        return (self.top - self.bottom) / (self.right - self.left) if self.isometric else 1.0

    def centres(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the cells along x and along y, `resolution` of them along the longer side."""
        counts = (round(resolution * min(1, 1 / self.shape)), round(resolution * min(1, self.shape)))
        x, y = (
            low + (np.arange(count) + 0.5) * (high - low) / count
            for (low, high), count in zip(self.sides, counts, strict=True)
        )
        return x, y


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Limits that show the bulk of the values: all of them, but for those far from the middle 99 per cent."""
    low, high = np.quantile(values, [0.005, 0.995])
    reach = 0.25 * (high - low)
    start, end = max(low - reach, values.min()), min(high + reach, values.max())
    margin = 0.07 * (end - start) or 0.5 * max(abs(start), 1)
    return float(start - margin), float(end + margin)


def _window(sides: np.ndarray) -> Window:
    """A window with at least these sides: isometric and not too flat, unless they differ too much in length."""
    lengths = np.diff(sides, axis=1)
    isometric = bool(lengths.max() <= 4 * lengths.min())
    if isometric:
        sides = sides.mean(1, keepdims=True) + np.maximum(lengths, 0.65 * lengths.max()) / 2 * np.array([-1, 1])
    (left, right), (bottom, top) = sides.tolist()
    return Window(left, right, bottom, top, isometric)


def _path_window(states: np.ndarray) -> Window:
    """A window that shows nearly all of the points at the end of their way, and 98 per cent of them before."""
    end = np.array([_interval(states[-1, :, 0]), _interval(states[-1, :, 1])])
    low, high = np.quantile(states, [0.01, 0.99], axis=1)
    return _window(np.stack([np.minimum(end[:, 0], low.min(0)), np.maximum(end[:, 1], high.max(0))], 1))


def _thin(rows: np.ndarray, n: int) -> np.ndarray:
    """At most `n` rows, evenly spread over all."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)]


def _smoothed(points: np.ndarray, window: Window, bins: int, width: float) -> np.ndarray:
    """The points' histogram blurred by a Gaussian of `width` bins, a density up to a factor; the lowest row first."""
    x, y = window.centres(bins)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], (len(y), len(x)), range=window.sides[::-1])
    return _blur(len(y), width) @ counts @ _blur(len(x), width).T / len(points)


def _blur(bins: int, width: float) -> np.ndarray:
    distance = np.subtract.outer(np.arange(bins), np.arange(bins))
    weights: np.ndarray = np.exp(-0.5 * (distance / width) ** 2)
    return weights / weights.sum(0)


def _levels(density: np.ndarray, masses: Sequence[float]) -> list[float]:
    """Levels above which the density holds the given parts of its mass."""
    values = np.sort(density, axis=None)[::-1]
    mass = values.cumsum()
    places = np.searchsorted(mass, np.array(masses) * mass[-1]).clip(max=len(values) - 1)
    return [float(value) for value in values[places]]


# What is drawn.


def _row(
    titles: Sequence[str], window: Window, *, size: float = 2.0, ticks: int = 4, names: Sequence[str] = ("", "")
) -> tuple[Figure, list[Axes]]:
    """Panels in a row that show the same window, `size` inches wide."""
    numbers, named = 0.2 * bool(ticks), 0.17 * bool(names[0])  # inches of text beside the panels
    height = (size - 0.08) * window.shape + 0.32 + numbers + named
    figure = Figure(figsize=(size * len(titles) + numbers + named, height), layout="constrained")
    panels = list(figure.subplots(1, len(titles), squeeze=False, sharex=True, sharey=True)[0])
    for axes, title in zip(panels, titles, strict=True):
        _tidy(axes, ticks)
        axes.set_title(title, fontsize=9, color="0.1")
        axes.set_xlabel(_short(names[0]), fontsize=8)
        axes.set(xlim=window.sides[0], ylim=window.sides[1], aspect="equal" if window.isometric else "auto")
    panels[0].set_ylabel(_short(names[1]), fontsize=8)
    return figure, panels


def _tidy(axes: Axes, ticks: int) -> None:
    """Thin grey lines, small numbers and few of them."""
    axes.spines[:].set(linewidth=0.6, color=GREY)
    axes.tick_params(labelsize=7, length=2.5, width=0.6, color=GREY, labelcolor="0.25")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]) if ticks else NullLocator())


def _short(name: str, room: int = 30) -> str:
    """A name of at most `room` characters, with no dollar that would start a formula."""
    name = name if len(name) <= room else name[: room - 1] + "…"
    return name.replace("$", r"\$")


def _scatter(axes: Axes, points: np.ndarray) -> None:
    size = float(np.clip(4_000 / max(len(points), 1), 0.15, 6))
    axes.scatter(points[:, 0], points[:, 1], s=size, color=INK, alpha=0.6, linewidths=0, rasterized=True)


def _shade(axes: Axes, image: np.ndarray, window: Window, darkest: float) -> None:
    axes.imshow(
        image, origin="lower", extent=window[:4], cmap=DENSITY, vmin=0, vmax=darkest, interpolation="bilinear",
        aspect=axes.get_aspect(),
    )  # fmt: skip


def _pictures(states: np.ndarray, times: np.ndarray, *, density: bool, bins: int) -> list[Image.Image]:
    """A picture of the points at each time, from their states at equal distances in time."""
    window = _path_window(states)
    blur = bins * min(1 / 200, math.sqrt(0.75 / states.shape[1]))  # in bins, finer for more than 30,000 points
    darkest = _levels(_smoothed(states[-1], window, bins, blur * _width(1)), [0.01])[0]
    figure, (axes,) = _row([""], window, size=0.016 * bins, ticks=0)
    canvas = FigureCanvasAgg(figure)
    pictures = []
    for time in times.tolist():
        for artist in (*axes.images, *axes.collections):
            artist.remove()
        axes.title.set_text(f"$t = {time:.2f}$")
        points = _between(states, time)
        if density:
            _shade(axes, _smoothed(points, window, bins, blur * _width(time)), window, darkest)
        else:
            _scatter(axes, points)
        canvas.draw()
        figure.set_layout_engine("none")  # the layout of the first picture holds for all
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return pictures


def _width(time: float) -> float:
    """Bins of blur: noise is smoother than most data."""
    return 5 - 3 * time


def _between(states: np.ndarray, time: float) -> np.ndarray:
    """The state at a time in [0, 1], on straight lines between the states at equal distances."""
    place = time * (len(states) - 1)
    k = min(int(place), len(states) - 2)
    line: np.ndarray = states[k] + (place - k) * (states[k + 1] - states[k])
    return line


def _gif(pictures: Sequence[Image.Image], milliseconds: Sequence[float]) -> bytes:
    """The pictures as a GIF, all in the same colours, so that nothing flickers."""
    shades = np.concatenate([DENSITY(np.linspace(0, 1, 96))[:, :3], np.linspace(0, 0.9, 32)[:, None].repeat(3, 1)])
    palette = Image.new("P", (1, 1))
    palette.putpalette((255 * shades).round().astype(np.uint8).tobytes())
    first, *rest = (_indexed(picture, palette) for picture in pictures)
    file = io.BytesIO()
    duration = [round(each, -1) for each in milliseconds]  # the format counts in hundredths of a second
    first.save(file, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
    return file.getvalue()


def _indexed(picture: Image.Image, palette: Image.Image) -> Image.Image:
    """The picture in the nearest colours of a palette; white, its first one, exactly: pillow's search is coarse."""
    indices = np.array(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    indices[(np.asarray(picture) == 255).all(-1)] = 0
    indexed = Image.fromarray(indices)
    indexed.putpalette(palette.getpalette() or [])
    return indexed


def _triangle(columns: Sequence[str], limits: Sequence[tuple[float, float]]) -> tuple[Figure, np.ndarray]:
    """Empty panels on and below the diagonal, with numbers and names along the left and the lower edge."""
    count = len(columns)
    cell = min(max(7 / count, 1.2), 2.2)  # inches
    figure = Figure(figsize=(count * cell + 0.5, count * cell + 0.5), layout="constrained")
    grid = figure.subplots(count, count, squeeze=False)
    names = [_short(name, int(11 * cell)) + _power(limit)[1] for name, limit in zip(columns, limits, strict=True)]
    for (i, j), axes in np.ndenumerate(grid):
        if j > i:
            axes.remove()
            continue
        _tidy(axes, 4 if cell > 1.3 else 3)
        for axis, column, outer in ((axes.xaxis, j, i == count - 1), (axes.yaxis, i, i > j == 0)):
            axis.set_major_formatter(_formatter(_power(limits[column])[0]))
            axis.set_tick_params(label1On=outer)
            axis.set_label_text(names[column] if outer else "", fontsize=8)
    figure.align_labels()
    return figure, grid


def _power(limits: tuple[float, float]) -> tuple[int, str]:
    """The power of ten that numbers too long to print are divided by, and how it is written."""
    power = math.floor(math.log10(max(map(abs, limits))))
    return (0, "") if -3 <= power <= 4 else (power, f" [$10^{{{power}}}$]")


def _formatter(power: int) -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value / 10.0**power + 0.0:.6g}".replace("-", "\N{MINUS SIGN}"))


def _histograms(axes: Axes, columns: Sequence[np.ndarray], limits: tuple[float, float]) -> None:
    bins = np.linspace(*limits, int(np.clip(2 * min(map(len, columns)) ** (1 / 3), 8, 40)) + 1)
    styles: tuple[dict[str, Any], ...] = ({"color": TINTS[1], "fill": True, "lw": 0}, {"color": VERMILION, "lw": 1})
    heights = [np.histogram(column, bins)[0] / len(column) / np.diff(bins) for column in columns]
    for height, style in zip(heights, styles, strict=True):
        axes.stairs(height, bins, **style)
    axes.set(xlim=limits, ylim=(0, 1.08 * np.max(heights)), yticks=[])


def _contours(axes: Axes, pairs: Sequence[np.ndarray], window: Window) -> None:
    fewest = min(map(len, pairs))
    width = float(np.clip(1.5 * (10_000 / fewest) ** (1 / 6), 1.2, 5))  # of the blur, as narrow as the rows allow
    data, samples = (_smoothed(points, window, 64, width) for points in pairs)
    x, y = window.centres(64)
    dots = _thin(pairs[0], 2_000)
    axes.scatter(dots[:, 0], dots[:, 1], s=0.8, color=BLUE, alpha=0.3, linewidths=0, rasterized=True)
    axes.contourf(x, y, data, levels=[*_rising(data), math.inf], colors=TINTS)
    axes.contour(x, y, samples, levels=_rising(samples), colors=VERMILION, linewidths=0.9)
    axes.set(xlim=window.sides[0], ylim=window.sides[1])


def _rising(density: np.ndarray) -> list[float]:
    """The contours' levels, strictly rising: fewer of them where the density has steps."""
    return sorted({level for level in _levels(density, ENCLOSED) if level > 0})


def _mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images side by side on white, `(H, W, 3)`."""
    n, _, height, width = images.shape
    gap, rows = max(1, height // 16), -(-n // columns)
    cells = np.ones((rows * columns, 3, height + gap, width + gap))
    cells[:n, :, :height, :width] = images
    mosaic = cells.reshape(rows, columns, 3, height + gap, width + gap).transpose(0, 3, 1, 4, 2)
    return mosaic.reshape(rows * (height + gap), columns * (width + gap), 3)[:-gap, :-gap]


def _training_panels(history: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """Names of the curves in each panel."""
    known = {name for row in history for name in row}
    likelihoods = [["loss", "validation_nll"]] if "nll" in known else [["loss"], ["validation_nll"]]
    panels = [[name for name in panel if name in known] for panel in [*likelihoods, ["evaluations"]]]
    return [panel for panel in panels if panel]


def _curves(axes: Axes, history: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    _tidy(axes, 5)
    axes.spines[["top", "right"]].set_visible(False)
    for name in names:
        points = np.array([(row["step"], row[name]) for row in history if name in row], dtype=float)
        points[~np.isfinite(points)] = np.nan
        axes.plot(points[:, 0], points[:, 1], color=CURVES[name], lw=1.2, label=_curve_label(name, points[:, 1]))
    if names == ["evaluations"]:
        axes.set_ylim(0, 1.2 * axes.dataLim.ymax)
        axes.yaxis.set_major_locator(MaxNLocator(2))
        axes.set_ylabel("evaluations\nper solve", fontsize=8)
    else:
        _zoom(axes)
        axes.set_ylabel("loss" if names == ["loss"] else "nats", fontsize=8)
        if names != ["loss"]:
            axes.legend(frameon=False, fontsize=8)


def _curve_label(name: str, values: np.ndarray) -> str:
    if name == "validation_nll" and np.isfinite(values).any():
        return f"validation NLL, best {np.nanmin(values):.4g}"
    return name.replace("_nll", " NLL")


def _zoom(axes: Axes) -> None:
    """Leave out the steep start, beside which all that follows would be flat."""
    points = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines])
    late = points[points[:, 0] > 0.1 * points[:, 0].max(), 1]
    late = late[np.isfinite(late)]
    if len(late) and late.min() < late.max():
        margin = 0.08 * (late.max() - late.min())
        axes.set_ylim(late.min() - margin, late.max() + margin)
