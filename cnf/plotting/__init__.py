"""Pictures of flows and their data: the only folder that imports matplotlib.

Every function returns a `matplotlib.figure.Figure` of its own, without pyplot and its global state, so that pictures
can be made anywhere, with or without a display. `save_figure` writes them, `path_animation` writes a GIF.
"""

from cnf.plotting.animation import path_animation
from cnf.plotting.corner import corner_figure
from cnf.plotting.mosaic import image_figure
from cnf.plotting.plane import fit_figure, trajectory_figure
from cnf.plotting.style import BLUE, DENSITY, FORMATS, GREY, INK, VERMILION, save_figure
from cnf.plotting.training import training_figure

__all__ = [
    "BLUE",
    "DENSITY",
    "FORMATS",
    "GREY",
    "INK",
    "VERMILION",
    "corner_figure",
    "fit_figure",
    "image_figure",
    "path_animation",
    "save_figure",
    "training_figure",
    "trajectory_figure",
]
