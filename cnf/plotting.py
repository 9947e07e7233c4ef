"""Pictures of flows and their data: the only file that imports matplotlib.

Every function returns a `matplotlib.figure.Figure` of its own, without pyplot and its global state, so that pictures
can be made anywhere, with or without a display; `save_figure` writes them. `path_animation` writes a GIF.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image
from torch import Generator, Tensor

from cnf.checkpoints import write_bytes
from cnf.flows import Flow

Values = Tensor | np.ndarray
Array = np.ndarray

FORMATS = ("png", "pdf", "svg", "jpg", "webp")
CHUNK = 4_096  # points that a flow sees at once: bounds the memory
INK, BLUE, VERMILION = "#1d3c80", "#0072b2", "#d55e00"  # the last two from Okabe and Ito's palette for all eyes
# From white through blue to night, equal steps along a curve in Oklab: lightness falls linearly, like on paper.
DENSITY = LinearSegmentedColormap.from_list(
    "density",
    [
        "#ffffff",
        "#cdedff",
        "#9fd8ff",
        "#76bffc",
        "#52a4ef",
        "#3889dc",
        "#286dc2",
        "#2153a3",
        "#1d3c80",
        "#17285c",
        "#0f1738",
    ],
)
FINE = (200, 1.5)  # an animation's histogram: bins a side, and the blur in bins
ENCLOSED = (0.9, 0.6, 0.3)  # parts of the rows that a corner plot's contours enclose
TINTS = ("#d3e7f3", "#93c3df", "#5ba3cd")  # between them
CURVES = {  # of training: label and colour
    "loss": ("loss", BLUE),
    "validation_nll": ("validation NLL", VERMILION),
    "evaluations": ("evaluations a solve", "0.35"),
}


# Two dimensions: flows on the plane.


def fit_figure(
    flow: Flow,
    data: Values,
    *,
    context: Tensor | None = None,
    true_density: Callable[[Tensor], Tensor] | None = None,
    samples: int = 6_000,
    resolution: int = 240,
    columns: Sequence[str] = (),
    generator: Generator | None = None,
) -> Figure:
    """Data, density and samples of a flow on the plane, side by side.

    All panels have the same limits, which the bulk of the data sets, and all densities one colour scale.

    Args:
        flow: A flow of event shape `(2,)`.
        data: Points `(N, 2)`; at most `samples` of them are drawn.
        context: The condition `(C,)` of a conditional flow, the same for all points.
        true_density: The exact log-density, `(N, 2)` to `(N,)`, for a panel of its own.
        samples: How many samples to draw.
        resolution: Points of the density's grid along each side; each is the middle of its cell.
        columns: Names of the two axes.
        generator: Source of the samples' noise; the global one by default.

    Raises:
        ValueError: Flow or data are not two-dimensional, the data are empty or not finite, a context is missing, or
            a density is NaN.
    """
    context = _condition("fit_figure", flow, context)
    points = _points("data", data)
    window = _window(points)
    with _evaluating(flow):
        drawn = _numpy(flow.sample(samples, context, generator=generator))
        densities = {"learned density": _image(lambda x: _log_prob(flow, x, context), window, resolution, flow)}
    if true_density is not None:
        with torch.no_grad():
            densities = {"exact density": _image(true_density, window, resolution, flow)} | densities
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
    """Samples of a continuous flow on the plane, on their way from noise to data: one panel a time.

    Args:
        flow: A continuous flow of event shape `(2,)`.
        times: Increasing times in [0, 1].
        n: How many samples.
        context: The condition `(C,)` of a conditional flow.
        generator: Source of the noise; the global one by default.

    Raises:
        TypeError: The flow has no continuous transform.
        ValueError: The flow is not two-dimensional, a context is missing, or times are not increasing in [0, 1].
    """
    context = _condition("trajectory_figure", flow, context)
    states = _paths(flow, times, n, context, generator)
    titles = [f"$t = {time:.4g}$" for time in times]
    figure, panels = _row(titles, _window(states.reshape(-1, 2)), size=1.5, ticks=0)
    for axes, points in zip(panels, states, strict=True):
        _scatter(axes, points)
    return figure


def path_animation(
    flow: Flow,
    path: str | Path,
    *,
    n: int = 40_000,
    frames: int = 50,
    fps: float = 20,
    hold: float = 2.0,
    density: bool = True,
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
        density: Whether to show the smoothed density of the samples; else the samples themselves.
        context: The condition `(C,)` of a conditional flow.
        generator: Source of the noise; the global one by default.

    Returns:
        The path.

    Raises:
        TypeError: The flow has no continuous transform.
        ValueError: The flow is not two-dimensional, a context is missing, the path is no GIF, or a number is too small.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"an animation is a .gif, got {path.name!r}")
    if frames < 2 or n < 1 or fps <= 0 or hold < 0:
        raise ValueError(
            f"expected frames >= 2, n >= 1, fps > 0 and hold >= 0, got frames={frames}, n={n}, fps={fps}, hold={hold}"
        )
    context = _condition("path_animation", flow, context)
    times = np.linspace(0, 1, frames).tolist()
    states = _paths(flow, times, n, context, generator)
    pictures = _pictures(states, times, density=density)
    write_bytes(path, _gif(pictures, [1000 / fps] * (frames - 1) + [1000 * hold + 1000 / fps]))
    return path


# Tables.


def corner_figure(
    data: Values,
    samples: Values,
    columns: Sequence[str],
    *,
    max_columns: int = 8,
    labels: tuple[str, str] = ("data", "samples"),
) -> Figure:
    """Compare a table with samples of it: histograms of each column, contours of each pair.

    The contours enclose 30, 60 and 90 per cent of the rows. The bulk of the data sets the limits.

    Args:
        data: `(N, D)`, drawn filled.
        samples: `(M, D)`, drawn as lines.
        columns: Names of the `D` columns.
        max_columns: Of more columns than these, the first ones are shown and the title says so.
        labels: What to call the two.

    Raises:
        ValueError: Tables of unequal width, another number of names, no rows, or values that are not finite.
    """
    tables = _tables(data, samples, columns, labels)
    shown = min(len(columns), max_columns)
    limits = [_interval(column) for column in tables[0].T[:shown]]
    figure, grid = _corner(shown)
    for i, j in ((i, j) for i in range(shown) for j in range(i + 1)):
        if i == j:
            _histograms(grid[i, i], [table[:, i] for table in tables], limits[i])
        else:
            _contours(grid[i, j], [table[:, [j, i]] for table in tables], Window(*limits[j], *limits[i]))
        _label(grid[i, j], x=columns[j] if i == shown - 1 else None, y=columns[i] if i > j == 0 else None)
    more = f"first {shown} of {len(columns)} columns" if shown < len(columns) else None
    swatches: list[Artist] = [Patch(color=BLUE, alpha=0.45, lw=0), Line2D([], [], color=VERMILION, lw=1.2)]
    figure.legend(
        swatches, labels, title=more, loc="upper right", frameon=False, fontsize=9, title_fontsize=8, alignment="left"
    )  # fmt: skip
    return figure


# Images and training.


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
    if not (low >= 0 and high <= 1):  # so that NaN fails too
        raise ValueError(f"images must have values in [0, 1], got {low:.4g} to {high:.4g}: scale or clamp them")
    mosaic = _mosaic(pixels, min(columns, len(pixels)))
    height, width = mosaic.shape[:2]
    scale = 0.6 * columns / max(height, width) if columns > 1 else 2 / max(height, width)
    figure = Figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure


def training_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and validation likelihood over the steps, and below them the evaluations a solve.

    A loss that is no likelihood (flow matching) gets a panel of its own, for it has other units.

    Args:
        history: `FitResult.history`: one mapping a check.

    Raises:
        ValueError: The history is empty.
    """
    if not history:
        raise ValueError("the history is empty: training ended before its first check")
    panels = _training_panels(history)
    heights = [1.0 if "evaluations" in panel else 2.5 for panel in panels]
    figure = Figure(figsize=(5, 0.8 + 0.9 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _curves(axes, history, panel)
    grid[-1, 0].set_xlabel("step", fontsize=8)
    figure.align_ylabels()
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: float = 150) -> Path:
    """Write a figure whole or not at all, making the folder where it is missing.

    Args:
        figure: What to write.
        path: Where to; the suffix is the format.
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


def _numpy(values: Values) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _table(name: str, values: Values) -> Array:
    rows = _numpy(values)
    if rows.ndim != 2:
        raise ValueError(f"{name} must be a table (N, D), got shape {rows.shape}")
    if not rows.size:
        raise ValueError(f"{name} is empty, shape {rows.shape}: there is nothing to draw")
    bad = (~np.isfinite(rows).all(1)).nonzero()[0]
    if len(bad):
        raise ValueError(
            f"{name} has NaN or infinite values in {len(bad)} of {len(rows)} rows, first in rows {bad[:5].tolist()}: "
            "remove or impute them"
        )
    return rows


def _tables(data: Values, samples: Values, columns: Sequence[str], labels: tuple[str, str]) -> list[Array]:
    tables = [_table(label, values) for label, values in zip(labels, (data, samples), strict=True)]
    widths = [table.shape[1] for table in tables]
    if len({*widths, len(columns)}) > 1:
        raise ValueError(
            f"expected the same number of columns everywhere, got {widths[0]} in the {labels[0]}, {widths[1]} in the "
            f"{labels[1]} and {len(columns)} names"
        )
    return tables


def _points(name: str, values: Values) -> Array:
    rows = _numpy(values)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(
            f"{name} must be points (N, 2), got shape {rows.shape}: for a table of other width, "
            "use corner_figure(data, samples, columns)"
        )
    return _table(name, rows)


def _condition(function: str, flow: Flow, context: Tensor | None) -> Tensor | None:
    """The context in the flow's dtype, after both are checked."""
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
    """No gradients, and every module in evaluation mode; each goes back to its own mode afterwards."""
    training = [module for module in flow.modules() if module.training]
    flow.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _log_prob(flow: Flow, x: Tensor, context: Tensor | None) -> Tensor:
    """The flow's log-density, −∞ outside its support, where transforms refuse to be evaluated."""
    inside = flow.support.check(x)
    log_prob = x.new_full((len(x),), -torch.inf)
    log_prob[inside] = flow.log_prob(x[inside], context)
    return log_prob


def _image(log_prob: Callable[[Tensor], Tensor], window: Window, resolution: int, flow: Flow) -> Array:
    """The density in the middle of each cell of a grid, `(resolution, resolution)`, the first row lowest."""
    x, y = (low + (np.arange(resolution) + 0.5) / resolution * (high - low) for low, high in window.sides)
    grid = torch.tensor(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).to(flow.base.device, flow.base.dtype)
    values = _numpy(torch.cat([log_prob(rows) for rows in grid.split(CHUNK)]))
    if values.shape != (len(grid),) or np.isnan(values).any():
        raise ValueError(
            f"a log-density must give one number for each of {len(grid)} points of the grid, got shape "
            f"{values.shape} with {np.isnan(values).sum()} NaN"
        )
    return np.exp(values).reshape(resolution, resolution)


def _paths(
    flow: Flow, times: Sequence[float], n: int, context: Tensor | None, generator: Generator | None
) -> Array:  # fmt: skip
    """Where `n` samples are at each time, `(len(times), n, 2)`."""
    with _evaluating(flow):
        z = flow.base.sample(n, generator)
        return _numpy(torch.cat([flow.trajectory(rows, times, context) for rows in z.split(CHUNK)], 1))


# What is computed from points.


class Window(NamedTuple):
    """The part of the plane that is shown, in matplotlib's order."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def sides(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Limits of x and of y."""
        return self[:2], self[2:]

    @property
    def isometric(self) -> bool:
        """Whether a unit is as long along x as along y."""
        return bool(np.isclose(self.right - self.left, self.top - self.bottom))


def _interval(values: Array) -> tuple[float, float]:
    """Limits that show the bulk of the values: all of them, but for what lies far beyond 99 in 100."""
    low, high = np.quantile(values, [0.005, 0.995])
    reach = 0.25 * (high - low)
    start, end = max(low - reach, values.min()), min(high + reach, values.max())
    margin = 0.06 * (end - start) or 0.5 * max(abs(start), 1)
    return float(start - margin), float(end + margin)


def _window(points: Array) -> Window:
    """A square that shows the bulk of the points; with axes of their own where their ranges differ too much."""
    sides = np.array([_interval(points[:, 0]), _interval(points[:, 1])])
    lengths = np.diff(sides, axis=1)
    if lengths.max() <= 4 * lengths.min():
        sides = sides.mean(1, keepdims=True) + lengths.max() / 2 * np.array([-1, 1])
    return Window(*sides.flatten().tolist())


def _thin(rows: Array, n: int) -> Array:
    """At most `n` rows, evenly spread over all."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)]


def _smoothed(points: Array, window: Window, bins: int, width: float) -> Array:
    """The density of points: a histogram, blurred by a Gaussian of `width` bins; the first row is the lowest."""
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins, range=window.sides[::-1])
    distance = np.subtract.outer(np.arange(bins), np.arange(bins))
    blur = np.exp(-0.5 * (distance / width) ** 2)
    blur /= blur.sum(0)
    return blur @ counts @ blur.T


def _levels(density: Array, masses: Sequence[float]) -> list[float]:
    """Levels above which the density holds the given parts of its mass: the highest regions that do."""
    values = np.sort(density, axis=None)[::-1]
    mass = values.cumsum()
    last = len(values) - 1
    return [float(values[min(np.searchsorted(mass, part * mass[-1]), last)]) for part in masses]


# What is drawn.


def _row(
    titles: Sequence[str], window: Window, *, size: float = 2.0, ticks: int = 4, names: Sequence[str] = ()
) -> tuple[Figure, list[Axes]]:
    """Square panels in a row, with the same limits."""
    figure = Figure(figsize=(len(titles) * size + 0.3, size + 0.35), layout="constrained")
    panels = list(figure.subplots(1, len(titles), squeeze=False, sharex=True, sharey=True)[0])
    for axes, title in zip(panels, titles, strict=True):
        _tidy(axes, ticks)
        axes.set_title(title, fontsize=9, color="0.1")
        axes.set(xlim=window.sides[0], ylim=window.sides[1])
        axes.set(aspect="equal") if window.isometric else axes.set_box_aspect(1)
    for axes in panels if names else ():
        axes.set_xlabel(names[0], fontsize=8)
    panels[0].set_ylabel(names[1] if names else "", fontsize=8)
    return figure, panels


def _tidy(axes: Axes, ticks: int) -> None:
    """Thin grey lines, small numbers, about as many ticks."""
    axes.spines[:].set(linewidth=0.6, color="0.4")
    axes.tick_params(labelsize=7, length=2.5 if ticks else 0, width=0.6, color="0.4", labelcolor="0.25")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(ticks) if ticks else NullLocator())


def _scatter(axes: Axes, points: Array) -> None:
    size = float(np.clip(4_000 / max(len(points), 1), 0.15, 6))
    axes.scatter(points[:, 0], points[:, 1], s=size, color=INK, alpha=0.6, linewidths=0, rasterized=True)


def _shade(axes: Axes, image: Array, window: Window, darkest: float) -> None:
    axes.imshow(
        image, origin="lower", extent=window, cmap=DENSITY, vmin=0, vmax=darkest, interpolation="bilinear",
        aspect="equal" if window.isometric else "auto",
    )  # fmt: skip


def _pictures(states: Array, times: Sequence[float], *, density: bool) -> list[Image.Image]:
    """A picture of the points at each time."""
    window = _window(_thin(states.reshape(-1, 2), 100_000))
    darkest = _levels(_smoothed(states[-1], window, *FINE), [0.01])[0]
    figure, (axes,) = _row([""], window, size=3, ticks=0)
    canvas = FigureCanvasAgg(figure)
    pictures = []
    for time, points in zip(times, states, strict=True):
        for artist in (*axes.images, *axes.collections):
            artist.remove()
        axes.set_title(f"$t = {time:.2f}$")
        _shade(axes, _smoothed(points, window, *FINE), window, darkest) if density else _scatter(axes, points)
        canvas.draw()
        figure.set_layout_engine("none")  # the first picture's layout holds for all
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return pictures


def _gif(pictures: Sequence[Image.Image], milliseconds: Sequence[float]) -> bytes:
    """Pictures as a GIF, all in the colours of the first, the middle and the last one, so that nothing flickers."""
    few = [np.asarray(pictures[k]) for k in (0, len(pictures) // 2, -1)]
    colours = Image.fromarray(np.concatenate(few)).quantize(96, dither=Image.Dither.NONE)
    first, *rest = (picture.quantize(palette=colours, dither=Image.Dither.NONE) for picture in pictures)
    file = io.BytesIO()
    duration = [round(each, -1) for each in milliseconds]  # the format counts in hundredths of a second
    first.save(file, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
    return file.getvalue()


def _corner(size: int) -> tuple[Figure, Array]:
    """A lower triangle of panels; the legend's place is the upper right."""
    cell, margin = min(max(7 / size, 1.15), 2.2), 0.6
    side = size * cell + margin
    figure = Figure(figsize=(side, side))
    grid = figure.subplots(size, size, squeeze=False, gridspec_kw={"hspace": 0.08, "wspace": 0.08})
    figure.subplots_adjust(left=margin / side, bottom=margin / side, right=1 - 0.1 / side, top=1 - 0.1 / side)
    for i, j in zip(*np.triu_indices(size, 1), strict=True):
        grid[i, j].remove()
    return figure, grid


def _label(axes: Axes, *, x: str | None, y: str | None) -> None:
    """Numbers and names at the edges of the triangle only."""
    axes.tick_params(labelbottom=x is not None, labelleft=y is not None, rotation=0)
    axes.set_xlabel(_short(x or ""), fontsize=8)
    axes.set_ylabel(_short(y or ""), fontsize=8)


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"


def _histograms(axes: Axes, values: Sequence[Array], limits: tuple[float, float]) -> None:
    _tidy(axes, 3)
    bins = np.linspace(*limits, int(np.clip(2 * min(map(len, values)) ** (1 / 3), 8, 40)) + 1)
    styles: list[dict[str, Any]] = [
        {"fill": True, "color": BLUE, "alpha": 0.35, "lw": 0},
        {"color": VERMILION, "lw": 1},
    ]
    for column, style in zip(values, styles, strict=True):
        heights = np.histogram(column, bins)[0] / len(column) / np.diff(bins)
        axes.stairs(heights, bins, **style)
    axes.set(xlim=limits, yticks=[])
    axes.set_ylim(bottom=0)


def _contours(axes: Axes, pairs: Sequence[Array], window: Window) -> None:
    _tidy(axes, 3)
    bins = 64
    width = float(np.clip(1.5 * (10_000 / min(map(len, pairs))) ** (1 / 6), 1.2, 5))
    x, y = _thin(pairs[0], 2_000).T
    axes.scatter(x, y, s=0.8, color=BLUE, alpha=0.3, linewidths=0, rasterized=True)
    data, samples = (_smoothed(points, window, bins, width) for points in pairs)
    x, y = (low + (np.arange(bins) + 0.5) / bins * (high - low) for low, high in window.sides)
    axes.contourf(x, y, data, levels=[*_rising(data), np.inf], colors=TINTS)
    axes.contour(x, y, samples, levels=_rising(samples), colors=VERMILION, linewidths=0.8)
    axes.set(xlim=window.sides[0], ylim=window.sides[1])


def _rising(density: Array) -> list[float]:
    """The contours' levels, strictly rising: fewer of them where the density is flat."""
    return sorted({level for level in _levels(density, ENCLOSED) if level > 0})


def _mosaic(images: Array, columns: int) -> Array:
    """Images side by side on white, one or a few pixels apart."""
    n, channels, height, width = images.shape
    gap, rows = max(1, height // 16), -(-n // columns)
    cells = np.ones((rows * columns, 3, height + gap, width + gap))
    cells[:n, :, :height, :width] = images
    mosaic = cells.reshape(rows, columns, 3, height + gap, width + gap).transpose(0, 3, 1, 4, 2)
    return mosaic.reshape(rows * (height + gap), columns * (width + gap), 3)[:-gap, :-gap]


def _training_panels(history: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """Names of the curves in each panel."""
    known = {name for row in history for name in row}
    together = [["loss", "validation_nll"]] if "nll" in known else [["loss"], ["validation_nll"]]
    panels = [[name for name in panel if name in known] for panel in [*together, ["evaluations"]]]
    return [panel for panel in panels if panel]


def _curves(axes: Axes, history: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    _tidy(axes, 5)
    axes.spines[["top", "right"]].set_visible(False)
    for name in names:
        steps, values = np.array([(row["step"], row[name]) for row in history if name in row]).T
        label, colour = CURVES[name]
        axes.plot(steps, np.where(np.isfinite(values), values, np.nan), color=colour, lw=1.2, label=label)
    axes.set_ylabel("nats" if len(names) > 1 else label, fontsize=8)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8)
    axes.set_ylim(bottom=0) if "evaluations" in names else _zoom(axes)


def _zoom(axes: Axes) -> None:
    """Leave out the steep start, beside which all that follows would be flat."""
    points = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines])
    points = points[np.isfinite(points[:, 1])]
    late = points[points[:, 0] > 0.1 * points[:, 0].max(initial=0), 1]
    if len(late) and late.min() < late.max():
        margin = 0.1 * (late.max() - late.min())
        axes.set_ylim(late.min() - margin, late.max() + margin)
