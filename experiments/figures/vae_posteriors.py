"""The figure of `vae_posteriors`, and its row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, PALETTE, style_axes
from experiments.paper import Paper, number

LABELS = {"-ELBO": "−ELBO", "-log p": "−log p, first 200 images"}


def figure(results: dict[str, Any]) -> Figure:
    config, summary = results["config"], results["summary"]
    names = config["posteriors"]
    picture = Figure(figsize=(8.5, 3), layout="constrained")
    bounds, evaluations = picture.subplots(1, 2)
    for key, colour, shift in (("-ELBO", BLUE, -0.12), ("-log p", GREY, 0.12)):
        found = [summary[f"{name}, {key}"] for name in names]
        errors = [2 * (each["standard_error"] or 0) for each in found]
        places = np.arange(len(names)) + shift
        bounds.errorbar(
            places, [each["mean"] for each in found], errors, fmt="o", color=colour, label=LABELS[key], capsize=2
        )
    bounds.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    bounds.set(ylabel="nats an image, held out", title="posteriors")
    bounds.legend(frameon=False, fontsize=7)
    for latent, colour in zip(config["latents"], PALETTE, strict=False):
        curve = np.array(results["seeds"][0]["evaluations"][str(latent)])
        evaluations.plot(*curve.T, color=colour, lw=1.4, label=f"{latent} latent dimensions")
    evaluations.set(xlabel="steps", ylabel="evaluations of the field", title="continuous posterior")
    evaluations.legend(frameon=False, fontsize=7)
    style_axes(bounds, evaluations)
    return picture


PAPER = (
    Paper(
        "Grathwohl et al. 2019, FFJORD", "table 3",
        "−ELBO of a variational autoencoder of MNIST: none, planar, IAF, Sylvester, FFJORD.", "in small",
        "Flows but planar gain 1.3 to 1.5 nats; planar none; continuous and IAF are equal within two standard errors. "
        "After 600 steps of AdamW on 14 × 14 pixels, far from the end, at settings chosen by these numbers; "
        "by Muon all are 7 nats better and in another order.",
        value="86.55, 86.06, 84.20, 83.32, 82.82", read="the paper", arxiv="1810.01367",
    ),
    Paper(
        "Grathwohl et al. 2019, FFJORD", "figure 5",
        "The evaluations of the solver hardly depend on the dimension.", "in small", "One seed, 600 steps.",
        read="memory, not checked", arxiv="1810.01367",
    ),
)  # fmt: skip


def ours(results: dict[str, Any]) -> tuple[str, str]:
    """Bounds of each posterior; evaluations of each dimension at the end."""
    config = results["config"]
    found = [
        f"{name} {number(results, f'{name}, -ELBO', 2)} / {number(results, f'{name}, -log p', 2)}"
        for name in config["posteriors"]
    ]
    ends = [f"{latent}: {number(results, f'evaluations, {latent}', 1)}" for latent in config["latents"]]
    return (
        f"−ELBO / −log p of the first 200 images, nats: {'; '.join(found)}",
        f"evaluations at the end, {'; '.join(ends)}",
    )
