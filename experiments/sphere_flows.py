"""Three densities on the sphere fitted by chains of normalised translations and affine maps, and by continuous flows.

Targets with exact densities: four von Mises-Fisher peaks, a ring, a checkerboard. Flows: 1, 4 and 16 normalised
translations, 1, 4 and 16 normalised affine maps, one continuous flow, all on the uniform density and by likelihood.
Figure of our own, in the manner of Rezende et al. 2020 (arXiv 2002.02428), figure 3. Claim: longer chains come closer,
affine maps more than translations, and the continuous flow closest: KL(p ‖ q) 0.23 and 0.03 nats on the peaks, 0.04 and
0.01 on the ring, for 16 affine maps and the continuous flow. No chain sees the checkerboard (0.69, as uniform has), of
which the continuous flow finds the squares but not their edges (0.45). Under two minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor
from tqdm import tqdm

import cnf
from cnf.distributions import SphereUniform, VonMisesFisher
from cnf.manifolds import NormalizedAffine, NormalizedTranslation, Sphere
from cnf.metrics import log_prob_of_rows, mean_and_error
from cnf.plotting import BLUE, DENSITY, VERMILION
from experiments.run import run


@dataclass(frozen=True)
class Config:
    targets: tuple[str, ...] = ("peaks", "ring", "checkerboard")
    layers: tuple[int, ...] = (1, 4, 16)
    rows: int = 20_000
    steps: int = 400  # of a chain
    rate: float = 2e-2
    matching_steps: int = 1_000  # of the continuous flow, along geodesics
    likelihood_steps: int = 60
    hidden: int = 64
    frequency: float = 8.0
    test: int = 20_000
    cells: int = 48  # of the pictures, from pole to pole
    seed: int = 0


FLAT = -float(np.log(4 * np.pi))
PEAKS = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
RING = torch.tensor([0.5, -0.4, 0.77])
WIDTH, BANDS, SECTORS = 0.1, 6, 8
FAMILIES: dict[str, Callable[[], cnf.Transform]] = {
    "translation": lambda: NormalizedTranslation(3),
    "affine": lambda: NormalizedAffine(3),
}
COLOURS = {"translation": "0.5", "affine": BLUE, "continuous": VERMILION}


def peaks(x: Tensor) -> Tensor:
    """The log-density of four von Mises-Fisher peaks of concentration 20 at the corners of a tetrahedron."""
    each = torch.stack([VonMisesFisher(mean, 20.0).log_prob(x).detach() for mean in PEAKS])
    return each.logsumexp(0) - np.log(4)


def ring(x: Tensor) -> Tensor:
    """The log-density that falls like a normal one with the height above a small circle, of deviation `WIDTH`."""
    axis, centre = RING / RING.norm(), 0.4
    normal = torch.distributions.Normal(centre, WIDTH)
    mass = normal.cdf(torch.tensor(1.0)) - normal.cdf(torch.tensor(-1.0))
    return normal.log_prob(x @ axis) - mass.log() - np.log(2 * np.pi)


def checkerboard(x: Tensor) -> Tensor:
    """The log-density of the black squares, of equal areas, of a board; e⁻¹⁰⁰ on the white ones."""
    band = ((x[:, 2] + 1) / 2 * BANDS).floor().clamp(0, BANDS - 1)
    sector = (torch.atan2(x[:, 1], x[:, 0]) / (2 * np.pi) * SECTORS).floor()
    return torch.where((band + sector) % 2 == 0, FLAT + float(np.log(2)), -100.0)


TARGETS = {"peaks": peaks, "ring": ring, "checkerboard": checkerboard}


def samples(log_prob: Callable[[Tensor], Tensor], n: int) -> Tensor:
    """Draw from a density on the sphere by rejection from the uniform one."""
    bound, kept = log_prob(Sphere(3).sample(100_000)).max() + 0.1, torch.empty(0, 3)
    while len(kept) < n:
        x = Sphere(3).sample(100_000)
        kept = torch.cat([kept, x[torch.rand(len(x)).log() < log_prob(x) - bound]])
    return kept[:n]


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    fits: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in config.targets}
    flows = [*((family, k) for family in FAMILIES for k in config.layers), ("continuous", 1)]
    for name, family, k in tqdm([(name, *flow) for name in config.targets for flow in flows], desc="fits", unit="fit"):
        fits[name][f"{family} {k}"] = fitted(config, TARGETS[name], family, k)
    maps = {name: image(TARGETS[name], config.cells) for name in config.targets}
    numbers = {f"{name}, {flow}: kl": fit["kl"] for name, all_ in fits.items() for flow, fit in all_.items()}
    return {"fits": fits, "targets": maps, **numbers}


def fitted(config: Config, target: Callable[[Tensor], Tensor], family: str, layers: int) -> dict[str, Any]:
    """How close a flow comes to the target, `KL(p ‖ q)` in nats, and what it looks like."""
    torch.manual_seed(config.seed)
    x, test = samples(target, config.rows), samples(target, config.test)
    flow = made(config, family, layers)
    phases = recipe(config, family)
    steps = sum(int(phase.share) for phase in phases)
    settings = cnf.FitConfig(steps=steps, batch_size=512, patience=None, seed=config.seed, progress=False)
    result = cnf.fit(flow, x, phases, config=settings)
    kl = mean_and_error(target(test) - log_prob_of_rows(flow, test))
    return {
        "kl": round(kl.mean, 4), "kl_standard_error": round(kl.standard_error, 4), "seconds": round(result.seconds, 1),
        "parameters": sum(p.numel() for p in flow.parameters()),
        "density": image(lambda x: log_prob_of_rows(flow, x), config.cells),
    }  # fmt: skip


def made(config: Config, family: str, layers: int) -> cnf.Flow:
    if family == "continuous":
        return cnf.build("sphere_cnf", 3, hidden=config.hidden, frequency=config.frequency)
    return cnf.Flow(cnf.Compose([FAMILIES[family]() for _ in range(layers)]), SphereUniform(3))


def recipe(config: Config, family: str) -> list[cnf.Phase]:
    """Phases whose shares are their steps."""
    if family != "continuous":
        return [cnf.Phase(share=config.steps, learning_rate=config.rate)]
    loose = cnf.RungeKutta("dopri5", rtol=1e-2, atol=1e-2)
    geodesics = cnf.FlowMatching(cnf.GeodesicPath(Sphere(3)))
    return [
        cnf.Phase(geodesics, share=config.matching_steps, learning_rate=1e-2, optimizer="muon"),
        cnf.Phase(share=config.likelihood_steps, solver=loose, learning_rate=5e-3, optimizer="muon"),
    ]


@torch.no_grad()
def image(log_prob: Callable[[Tensor], Tensor], cells: int) -> list[int]:
    """The density in thousandths at the middle of cells of equal angles, from the south-west, row by row."""
    latitude, longitude = (torch.pi * ((torch.arange(n) + 0.5) / cells - n / (2 * cells)) for n in (cells, 2 * cells))
    lat, lon = torch.cartesian_prod(latitude, longitude).mT
    x = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], 1)
    return [round(1000 * value) for value in log_prob(x).exp().tolist()]


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
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.6, color="0.5")


def curves(axes: Axes, fits: dict[str, Any], layers: list[int], *, first: bool, last: bool) -> None:
    for family in FAMILIES:
        kls = [fits[f"{family} {k}"]["kl"] for k in layers]
        axes.plot(layers, kls, "o-", ms=3, lw=1.2, color=COLOURS[family], label=family)
    axes.axhline(fits["continuous 1"]["kl"], color=COLOURS["continuous"], lw=1.2, label="continuous")
    axes.set(xscale="log", yscale="log", xticks=layers, ylim=(1e-3, 3))
    axes.set_xticklabels(layers if last else [])
    axes.minorticks_off()
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if first:
        axes.set_title("KL(p ‖ q), nats", fontsize=9)
    if last:
        axes.set_xlabel("layers", fontsize=8)
        axes.legend(frameon=False, fontsize=7)


if __name__ == "__main__":
    run(
        "sphere_flows", Config(), compute, figure,
        {
            "layers": (1, 2), "rows": 1_000, "steps": 20, "matching_steps": 20, "likelihood_steps": 3, "hidden": 16,
            "test": 500, "cells": 16,
        },
    )  # fmt: skip
