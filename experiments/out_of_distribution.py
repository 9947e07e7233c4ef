"""Likelihoods of images that a density has not seen: digits against changed digits and other digits.

A density of scikit-learn's digits (8 × 8) is asked for the likelihood of held-out digits; of the same half as
bright, blurred, inverted; and of MNIST's test images averaged to 8 × 8 (`CNF_DATA`; left out without them). Its log
p has two terms, that of the base and the log-determinant. The prediction is the second-order one of the paper for a
log-density that is quadratic around the training images: `−½ tr Σ⁻¹ (Σ_q − Σ_p) − ½ ‖μ_q − μ_p‖²_{Σ⁻¹}`. Three scores
are judged by the area under the ROC curve: −log p, the distance of log p from its mean over data (Nalisnick et al.
2019, arXiv 1906.02994), and the ratio to a density of perturbed digits (Ren et al. 2019, arXiv 1906.02845).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

import cnf
from cnf.data import DataError
from cnf.metrics import auroc, likelihood_ratio, log_prob_of_rows, log_prob_terms, perturbed, typicality
from experiments.figures.out_of_distribution import PAPER, figure, ours
from experiments.parts.image_sets import IMAGES, Images, digits
from experiments.run import run


@dataclass(frozen=True)
class Config:
    model: str = "cnf"
    seconds: float = 40.0  # of one core, for the density and for the background
    share: float = 0.2  # of the pixels that are replaced for the background
    rows: int = 500  # of MNIST
    shrinkage: float = 0.05  # of the covariance in the prediction
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    images = digits(config.seed)
    noise = torch.Generator().manual_seed(config.seed)
    flow = trained(images, config)
    changed = [perturbed(part, images.levels, share=config.share, generator=noise) for part in images[:2]]
    background = trained(images._replace(train=changed[0], validation=changed[1]), config)
    reference = log_prob_of_rows(flow, images.validation)
    inside = scores(flow, background, images.test, reference)
    predicted = prediction(images.train, config.shrinkage)
    numbers: dict[str, float] = {}
    shown: dict[str, Any] = {"digits": inside["log p"].tolist()}
    for name, x in others(images, config).items():
        outside = scores(flow, background, x, reference)
        shown[name] = outside["log p"].tolist()
        for term in ("log p", "base", "log-determinant"):
            numbers[f"{name}: {term}"] = (outside[term].mean() - inside[term].mean()).item()
        numbers[f"{name}: predicted"] = (predicted(x) - predicted(images.test)).item()
        for score in ("likelihood", "typicality", "ratio"):
            numbers[f"{name}: AUROC of {score}"] = auroc(inside[score], outside[score]).mean
    return {**numbers, "pictures": shown}


def trained(images: Images, config: Config) -> cnf.Flow:
    torch.manual_seed(config.seed)
    flow = cnf.build(config.model, images.train.shape[1:], levels=images.levels)
    settings = cnf.FitConfig(seconds=config.seconds, seed=config.seed, progress=False)
    cnf.fit(flow, images.train, validation=images.validation, config=settings, clock=time.process_time)
    return flow


def others(images: Images, config: Config) -> dict[str, Tensor]:
    """Images of other kinds, with the levels of the digits."""
    x, top = images.test, images.levels - 1
    found = {
        "half as bright": (x / 2).round(),
        "blurred": avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1).round(),
        "inverted": top - x,
    }
    try:
        mnist = IMAGES["mnist8"](config.seed).test[: config.rows]
    except DataError as error:
        print(f"left out: {error}")
        return found
    return {**found, "MNIST": (mnist * top / 255).round()}


@torch.no_grad()
def scores(flow: cnf.Flow, background: cnf.Flow, x: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Log p with its two terms, and three scores that are large for outliers."""
    base, log_det = log_prob_terms(flow, x)
    log_prob = base + log_det
    ratio = likelihood_ratio(log_prob, log_prob_of_rows(background, x))
    distance = typicality(log_prob, reference)
    terms = {"log p": log_prob, "base": base, "log-determinant": log_det}
    return {**terms, "likelihood": -log_prob, "typicality": distance, "ratio": -ratio}


def prediction(train: Tensor, shrinkage: float) -> Any:
    """The mean of a quadratic log-density around the training images, up to a constant."""
    flat = train.flatten(1).double()
    covariance = flat.T.cov()
    covariance += shrinkage * covariance.diagonal().mean() * torch.eye(len(covariance)).double()

    def mean(x: Tensor) -> Tensor:
        offset = x.flatten(1).double() - flat.mean(0)
        return -0.5 * (offset * torch.linalg.solve(covariance, offset.T).T).sum(1).mean()

    return mean


SMOKE = {"seconds": 0.5, "rows": 20}

if __name__ == "__main__":
    run("out_of_distribution", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
