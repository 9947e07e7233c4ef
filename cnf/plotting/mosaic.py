"""Images in a grid."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cnf.arguments import Size, checked
from cnf.plotting.style import Values, as_numpy


@checked
def image_figure(images: Values, *, columns: Size = 10) -> Figure:
    """Draw images in a grid, row by row.

    Args:
        images: Grey `(N, 1, H, W)` or coloured `(N, 3, H, W)`, with values in [0, 1].
        columns: Images per row.

    Returns:
        The figure.

    Raises:
        ValueError: Another shape, no images, or values outside [0, 1].

    Example:
        >>> import torch, cnf
        >>> figure = cnf.plotting.image_figure(torch.rand(20, 1, 8, 8))
        >>> print(figure.get_figwidth(), "inches wide")
        6.0 inches wide
    """
    pixels = as_numpy(images)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.size:
        raise ValueError(f"images must be (N, 1, H, W) or (N, 3, H, W) and not empty, got {pixels.shape}")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # NaN, too, ends here
        raise ValueError(f"images must have values in [0, 1], got {low:.4g} to {high:.4g}: scale or clamp them")
    grid = mosaic(pixels, min(columns, len(pixels)))
    height, width, _ = grid.shape
    inches = max(2, 0.6 * min(columns, len(pixels)))
    figure = Figure(figsize=(inches, inches * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(grid, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images side by side on white, `(H, W, 3)`."""
    n, _, height, width = images.shape
    gap, rows = max(1, height // 16), -(-n // columns)
    cells = np.ones((rows * columns, 3, height + gap, width + gap))
    cells[:n, :, :height, :width] = images
    grid = cells.reshape(rows, columns, 3, height + gap, width + gap).transpose(0, 3, 1, 4, 2)
    return grid.reshape(rows * (height + gap), columns * (width + gap), 3)[:-gap, :-gap]
