"""The figure of `ffjord_toy`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnf.data import toy
from cnf.plotting import DENSITY, style_axes
from experiments.paper import Paper, numbers
from experiments.parts.pictures import unpacked

TITLES = {
    "glow": "Glow", "ffjord": "FFJORD\nas published", "rnode": "RNODE\nregularised", "matching": "cnf by\nOT matching",
    "cnf": "cnf",
}  # fmt: skip


def figure(results: dict[str, Any]) -> Figure:
    config, [seed, *_] = results["config"], results["seeds"]
    sets = config["sets"]
    picture = Figure(figsize=(1.2 * len(sets) + 0.4, 1.38 * (len(TITLES) + 1)), layout="constrained")
    grid = picture.subplots(len(TITLES) + 1, len(sets), squeeze=False)
    for column, name in zip(grid.T, sets, strict=True):
        show(column[0], seed["truth"][name])
        column[0].set_title(name, fontsize=10)
        column[0].set_xlabel(f"entropy {toy(name).entropy:.3f}", fontsize=8)
        cells = [seed["cells"][f"{kind}, {name}"] for kind in TITLES]
        for axes, values in zip(column[1:], cells, strict=True):
            best = values["nll"] == min(each["nll"] for each in cells)
            show(axes, values["density"])
            label = f"{values['nll']:.3f} ({values['seconds']:.0f} s)"
            axes.set_xlabel(label, fontsize=8, weight="bold" if best else "normal")
    for axes, label in zip(grid[:, 0], ["data", *TITLES.values()], strict=True):
        axes.set_ylabel(label, fontsize=9)
    return picture


def show(axes: Axes, text: str) -> None:
    axes.imshow(unpacked(text), origin="lower", cmap=DENSITY, vmin=0, vmax=255, interpolation="bilinear")
    style_axes(axes, image=True)


PAPER = Paper(
    "Grathwohl et al. 2019, FFJORD", "figure 2",
    "A continuous flow fits modes that lie apart and edges, where Glow leaves bridges between them.", "not reproduced",
    "340 of the paper's 10,000 steps, so FFJORD's row is the opposite of the paper's; cells have unequal seconds; one "
    "seed. Rows of `cnf` are of version 0.1.",
    read="the paper", arxiv="1810.01367",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """KL of every cell."""
    sets = results["config"]["sets"]
    rows = [f"{name} {numbers(results, [f'KL, {kind}, {name}' for kind in TITLES], 2)}" for name in sets]
    return f"KL of {' / '.join(TITLES)}: {'; '.join(rows)}"
