"""Pictures on a page: images, and densities on the plane."""

from __future__ import annotations

import io

import numpy as np
import torch
from matplotlib.figure import Figure

from cnf.data.sources import Source
from cnf.flows import Flow
from cnf.plotting.images import TEMPERATURES, classes_shown, neighbours_figure, samples_figure, shades
from cnf.plotting.mosaic import image_figure
from cnf.plotting.plane import compare
from cnf.plotting.report.charts import grid
from cnf.plotting.report.markup import Html, both, element, joined, paragraph, picture
from cnf.plotting.report.rows import Part, part_of, quick

IMAGES = 60  # in a grid
ACROSS = 10
PAIRS = 4  # of images with others between them
POINTS, RESOLUTION = 4_000, 140  # of a picture on the plane


def png(figure: Figure, dpi: int) -> bytes:
    """A figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def density_section(flow: Flow, source: Source) -> Html:
    """Data, density and samples on the plane: in a row, and in two rows on narrow screens."""
    toy = source.toy
    exact = toy.log_prob if toy is not None and toy.density is not None else None
    x = part_of(source.test, POINTS).x
    generator = torch.Generator().manual_seed(0)
    compared = compare("the page", quick(flow), x, None, exact, POINTS, RESOLUTION, generator)
    columns = ("", "") if toy else source.columns
    wide, narrow = (png(compared.figure(columns, across), 130) for across in (4, 2))
    names = ["data", *(["exact density"] if exact else []), "learned density", "samples"]
    alt = f"{len(x)} held-out points, {', '.join(names[1:-1])} and samples of the model on the same part of the plane."
    return joined(
        paragraph("All panels show the same part of the plane, with one scale of colours."), both(wide, narrow, alt)
    )


def images_section(flow: Flow, test: Part, log_prob: np.ndarray) -> Html:
    """Images of the data beside samples, and the least likely ones of the data."""
    classes = classes_shown(flow.transform.context_dim or 0)
    grid_of_samples = samples_figure(
        flow, rows=IMAGES // ACROSS, columns=ACROSS, context=classes, generator=torch.Generator().manual_seed(0)
    )
    noise = torch.Generator().manual_seed(0)
    colder = samples_figure(flow, columns=ACROSS, context=classes, temperatures=TEMPERATURES, generator=noise)
    some = 2 * PAIRS
    conditions = None if test.context is None else test.context[:some]
    between = neighbours_figure(flow, test.x[:some], conditions, generator=torch.Generator().manual_seed(0))
    order = np.argsort(np.nan_to_num(log_prob, nan=np.inf), kind="stable")[: 2 * ACROSS].tolist()
    figures = [
        _images("held-out images", _grid(flow, test.x[:IMAGES])),
        _images("samples, of a class in each column" if classes is not None else "samples", grid_of_samples),
        _images("the least likely held-out images, the least likely first", _grid(flow, test.x[order])),
        _images(f"the same noise times {', '.join(map(str, TEMPERATURES))}", colder),
        _images("images between the held-out images at both ends", between),
    ]
    return joined(paragraph("Samples should look like new images of the data."), grid(figures, "half"))


def _grid(flow: Flow, images: torch.Tensor) -> Figure:
    return image_figure(shades(flow, images), columns=ACROSS)


def _images(name: str, figure: Figure) -> Html:
    alt = f"A grid of images: {name}."
    return element("figure", element("figcaption", name), picture(png(figure, 72), alt, class_="pixels"))
