"""Bits per dimension of images against seconds of training: RealNVP, Glow, FFJORD, RNODE, and our default.

Scikit-learn's digits, 8 × 8 with 17 levels, 1,439 of them for training; or, with `--data mnist14`, MNIST's 10,000 test
images averaged to 14 × 14, 8,000 of them for training. All are models of the catalogue with their recipes; FFJORD and
RNODE have three scales with fields of 32 channels, and FFJORD one scale beside that. Seconds are those that one thread
had of a processor. A curve is the validation of one run; its dot is the mean of the test images with the weights that
the run returns. Every number is a lower bound of the likelihood by one draw of uniform noise, for FFJORD and RNODE with
an estimate of the log-determinant: 20 minutes of one core for three seeds.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

import cnf
from cnf.data import DataError
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.figures.image_bits import PAPER, figure, ours
from experiments.parts.image_sets import IMAGES, Images
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = ("digits",)  # or mnist14, whose file is looked for in CNF_DATA
    models: tuple[str, ...] = ("realnvp", "glow", "ffjord", "ffjord, one scale", "rnode", "cnf")
    seconds: float = 60.0  # of one core
    batch_size: int = 128
    checks: int = 20
    shown: int = 20  # samples of each model
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    curves: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    pictures: dict[str, Any] = {}
    for name in config.data:
        try:
            images = IMAGES[name](config.seed)
        except DataError as error:
            print(f"left out: {error}")
            continue
        for model in config.models:
            flow, curve, bits = trained(model, images, config)
            curves[f"{name} {model}"] = curve
            numbers[f"{name} {model}"] = bits
            pictures[f"{name} {model}"] = flow.sample(config.shown).int().flatten(1).tolist()
    return {**numbers, "curves": curves, "pictures": pictures}


def trained(model: str, images: Images, config: Config) -> tuple[cnf.Flow, dict[str, list[float]], float]:
    """A model, its validation over time, and its bits per dimension on test images."""
    torch.manual_seed(config.seed)
    name, single = model.split(",")[0], model.endswith("one scale")
    shape = images.train.shape[1:]
    flow = cnf.build(name, shape, levels=images.levels, **({"scales": 1} if single else {}))
    settings = cnf.FitConfig(
        seconds=config.seconds, checks=config.checks, batch_size=config.batch_size, seed=config.seed, patience=None,
        progress=False,
    )  # fmt: skip
    fitted = cnf.fit(flow, images.train, validation=images.validation, config=settings, clock=time.process_time)
    nll = mean_and_error(-log_prob_of_rows(flow, images.test).double())
    bit = math.log(2) * shape.numel()  # in nats, of a dimension
    print(f"{model}: {nll.mean / bit:.3f} ± {nll.standard_error / bit:.3f}, {fitted.steps} steps", flush=True)
    history = fitted.history
    return flow, {
        "seconds": [row["seconds"] for row in history],
        "bits": [row["validation_nll"] / bit for row in history],
        "evaluations": [row.get("evaluations", 0.0) for row in history],
    }, nll.mean / bit  # fmt: skip


SMOKE = {"models": ("realnvp", "rnode", "cnf"), "seconds": 0.5, "checks": 2, "shown": 4}

if __name__ == "__main__":
    run("image_bits", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
