"""Calibrating an overconfident classifier by maps of the simplex, and the density of its posteriors there.

A network without regularisation learns 300 noisy digits by heart; its posteriors are corrected on other images by
temperature scaling (Guo et al. 2017, arXiv 1706.04599), by calibration with a shift, by generalised calibration
(A1 = λ1, a flow of the simplex) and by Dirichlet calibration (any A, Kull et al. 2019, arXiv 1910.12656), and judged on
a third set of images. Below, the corrected posteriors of three digits as densities on the 2-simplex, by likelihood: a
flow from the logistic normal against the Dirichlet density. 15 seconds a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import cnf
from cnf.distributions import Dirichlet, LogisticNormal
from cnf.manifolds import Calibration, DirichletCalibration, GeneralizedCalibration, fit_calibration
from experiments.figures.simplex_calibration import PAPER, figure, grid, ours
from experiments.parts.digits import among, posteriors, reliability
from experiments.run import run


@dataclass(frozen=True)
class Config:
    train: int = 300  # images the classifier learns
    calibration: int = 700  # images that correct it; the other 797 judge
    noise: float = 0.5  # on every pixel, in units of the range; without it the digits are too easy to be wrong about
    copies: int = 5  # noisy copies of each image that corrects or judges
    hidden: int = 64
    penalty: float = 1e-4  # on squared changes of the parameters
    bins: int = 15  # of confidence, as Guo et al.
    digits: tuple[int, int, int] = (3, 8, 9)  # often taken for each other
    steps: int = 300  # of the densities' training
    cells: int = 45  # of a side of the triangle, in the picture
    seed: int = 0


CALIBRATIONS: dict[str, Callable[[], Any]] = {
    "temperature": lambda: Calibration(10, bias=False),
    "calibration": lambda: Calibration(10),
    "generalised": lambda: GeneralizedCalibration(10),
    "Dirichlet": lambda: DirichletCalibration(10),
}
DENSITIES: dict[str, Callable[[], cnf.Flow]] = {
    "Dirichlet density": lambda: cnf.Flow(cnf.Compose([]), Dirichlet([1.0, 1.0, 1.0])),
    "flow": lambda: cnf.Flow(GeneralizedCalibration(3), LogisticNormal(3)),
}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    (p, labels), (held_out, classes) = posteriors(
        config.train, config.calibration, config.noise, config.copies, config.hidden, config.seed
    )
    corrected, numbers = {"uncalibrated": held_out}, {}
    for name, make in CALIBRATIONS.items():
        fitted = fit_calibration(p, labels, make().double(), penalty=config.penalty)
        corrected[name] = fitted.calibrate(held_out).detach()
        if name == "calibration":
            numbers["temperature of the calibration"] = fitted.temperature.item()
            three = [
                among(fitted.calibrate(q).detach(), k, config.digits) for q, k in ((p, labels), (held_out, classes))
            ]
    diagrams = {name: reliability(q, classes, config.bins) for name, q in corrected.items()}
    for name, q in corrected.items():
        numbers |= {f"log-loss, {name}": F.nll_loss(q.log(), classes).item()}
        numbers |= {f"ECE, {name}": sum(share * abs(right - sure) for sure, right, share in diagrams[name])}
        numbers |= {f"accuracy, {name}": (q.argmax(1) == classes).double().mean().item()}
    fits = [densities(*parts, config) for parts in zip(*three, strict=True)]
    for name in DENSITIES:
        numbers[f"held-out NLL, {name}"] = float(np.mean([fit[name] for fit in fits]))
    return {**numbers, "diagrams": diagrams, "fits": fits}


def densities(x: Tensor, held_out: Tensor, config: Config) -> dict[str, Any]:
    """Fit the posteriors of one digit by likelihood; held-out negative log-likelihoods, and what the picture needs."""
    found: dict[str, Any] = {"points": [[round(value, 3) for value in row] for row in held_out[:120].tolist()]}
    for name, make in DENSITIES.items():
        torch.manual_seed(config.seed)
        flow = make()
        settings = cnf.FitConfig(steps=config.steps, batch_size=512, learning_rate=3e-2, seed=config.seed)
        cnf.fit(flow, x, config=settings)
        with torch.no_grad():
            found[name] = -flow.log_prob(held_out).mean().item()
            found["density"] = [round(value, 2) for value in flow.log_prob(grid(config.cells)).exp().tolist()]
    return found


SMOKE = {"train": 100, "calibration": 200, "copies": 1, "steps": 5, "cells": 10}

if __name__ == "__main__":
    run("simplex_calibration", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
