"""Densities on the plane: continuous flows trained in four ways and Glow, all for the same seconds.

Grathwohl et al. 2019 (arXiv 1810.01367), figure 2, on all of the authors' toys that have a density. Claim: a continuous
flow fits modes that lie apart and edges, where Glow leaves bridges between them. After about 8 seconds of one core,
a small part of the paper's 10,000 steps, the default comes closest on all sets but checkerboard, where Glow does, and
FFJORD's own recipe has hardly begun. 6 minutes of one core; `folder=...` keeps the cells of an interrupted run.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor
from tqdm import tqdm

import cnf
from cnf.data import TOYS, Toy, toy
from cnf.files import write_json
from cnf.metrics import log_prob_of_rows, mean_and_error
from cnf.plotting import DENSITY
from experiments.run import run


@dataclass(frozen=True)
class Config:
    sets: tuple[str, ...] = tuple(name for name, source in TOYS.items() if source.density)
    budget: float = 0.4  # times the steps of each model, which take it about as long as any other
    rows: int = 100_000
    test_rows: int = 5_000
    cells: int = 100  # of the pictures, along a side
    folder: str = ""  # keeps finished cells, so that a run that was cut goes on, or two share the work
    seed: int = 0


@dataclass(frozen=True)
class Model:
    title: str
    name: str  # in cnf.MODELS, trained by its own recipe
    steps: int
    objective: cnf.FlowMatching | None = None
    settings: tuple[tuple[str, Any], ...] = ()


PUBLISHED = (("batch_size", 100), ("weight_decay", 1e-5), ("warmup", 0), ("clip", 0.0), ("ema", 0.0))
MODELS = {  # theirs: 10,000 steps of FFJORD, 100 layers of Glow
    "glow": Model("Glow", "glow", 1_200),
    "ffjord": Model("FFJORD\nas published", "ffjord", 850, settings=PUBLISHED),
    "rnode": Model("RNODE\nregularised", "rnode", 1_000),
    "matching": Model("cnf by\nOT matching", "cnf", 2_800, cnf.FlowMatching(coupling=cnf.OptimalTransport(group=128))),
    "cnf": Model("cnf", "cnf", 1_000),
}
EDGE = 4.4  # half a side of the pictures


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    cells = {}
    for name in tqdm(config.sets, desc="sets"):
        for kind, model in MODELS.items():
            path = Path(config.folder, f"{kind}-{name}-{config.budget:g}-{config.seed}.json")
            if not (config.folder and path.exists()):
                made = cell(config, toy(name), model)
                if config.folder:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_json(path, made)
            cells[f"{kind}, {name}"] = made if not config.folder else json.loads(path.read_text())
    truth = {name: packed(toy(name), toy(name).log_prob(centres(config.cells))) for name in config.sets}
    return {"truth": truth, "cells": cells, **{f"KL, {key}": values["kl"] for key, values in cells.items()}}


def cell(config: Config, source: Toy, model: Model) -> dict[str, Any]:
    """One model on one set. NLL is entropy + KL(data ‖ model), both of which vary less than its mean over the rows."""
    torch.manual_seed(config.seed)
    draw = Generator().manual_seed(config.seed)
    train, validation, test = (source.sample(n, generator=draw) for n in (config.rows, 2_000, config.test_rows))
    flow = cnf.build(model.name, 2)
    steps = max(1, round(config.budget * model.steps))
    settings = cnf.FitConfig(steps=steps, checks=5, patience=None, seed=config.seed, **dict(model.settings))
    begun = time.process_time()
    cnf.fit(flow, train, model.objective, validation=validation, config=settings)
    seconds = time.process_time() - begun
    with cnf.count_evaluations() as count:
        gap = mean_and_error(source.log_prob(test.double()) - log_prob_of_rows(flow, test).double())
    return {
        "kl": round(gap.mean, 4), "kl_standard_error": round(gap.standard_error, 4),
        "nll": round((source.entropy or 0.0) + gap.mean, 4),
        "evaluations": round(count.evaluations / count.solves) if count.solves else 0,
        "steps": steps, "seconds": round(seconds, 1),
        "density": packed(source, log_prob_of_rows(flow, centres(config.cells))),
    }  # fmt: skip


def centres(cells: int) -> Tensor:
    """The middles of a picture's cells, the lowest row first, `(cells², 2)`."""
    side = EDGE * ((2 * torch.arange(cells) + 1) / cells - 1)
    return torch.cartesian_prod(side, side).flip(1)


def packed(source: Toy, log_prob: Tensor) -> str:
    """A density as text, a byte a cell: 200 is the largest density of the data."""
    largest = source.log_prob(source.sample(10_000, generator=Generator().manual_seed(0))).max().exp()
    shades = (200 * log_prob.exp() / largest).clamp(max=255).round().to(torch.uint8)
    return base64.b64encode(zlib.compress(shades.numpy().tobytes(), 9)).decode()


def figure(results: dict[str, Any]) -> Figure:
    config, [seed, *_] = results["config"], results["seeds"]
    sets = config["sets"]
    picture = Figure(figsize=(1.2 * len(sets) + 0.4, 1.38 * (len(MODELS) + 1)), layout="constrained")
    grid = picture.subplots(len(MODELS) + 1, len(sets), squeeze=False)
    for column, name in zip(grid.T, sets, strict=True):
        show(column[0], seed["truth"][name])
        column[0].set_title(name, fontsize=10)
        column[0].set_xlabel(f"entropy {toy(name).entropy:.3f}", fontsize=8)
        cells = [seed["cells"][f"{kind}, {name}"] for kind in MODELS]
        for axes, values in zip(column[1:], cells, strict=True):
            best = values["nll"] == min(each["nll"] for each in cells)
            show(axes, values["density"])
            evaluations = f", {values['evaluations']} ev." if values["evaluations"] else ""
            axes.set_xlabel(f"{values['nll']:.3f}{evaluations}", fontsize=8, weight="bold" if best else "normal")
    for axes, label in zip(grid[:, 0], ["data", *(model.title for model in MODELS.values())], strict=True):
        axes.set_ylabel(label, fontsize=9)
    return picture


def show(axes: Axes, text: str) -> None:
    shades = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    axes.imshow(shades.reshape(2 * [round(len(shades) ** 0.5)]), origin="lower", cmap=DENSITY, vmin=0, vmax=255,
                interpolation="bilinear")  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.6, color="0.6")


if __name__ == "__main__":
    run(
        "ffjord_toy", Config(), compute, figure,
        {"sets": ("moons", "8gaussians"), "budget": 0.004, "rows": 1_000, "test_rows": 100, "cells": 20},
    )  # fmt: skip
