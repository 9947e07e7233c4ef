"""Pictures of flows and their data.

Each function returns a new `matplotlib.figure.Figure`. pyplot and its global state are not used, so no display is
needed. `save_figure` writes a figure, `path_animation` and `images_animation` write a GIF.
"""

from cnf.plotting.animation import images_animation, path_animation
from cnf.plotting.corner import corner_figure
from cnf.plotting.images import (
    TEMPERATURES,
    classes_shown,
    interpolation_figure,
    neighbours_figure,
    samples_figure,
)
from cnf.plotting.inference import coverage_figure, ranks_figure, weights_figure
from cnf.plotting.mosaic import image_figure
from cnf.plotting.plane import fit_figure, trajectory_figure
from cnf.plotting.report import flow_report, table_report
from cnf.plotting.style import (
    BLUE,
    DENSITY,
    FORMATS,
    GREY,
    INK,
    PALETTE,
    VERMILION,
    cell_centres,
    save_figure,
    style_axes,
)
from cnf.plotting.training import training_figure

__all__ = [
    "BLUE",
    "DENSITY",
    "FORMATS",
    "GREY",
    "INK",
    "PALETTE",
    "TEMPERATURES",
    "VERMILION",
    "cell_centres",
    "classes_shown",
    "corner_figure",
    "coverage_figure",
    "fit_figure",
    "flow_report",
    "image_figure",
    "images_animation",
    "interpolation_figure",
    "neighbours_figure",
    "path_animation",
    "ranks_figure",
    "samples_figure",
    "save_figure",
    "style_axes",
    "table_report",
    "training_figure",
    "trajectory_figure",
    "weights_figure",
]
