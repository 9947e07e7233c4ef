"""The figure of `sphere_flows`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from cnf.plotting import BLUE, DENSITY, VERMILION, style_axes
from experiments.paper import Paper, numbers

FAMILIES = ("translation", "affine")


COLOURS = {"translation": "0.5", "affine": BLUE, "continuous": VERMILION}


def figure(results: dict[str, Any]) -> Figure:
    config, [seed, *_] = results["config"], results["seeds"]
    names, layers = config["targets"], config["layers"]
    maps = [("translation", layers[-1]), ("affine", layers[0]), ("affine", layers[-1]), ("continuous", 1)]
    picture = Figure(figsize=(13, 1.55 * len(names) + 0.5), layout="constrained")
    grid = picture.add_gridspec(len(names), 7, width_ratios=[1, 1, 1.9, 1.9, 1.9, 1.9, 1.6])
    for i, name in enumerate(names):
        target, fits = seed["targets"][name], seed["fits"][name]
        darkest = np.quantile(target, 0.99)
        for j, density in enumerate((target, fits["continuous 1"]["density"])):
            axes = picture.add_subplot(grid[i, j])
            globe(axes, density, darkest)
            axes.set_title(("target", "continuous")[j] if i == 0 else "", fontsize=9)
            if j == 0:
                axes.set_ylabel(name, fontsize=9)
        for j, (family, k) in enumerate(maps):
            axes = picture.add_subplot(grid[i, j + 2], projection="mollweide")
            flat(axes, fits[f"{family} {k}"]["density"], darkest)
            axes.set_title(title(family, k, fits[f"{family} {k}"]["parameters"]) if i == 0 else "", fontsize=9)
        curves(picture.add_subplot(grid[i, 6]), fits, layers, last=i == len(names) - 1, first=i == 0)
    return picture


def title(family: str, layers: int, parameters: int) -> str:
    kind = "continuous" if family == "continuous" else f"{layers} {family}{'s' if family != 'affine' else ''}"
    return f"{kind}, {parameters:,} parameters"


def as_map(density: list[int]) -> np.ndarray:
    cells = round((len(density) / 2) ** 0.5)
    return np.array(density).reshape(cells, 2 * cells)


def globe(axes: Axes, density: list[int], darkest: float) -> None:
    """The half of the sphere that one sees from above longitude 30 and latitude 25 degrees."""
    field, (lon, lat) = as_map(density), np.radians([30, 25])
    u, v = np.meshgrid(*2 * [np.linspace(-1, 1, 300)])
    towards = np.sqrt(np.clip(1 - u**2 - v**2, 0, None))
    x, z = towards * np.cos(lat) - v * np.sin(lat), towards * np.sin(lat) + v * np.cos(lat)
    longitude, latitude = np.arctan2(u, x) + lon, np.arcsin(np.clip(z, -1, 1))
    rows = np.clip((latitude / np.pi + 0.5) * len(field), 0, len(field) - 1).astype(int)
    columns = ((longitude / np.pi + 1) * len(field)).astype(int) % (2 * len(field))
    seen = np.where(u**2 + v**2 <= 1, field[rows, columns], np.nan)
    axes.imshow(seen, origin="lower", extent=(-1, 1, -1, 1), cmap=DENSITY, vmin=0, vmax=darkest)
    axes.add_patch(Circle((0, 0), 1, fill=False, lw=0.6, color="0.5"))
    axes.set(xticks=[], yticks=[], xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))
    axes.spines[:].set_visible(False)


def flat(axes: Axes, density: list[int], darkest: float) -> None:
    field = as_map(density)
    latitude, longitude = (np.pi * (np.arange(n + 1) / n - 0.5) * n / len(field) for n in field.shape)
    axes.pcolormesh(longitude, latitude, field, cmap=DENSITY, vmin=0, vmax=darkest, rasterized=True)
    style_axes(axes, image=True)


def curves(axes: Axes, fits: dict[str, Any], layers: list[int], *, first: bool, last: bool) -> None:
    for family in FAMILIES:
        kls = [fits[f"{family} {k}"]["kl"] for k in layers]
        axes.plot(layers, kls, "o-", ms=3, lw=1.2, color=COLOURS[family], label=family)
    axes.axhline(fits["continuous 1"]["kl"], color=COLOURS["continuous"], lw=1.2, label="continuous")
    axes.set(xscale="log", yscale="log", xticks=layers, ylim=(1e-3, 3))
    axes.set_xticklabels(layers if last else [])
    axes.minorticks_off()
    style_axes(axes)
    if first:
        axes.set_title("KL(p ‖ q), nats", fontsize=9)
    if last:
        axes.set_xlabel("layers", fontsize=8)
        axes.legend(frameon=False, fontsize=7)


PAPER = Paper(
    "", "", "How close do chains of simple maps of the sphere come to a density, and a continuous flow?", "measured",
    "Targets of our own, in the manner of Rezende et al. 2020; no number of a paper to compare with.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """KL of every flow on every target."""
    layers = results["config"]["layers"]
    flows = [*(f"{family} {k}" for family in FAMILIES for k in layers), "continuous 1"]
    rows = [
        f"{name} {numbers(results, [f'{name}, {flow}: kl' for flow in flows])}" for name in results["config"]["targets"]
    ]
    return f"KL(p ‖ q) of {' / '.join(flows)}: {'; '.join(rows)}"
