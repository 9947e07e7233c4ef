"""Corner plots: a table and samples of it, column by column and pair by pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from cnf.arguments import Size, checked
from cnf.plotting.style import BLUE, VERMILION, Values, as_table, short_name, tidy
from cnf.plotting.windows import Window, levels, limits_of, smoothed, thin

ENCLOSED = (0.9, 0.6, 0.3)  # parts of the rows that a corner plot's contours enclose
FEW = 200  # rows below which a table is drawn as points: contours of these would be rings around single points
TINTS = ("#d3e7f3", "#93c3df", "#5ba3cd")  # of BLUE, from the widest contour inwards


@checked
def corner_figure(
    data: Values,
    samples: Values,
    columns: Sequence[str],
    *,
    max_columns: Size = 8,
    labels: tuple[str, str] = ("data", "samples"),
) -> Figure:
    """Compare a table with samples of it: a histogram of each column, contours of each pair of columns.

    The contours enclose 30, 60 and 90 per cent of the rows; the dots are rows of the data. A table of less than 200
    rows is drawn as dots, and as strokes on the lower edge instead of a histogram. The axes show the bulk of the data.
    If the numbers of an axis are divided by a power of ten, it stands in brackets after the name.

    Args:
        data: `(N, D)`, drawn filled.
        samples: `(M, D)`, drawn as lines.
        columns: Names of the D columns.
        max_columns: Largest number of columns to show; of more columns the first ones are shown.
        labels: Names of the two tables in the legend.

    Returns:
        The figure.

    Raises:
        ValueError: Tables of unequal width, another number of names, no rows, or values that are not finite.

    Example:
        >>> import torch, cnf
        >>> data, samples = torch.randn(50, 2), torch.randn(50, 2)
        >>> figure = cnf.plotting.corner_figure(data, samples, ["flow", "power"])
        >>> len(figure.axes)
        3
    """
    tables = _tables(data, samples, columns, labels)
    shown = min(len(columns), max_columns)
    framed = tables[0] if len(tables[0]) >= FEW else np.concatenate(tables)
    limits = [limits_of(column) for column in framed.T[:shown]]
    figure, grid = _triangle(columns[:shown], limits)
    for i in range(shown):
        _histograms(grid[i, i], [table[:, i] for table in tables], limits[i])
        for j in range(i):
            _contours(grid[i, j], [table[:, [j, i]] for table in tables], Window(*limits[j], *limits[i], False))
    figure.legend(
        handles=_handles(tables), labels=labels,
        title=f"first {shown} of {len(columns)} columns" if shown < len(columns) else None, title_fontsize=9,
        loc="upper right" if shown > 1 else "outside upper right", frameon=False, fontsize=9, alignment="left",
    )  # fmt: skip
    return figure


def _tables(data: Values, samples: Values, columns: Sequence[str], labels: tuple[str, str]) -> list[np.ndarray]:
    tables = [as_table(label, values) for label, values in zip(labels, (data, samples), strict=True)]
    widths = [table.shape[1] for table in tables]
    if len({*widths, len(columns)}) > 1:
        raise ValueError(
            f"expected the same number of columns everywhere, got {widths[0]} in the {labels[0]}, {widths[1]} in the "
            f"{labels[1]} and {len(columns)} names"
        )
    return tables


def _triangle(columns: Sequence[str], limits: Sequence[tuple[float, float]]) -> tuple[Figure, np.ndarray]:
    """Empty panels on and below the diagonal, with numbers and names along the left and the lower edge."""
    count = len(columns)
    cell = min(max(7 / count, 1.2), 2.2)  # inches
    figure = Figure(figsize=(count * cell + 0.5, count * cell + 0.5), layout="constrained")
    grid = figure.subplots(count, count, squeeze=False)
    names = [short_name(name, int(11 * cell)) + _power(limit)[1] for name, limit in zip(columns, limits, strict=True)]
    for (i, j), axes in np.ndenumerate(grid):
        if j > i:
            axes.remove()
            continue
        tidy(axes, 4 if cell > 1.3 else 3)
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


def _handles(tables: Sequence[np.ndarray]) -> list[Artist]:
    """What stands for the two tables in the legend."""
    many: list[Artist] = [Patch(color=TINTS[1], lw=0), Line2D([], [], color=VERMILION, lw=1.2)]
    few = [Line2D([], [], color=color, marker="o", markersize=3, lw=0) for color in (BLUE, VERMILION)]
    return [few[i] if len(table) < FEW else many[i] for i, table in enumerate(tables)]


def _histograms(axes: Axes, columns: Sequence[np.ndarray], limits: tuple[float, float]) -> None:
    many = [len(column) for column in columns if len(column) >= FEW] or [FEW]
    bins = np.linspace(*limits, int(np.clip(2 * min(many) ** (1 / 3), 8, 40)) + 1)
    styles: tuple[dict[str, Any], ...] = ({"color": TINTS[1], "fill": True, "lw": 0}, {"color": VERMILION, "lw": 1})
    highest = 0.0
    for column, style, place in zip(columns, styles, (0.0, 0.05), strict=True):
        if len(column) < FEW:
            color = BLUE if "fill" in style else VERMILION
            axes.vlines(column, place, place + 0.05, color=color, lw=0.7, transform=axes.get_xaxis_transform())
            continue
        height = np.histogram(column, bins)[0] / len(column) / np.diff(bins)
        axes.stairs(height, bins, **style)
        highest = max(highest, height.max())
    axes.set(xlim=limits, ylim=(0, 1.08 * highest or 1), yticks=[])


def _contours(axes: Axes, pairs: Sequence[np.ndarray], window: Window) -> None:
    data, samples = pairs
    fewest = min(len(points) for points in pairs if len(points) >= FEW or points is samples)
    width = float(np.clip(1.5 * (10_000 / fewest) ** (1 / 6), 1.2, 5))  # of the blur, as narrow as the rows allow
    x, y = window.centres(64)
    if len(data) >= FEW:
        _dots(axes, thin(data, 2_000), 0.8, BLUE, 0.3)
        density = smoothed(data, window, 64, width)
        axes.contourf(x, y, density, levels=[*_rising(density), math.inf], colors=TINTS)
    if len(samples) >= FEW:
        density = smoothed(samples, window, 64, width)
        axes.contour(x, y, density, levels=_rising(density), colors=VERMILION, linewidths=0.9)
    for points, color in zip(pairs, (BLUE, VERMILION), strict=True):
        if len(points) < FEW:
            _dots(axes, points, 8, color, 0.8)
    axes.set(xlim=window.sides[0], ylim=window.sides[1])


def _dots(axes: Axes, points: np.ndarray, size: float, color: str, alpha: float) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=size, color=color, alpha=alpha, linewidths=0, rasterized=True)


def _rising(density: np.ndarray) -> list[float]:
    """The contours' levels, strictly rising: fewer of them where the density has steps."""
    return sorted({level for level in levels(density, ENCLOSED) if level > 0})
