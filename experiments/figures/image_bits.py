"""The figure of `image_bits`, and its row of the table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import PALETTE, style_axes
from experiments.paper import Paper, number

LEVELS = {"digits": 17, "mnist14": 256}
SIDES = {"digits": 8, "mnist14": 14}


def figure(results: dict[str, Any]) -> Figure:
    config, first = results["config"], results["seeds"][0]
    data = [name for name in config["data"] if any(key.startswith(name) for key in first["curves"])]
    picture = Figure(figsize=(9, 3.4 * len(data)), layout="constrained")
    for row, part in zip(data, picture.subfigures(len(data), 1, squeeze=False)[:, 0], strict=True):
        left, right = part.subfigures(1, 2, width_ratios=(1, 1))
        _curves(left, row, results)
        _samples(right, row, results)
    return picture


def _curves(part: Any, name: str, results: dict[str, Any]) -> None:
    axes = part.subplots()
    for model, colour in zip(results["config"]["models"], PALETTE, strict=False):
        for seed in results["seeds"]:
            curve = seed["curves"][f"{name} {model}"]
            axes.plot(curve["seconds"], curve["bits"], color=colour, linewidth=1, alpha=0.8)
            axes.plot(curve["seconds"][-1], seed[f"{name} {model}"], "o", color=colour, markersize=4)
        axes.plot([], [], color=colour, label=model)
    seen = [
        seed["curves"][f"{name} {model}"]["bits"] for seed in results["seeds"] for model in results["config"]["models"]
    ]
    axes.set_ylim(0.97 * min(map(min, seen)), 1.05 * max(np.quantile(bits, 0.8) for bits in seen))
    axes.set(
        xlabel="seconds of one core", ylabel="bits/dim", title=f"{name}; uniform noise: {math.log2(LEVELS[name]):.2f}"
    )
    axes.legend(frameon=False, fontsize=7)
    style_axes(axes)


def _samples(part: Any, name: str, results: dict[str, Any]) -> None:
    models, pictures = results["config"]["models"], results["seeds"][0]["pictures"]
    side = SIDES[name]
    for axes, model in zip(part.subplots(len(models), 1, squeeze=False)[:, 0], models, strict=True):
        images = np.array(pictures[f"{name} {model}"]).reshape(-1, side, side)
        axes.imshow(np.hstack(np.pad(images, ((0, 0), (1, 1), (1, 1)))), cmap="gray", interpolation="nearest")
        axes.set_title(model, loc="left")
        style_axes(axes, image=True)


PAPER = Paper(
    "Grathwohl et al. 2019, FFJORD; Finlay et al. 2020, RNODE", "tables 2 and 1",
    "FFJORD has fewer bits/dim than RealNVP and Glow, several scales fewer than one; RNODE is trained 2.8 times sooner.",
    "not reproduced",
    "Minutes of one core are tens of steps for FFJORD and RNODE, too few for the claims; the paper's models are trained "
    "for days of several GPUs on 28 × 28 pixels.",
    "MNIST: RealNVP 1.06, Glow 1.05, FFJORD 0.99 (one scale 1.05), RNODE 0.97", "the paper", "1810.01367",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    keys = [key for key in results["seeds"][0] if key not in ("curves", "pictures")]
    texts = [f"{key} {number(results, key)}" for key in keys]
    return f"bits/dim after {results['config']['seconds']:.0f} s of one core: {', '.join(texts)}"
