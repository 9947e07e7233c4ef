"""Pictures of flows on the plane: densities, samples and paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor

from cnf.arguments import Ambient, Count, Finite, Size, checked
from cnf.flows import Flow
from cnf.plotting.style import DENSITY, INK, Values, as_numpy, as_table, short_name, tidy
from cnf.plotting.windows import Window, levels, limits_of, path_window, thin, window_of

CHUNK = 1_024  # points that a flow sees at once: bounds the memory, and fits a cache


@checked
def fit_figure(
    flow: Flow,
    data: Values,
    *,
    context: Tensor | None = None,
    true_density: Callable[[Tensor], Tensor] | None = None,
    samples: Count = 6_000,
    resolution: Ambient = 200,
    columns: Sequence[str] = ("", ""),
    across: Size = 4,
    generator: Generator | None = None,
) -> Figure:
    """Draw data, density and samples of a flow on the plane, side by side.

    All panels have the same limits, given by the bulk of the data; all densities have the same colour scale.

    Args:
        flow: A flow of event shape `(2,)`.
        data: Points `(N, 2)`.
        context: The condition `(C,)` of a conditional flow, the same for all points.
        true_density: The exact log-density, `(N, 2)` to `(N,)`, drawn in a panel of its own.
        samples: Number of points to draw of the data and of the flow, at most N.
        resolution: Points of the density's grid along the longer side, each in the middle of its cell.
        columns: Names of the two axes.
        across: Panels in a row, at most.
        generator: Source of the samples; the global one of torch by default.

    Returns:
        The figure.

    Raises:
        ValueError: Flow or data are not two-dimensional, the data are empty or not finite, a context is missing, or
            a density is NaN.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> figure = cnf.plotting.fit_figure(flow, torch.randn(50, 2), resolution=20)
        >>> [axes.get_title() for axes in figure.axes]
        ['data', 'learned density', 'samples']
    """
    compared = compare("fit_figure", flow, data, context, true_density, samples, resolution, generator)
    return compared.figure(columns, across)


class Compared(NamedTuple):
    """What is drawn of a flow and its data on the plane.

    Attributes:
        window: The part of the plane.
        data: Points of the data.
        densities: Images by their titles; the first one sets the scale of colours.
        samples: Points of the flow.
    """

    window: Window
    data: np.ndarray
    densities: dict[str, np.ndarray]
    samples: np.ndarray

    def figure(self, columns: Sequence[str], across: int) -> Figure:
        """The panels, at most so many in a row."""
        darkest = levels(next(iter(self.densities.values())), [0.01])[0]
        titles = ["data", *self.densities, "samples"]
        figure, panels = panels_in_a_row(titles, self.window, names=columns, across=across)
        scatter(panels[0], self.data)
        for axes, image in zip(panels[1:-1], self.densities.values(), strict=True):
            shade(axes, image, self.window, darkest)
        scatter(panels[-1], self.samples)
        return figure


def compare(
    function: str,
    flow: Flow,
    data: Values,
    context: Tensor | None,
    true_density: Callable[[Tensor], Tensor] | None,
    samples: int,
    resolution: int,
    generator: Generator | None,
) -> Compared:
    """What `fit_figure` draws; `function` stands in messages."""
    context = checked_condition(function, flow, context)
    points = _points(data)
    samples = min(samples, len(points))
    window = window_of(np.array([limits_of(points[:, 0]), limits_of(points[:, 1])]))
    with evaluating(flow):
        densities = {"learned density": _image(lambda x: _log_prob(flow, x, context), window, resolution, flow)}
        if true_density is not None:
            densities = {"exact density": _image(true_density, window, resolution, flow)} | densities
        drawn = as_numpy(flow.sample(samples, context, generator=generator))
    return Compared(window, thin(points, samples), densities, drawn)


@checked
def trajectory_figure(
    flow: Flow,
    *,
    times: Sequence[Finite] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    n: Count = 4_000,
    context: Tensor | None = None,
    generator: Generator | None = None,
) -> Figure:
    """Draw samples of a continuous flow on the plane on their path from noise to data, one panel for each time.

    Args:
        flow: A continuous flow of event shape `(2,)`.
        times: Increasing times in [0, 1]; 0 is the noise, 1 the data.
        n: Number of samples.
        context: The condition `(C,)` of a conditional flow, the same for all samples.
        generator: Source of the noise; the global one of torch by default.

    Returns:
        The figure.

    Raises:
        TypeError: The flow has no continuous transform.
        ValueError: The flow is not two-dimensional, a context is missing, or times are not increasing in [0, 1].

    Example:
        >>> import cnf
        >>> flow = cnf.build("cnf", 2, hidden=(8, 8))
        >>> figure = cnf.plotting.trajectory_figure(flow, times=[0.0, 1.0], n=20)
        >>> [axes.get_title() for axes in figure.axes]
        ['$t = 0$', '$t = 1$']
    """
    context = checked_condition("trajectory_figure", flow, context)
    states = paths_of(flow, times, n, context, generator)
    figure, panels = panels_in_a_row([f"$t = {time:.4g}$" for time in times], path_window(states), size=1.5, ticks=0)
    for axes, points in zip(panels, states, strict=True):
        scatter(axes, points)
    return figure


def _points(data: Values) -> np.ndarray:
    rows = as_numpy(data)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(
            f"the data must be points (N, 2), got shape {rows.shape}: for a table of another width use "
            "corner_figure(data, samples, columns)"
        )
    return as_table("data", rows)


def checked_condition(function: str, flow: Flow, context: Tensor | None) -> Tensor | None:
    """The context in the flow's dtype, after flow and context have been checked."""
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


@contextmanager
def evaluating(flow: Flow) -> Iterator[None]:
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
    values = as_numpy(torch.cat([log_prob(rows) for rows in grid.split(CHUNK)]))
    if values.shape != (len(grid),) or np.isnan(values).any():
        raise ValueError(
            f"a log-density must be one number for each of the {len(grid)} points of the grid, got shape "
            f"{values.shape} with {np.isnan(values).sum()} NaN"
        )
    return np.exp(values).reshape(len(y), len(x))


def paths_of(
    flow: Flow, times: Sequence[float], n: int, context: Tensor | None, generator: Generator | None
) -> np.ndarray:  # fmt: skip
    """Places of n samples at each time, `(len(times), n, 2)`."""
    with evaluating(flow):
        z = flow.base.sample(n, generator=generator)
        return as_numpy(torch.cat([flow.trajectory(rows, times, context) for rows in z.split(CHUNK)], 1))


def panels_in_a_row(
    titles: Sequence[str],
    window: Window,
    *,
    size: float = 2.0,
    ticks: int = 4,
    names: Sequence[str] = ("", ""),
    across: int | None = None,
) -> tuple[Figure, list[Axes]]:
    """Panels that show the same window, `size` inches wide, in one row or in several of at most `across`."""
    columns = min(across or len(titles), len(titles))
    rows = -(-len(titles) // columns)
    numbers, named = 0.2 * bool(ticks), 0.17 * bool(names[0])  # inches of text beside the panels
    height = rows * ((size - 0.08) * window.shape + 0.32) + numbers + named
    figure = Figure(figsize=(size * columns + numbers + named, height), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in places.flat[len(titles) :]:
        axes.remove()
    panels = list(places.flat[: len(titles)])
    for axes, title in zip(panels, titles, strict=True):
        tidy(axes, ticks)
        axes.set_title(title, fontsize=9, color="0.1")
        axes.set(xlim=window.sides[0], ylim=window.sides[1], aspect="equal" if window.isometric else "auto")
    for axes in panels[-columns:]:
        axes.xaxis.set_tick_params(labelbottom=bool(ticks))
        axes.set_xlabel(short_name(names[0]), fontsize=8)
    for axes in panels[::columns]:
        axes.set_ylabel(short_name(names[1]), fontsize=8)
    return figure, panels


def scatter(axes: Axes, points: np.ndarray) -> None:
    """Draw points, smaller ones the more there are."""
    size = float(np.clip(4_000 / max(len(points), 1), 0.15, 6))
    axes.scatter(points[:, 0], points[:, 1], s=size, color=INK, alpha=0.6, linewidths=0, rasterized=True)


def shade(axes: Axes, image: np.ndarray, window: Window, darkest: float) -> None:
    """Draw a density in shades of blue; densities above `darkest` have the darkest shade."""
    axes.imshow(
        image, origin="lower", extent=window[:4], cmap=DENSITY, vmin=0, vmax=darkest, interpolation="bilinear",
        aspect=axes.get_aspect(),
    )  # fmt: skip
