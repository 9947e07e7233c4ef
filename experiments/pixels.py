"""Whether a figure, drawn again, is the picture in a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cnf.plotting import save_figure

SAME, ALIKE = 0.05, 4.0  # mean difference in levels of 255: by the same matplotlib, by another one


def differ(figure: Figure, path: Path) -> str:
    """The reason why they are not the same, empty if they are.

    Another version of matplotlib sets type and edges a little otherwise: then pictures an eighth as large are compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        drawn = Image.open(save_figure(figure, Path(folder) / path.name))
        drawn.load()
    kept = Image.open(path)
    exact = drawn.info.get("Software") == kept.info.get("Software")
    if not exact:
        size = tuple(max(1, side // 8) for side in kept.size)
        drawn, kept = drawn.resize(size, Image.Resampling.BOX), kept.resize(size, Image.Resampling.BOX)
    if drawn.size != kept.size:
        return f"has {kept.size} pixels, drawn again {drawn.size}"
    levels = [np.asarray(image.convert("RGB"), dtype=float) for image in (drawn, kept)]
    gap = np.abs(levels[0] - levels[1]).mean()
    return "" if gap <= (SAME if exact else ALIKE) else f"differs by {gap:.2f} levels on average from what is drawn now"
