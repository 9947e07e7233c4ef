"""Posteriors of a variational autoencoder: none, planar, IAF, NSF and continuous flows, on binary digits.

Grathwohl et al. 2019 (FFJORD, arXiv 1810.01367), table 3 and figure 5 in small: MNIST's 10,000 test images, averaged
to 14 × 14 pixels and made binary once by a seed; 8,000 train, 1,000 are held out. Encoder, decoder, their start, latent
dimension and steps are the same for all. The second part trains the continuous posterior in 16 to 64 latent dimensions
and keeps the evaluations of its field. `CNF_DATA=… python -m experiments.vae_posteriors --seeds 3`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

import cnf
from cnf.data.sources import open_source
from cnf.discrete import AffineMap, Conditional
from cnf.inference import marginal_log_prob
from cnf.transforms import Compose
from experiments.figures.vae_posteriors import PAPER, figure, ours
from experiments.parts.posteriors import FLOWS, Decoder, perceptron
from experiments.run import run

LOOSE = cnf.RungeKutta("bosh3", rtol=1e-2, atol=1e-2, rows="together")  # of training


@dataclass(frozen=True)
class Config:
    data: str = "mnist"
    data_root: str = ""  # folder of the IDX files; the environment's CNF_DATA by default
    posteriors: tuple[str, ...] = ("none", "planar", "iaf", "nsf", "continuous")  # or low_rank
    latent: int = 16  # theirs: 64
    latents: tuple[int, ...] = (16, 32, 48, 64)  # of the evaluations over training
    hidden: int = 200  # of encoder and decoder, two layers each
    features: int = 32  # of the encoder, that the flows see
    steps: int = 600
    batch_size: int = 100
    learning_rate: float = 4e-3
    optimizer: str = "adamw"
    rows: int = 1_000  # held out
    weighed: tuple[int, int] = (200, 25)  # rows and draws of the importance-weighted log p
    seed: int = 0


def images(config: Config) -> tuple[Tensor, Tensor]:
    """Binary pixels `(N, P)` of the images to train with and of those held out."""
    source = open_source(config.data, root=config.data_root or None)
    generator = torch.Generator().manual_seed(0)

    def binary(rows: Any) -> Tensor:
        grey = rows.read(range(len(rows)))[0].float() / (source.levels - 1)
        pixels = avg_pool2d(grey, 2) if grey.shape[-1] > 14 else grey
        return torch.bernoulli(pixels.flatten(1), generator=generator)

    return binary(source.train), binary(source.test)[: config.rows]


def trained(posterior: str, latent: int, x: Tensor, config: Config) -> tuple[cnf.Flow, cnf.ELBO, cnf.FitResult]:
    """A normal distribution from the encoder, pushed through a flow that sees the encoder's features too."""
    torch.manual_seed(config.seed)
    net = cnf.networks.ResidualMLP(config.features, latent * AffineMap().size, hidden=64)
    normal = Conditional(AffineMap(), net, config.features)
    encoder = nn.Sequential(*perceptron(x.shape[1], config.hidden, config.hidden, config.features))
    decoder = Decoder(*perceptron(latent, config.hidden, config.hidden, x.shape[1]))
    torch.manual_seed(config.seed + 1)  # all posteriors have the same encoder and decoder at the start
    flow = cnf.Flow(Compose([*FLOWS[posterior](latent, config.features), normal]), cnf.StandardNormal(latent))
    objective = cnf.ELBO(encoder, decoder, cnf.StandardNormal(latent))
    divergence = cnf.Hutchinson() if posterior == "low_rank" else None  # as published; evaluated with the exact one
    phase = cnf.Phase(
        objective, solver=LOOSE, divergence=divergence, learning_rate=config.learning_rate, optimizer=config.optimizer
    )
    settings = cnf.FitConfig(steps=config.steps, batch_size=config.batch_size, progress=False, seed=config.seed)
    return flow, objective, cnf.fit(flow, x, phase, config=settings)


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    train, held_out = images(config)
    rows, draws = config.weighed
    numbers: dict[str, Any] = {"evaluations": {}}
    for posterior in config.posteriors:
        begun = time.process_time()
        flow, objective, fitted = trained(posterior, config.latent, train, config)
        seconds = time.process_time() - begun
        with torch.no_grad():
            bound = torch.stack([objective(flow, held_out).value for _ in range(5)]).mean().item()
        tight = -marginal_log_prob(objective, flow, held_out[:rows], samples=draws).value.mean().item()
        found = {"-ELBO": bound, "-log p": tight, "train": fitted.history[-1]["loss"], "seconds": seconds}
        numbers |= {f"{posterior}, {key}": value for key, value in found.items()}
        print(posterior, {key: round(value, 3) for key, value in found.items()}, flush=True)
    for latent in config.latents if config.seed == 0 else ():  # one seed shows it
        history = trained("continuous", latent, train, config)[2].history
        numbers["evaluations"][str(latent)] = [[row["step"], row["evaluations"]] for row in history]
        numbers[f"evaluations, {latent}"] = history[-1]["evaluations"]
        print(latent, numbers["evaluations"][str(latent)], flush=True)
    return numbers


SMOKE = {"data": "digits", "steps": 3, "rows": 20, "weighed": (5, 4), "latents": (4,), "latent": 4, "hidden": 16}

if __name__ == "__main__":
    run("vae_posteriors", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
