"""Colours, axes and files of all pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from torch import Tensor

from cnf.arguments import Count, Finite, Positive, checked
from cnf.files import write_bytes

Values = Tensor | np.ndarray
FORMATS = ("png", "pdf", "svg", "jpg", "webp")
BLUE, VERMILION = "#0072b2", "#d55e00"  # from the palette of Okabe and Ito, told apart by all eyes
INK, GREY = "#1d3c80", "0.4"
PALETTE = (BLUE, VERMILION, "#009e73", "#e69f00", "#cc79a7", "#56b4e9", INK, GREY)  # of Okabe and Ito, and our two
# From white through blue to night in equal steps along a curve in Oklab: uniform to the eye, lightness falls linearly.
NIGHT = (
    "#ffffff", "#cdedff", "#9fd8ff", "#76bffc", "#52a4ef", "#3889dc", "#286dc2", "#2153a3", INK, "#17285c", "#0f1738",
)  # fmt: skip
DENSITY = LinearSegmentedColormap.from_list("density", NIGHT)


def style_axes(*panels: Axes, image: bool = False) -> None:
    """Give axes the look of the package's pictures: small ticks, and lines at the left and below only.

    Args:
        panels: The axes.
        image: Whether they show an image, which needs no ticks and a thin frame.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> style_axes(axes)
        >>> [name for name, line in axes.spines.items() if line.get_visible()]
        ['left', 'bottom']
    """
    for axes in panels:
        axes.title.set_fontsize(9)
        if image:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(linewidth=0.6, color="0.6")
        else:
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_fontsize(8)


@checked
def cell_centres(extent: tuple[Finite, Finite, Finite, Finite], cells: tuple[Count, Count]) -> Tensor:
    """Centres of the cells of a grid on the plane, the lowest row first, as `imshow(origin="lower")` takes it.

    Args:
        extent: Left, right, bottom and top edge.
        cells: Number of columns and of rows.

    Returns:
        `(rows · columns, 2)`.

    Example:
        >>> cell_centres((0, 2, 0, 1), (2, 1))
        tensor([[0.5000, 0.5000],
                [1.5000, 0.5000]])
    """
    left, right, bottom, top = extent
    columns, rows = cells
    x = left + (torch.arange(columns) + 0.5) * (right - left) / columns
    y = bottom + (torch.arange(rows) + 0.5) * (top - bottom) / rows
    return torch.cartesian_prod(y, x).flip(1)


@checked
def save_figure(figure: Figure, path: str | Path, *, dpi: Positive = 150) -> Path:
    """Write a figure to a file; a missing folder is made, and an error leaves no incomplete file.

    Args:
        figure: The figure.
        path: The file, ending in .png, .pdf, .svg, .jpg or .webp.
        dpi: Pixels per inch.

    Returns:
        The path.

    Raises:
        ValueError: An unknown suffix.

    Example:
        >>> import tempfile, torch, cnf
        >>> figure = cnf.plotting.image_figure(torch.rand(4, 1, 8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(save_figure(figure, f"{folder}/samples.png").name)
        samples.png
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ValueError(f"cannot write a figure as {path.name!r}: the suffix must be one of .{', .'.join(FORMATS)}")
    file = io.BytesIO()
    figure.savefig(file, format=suffix, dpi=dpi)
    write_bytes(path, file.getvalue())
    return path


def as_numpy(values: Values) -> np.ndarray:
    """An array of float64."""
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def as_table(name: str, values: Values) -> np.ndarray:
    """An array `(N, D)` of finite numbers; anything else is a ValueError under this name."""
    rows = as_numpy(values)
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


def tidy(axes: Axes, ticks: int) -> None:
    """Thin grey axes with few small tick labels."""
    axes.spines[:].set(linewidth=0.6, color=GREY)
    axes.tick_params(labelsize=7, length=2.5, width=0.6, color=GREY, labelcolor="0.25")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]) if ticks else NullLocator())


def short_name(name: str, room: int = 30) -> str:
    """A name of at most `room` characters; a dollar sign starts no formula."""
    name = name if len(name) <= room else name[: room - 1] + "…"
    return name.replace("$", r"\$")
