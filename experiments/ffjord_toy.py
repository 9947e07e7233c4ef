"""Densities on the plane: continuous flows trained in four ways and Glow, for a few seconds each.

On all of the authors' toys that have a density. A cell has 6 to 13 seconds of one core, a small part of the paper's
10,000 steps: FFJORD's own recipe has hardly begun, and its row is a blur. 6 minutes of one core; `--folder F` keeps the
cells of an interrupted run.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator
from tqdm import tqdm

import cnf
from cnf.data import TOYS, Toy, toy
from cnf.files import write_json
from cnf.metrics import kl_to, log_prob_of_rows
from experiments.figures.ffjord_toy import PAPER, figure, ours
from experiments.parts.pictures import shades
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


EDGE = 4.4  # half a side of the pictures


@dataclass(frozen=True)
class Model:
    name: str  # in cnf.MODELS, trained by its own recipe
    steps: int
    objective: cnf.FlowMatching | None = None
    settings: tuple[tuple[str, Any], ...] = ()


PUBLISHED = (("batch_size", 100), ("weight_decay", 1e-5), ("warmup", 0), ("clip", 0.0), ("ema", 0.0))


MODELS = {  # theirs: 10,000 steps of FFJORD, 100 layers of Glow
    "glow": Model("glow", 1_200),
    "ffjord": Model("ffjord", 850, settings=PUBLISHED),
    "rnode": Model("rnode", 1_000),
    "matching": Model("cnf", 2_800, cnf.FlowMatching(coupling=cnf.OptimalTransport(group=128))),
    "cnf": Model("cnf", 1_000),
}


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
    truth = {name: shades(toy(name), toy(name).log_prob, EDGE, config.cells) for name in config.sets}
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
        gap = kl_to(flow, test, source.log_prob(test.double()))
    return {
        "kl": round(gap.mean, 4), "kl_standard_error": round(gap.standard_error, 4),
        "nll": round((source.entropy or 0.0) + gap.mean, 4),
        "evaluations": round(count.evaluations / count.solves) if count.solves else 0,
        "steps": steps, "seconds": round(seconds, 1),
        "density": shades(source, lambda x: log_prob_of_rows(flow, x), EDGE, config.cells),
    }  # fmt: skip


SMOKE = {"sets": ("moons", "8gaussians"), "budget": 0.004, "rows": 1_000, "test_rows": 100, "cells": 20}

if __name__ == "__main__":
    run("ffjord_toy", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
