"""The figure of `torus_densities`, and its row of the table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import DENSITY
from experiments.paper import Paper, numbers

CIRCLE = 2 * math.pi


def figure(results: dict[str, Any]) -> Figure:
    pictures, summary = results["seeds"][0]["pictures"], results["summary"]
    picture = Figure(figsize=(6.6, 6.4), layout="constrained")
    grid = picture.subplots(len(pictures), 3, sharex=True, sharey=True)
    for row, (name, images) in zip(grid, pictures.items(), strict=True):
        darkest = max(images["target"])
        for axes, (way, values) in zip(row, images.items(), strict=True):
            image = np.array(values).reshape(2 * (results["config"]["cells"],))
            extent = (0, CIRCLE, 0, CIRCLE)
            axes.imshow(image, origin="lower", extent=extent, cmap=DENSITY, vmin=0, vmax=darkest, aspect="equal")
            axes.set(xticks=(0, math.pi, CIRCLE), yticks=(0, math.pi, CIRCLE))
            axes.set_xticklabels(["0", "π", "2π"], fontsize=7)
            axes.set_yticklabels(["0", "π", "2π"], fontsize=7)
            if way != "target":
                divergence, share = (
                    summary[f"{what}, {way}, {name}"]["mean"] for what in ("KL(p, q)", "effective samples")
                )
                axes.set_title(f"{way}: KL {divergence:.4f}, ESS {share:.3f}", fontsize=8)
            else:
                axes.set_title(f"target: {name}", fontsize=8)
    return picture


PAPER = Paper(
    "Rezende et al. 2020, flows on tori and spheres", "targets on T²",
    "Circular splines fit all of them, to an effective sample size near 1.", "in small",
    "500 steps of two layers; the paper's table could not be read, so there is no number to compare with.",
    read="memory, not checked", arxiv="2002.02428",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """KL and effective sample size of both ways."""
    texts = []
    for way in ("reverse KL", "likelihood"):
        kl, share = (
            numbers(results, [f"{what}, {way}, {name}" for name in results["seeds"][0]["pictures"]], digits)
            for what, digits in (("KL(p, q)", 4), ("effective samples", 3))
        )
        texts.append(f"by {way} KL(p ‖ q) {kl}, effective samples {share}")
    return f"{' / '.join(results['seeds'][0]['pictures'])}: {'; '.join(texts)}"
