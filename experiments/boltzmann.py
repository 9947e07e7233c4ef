"""Boltzmann densities of several wells: which modes a flow finds, and free energies by reweighting.

Midgley et al. 2023 (arXiv 2208.01893), figures 1 and 4 in small. Eight tilted double wells together in 13 dimensions
have 256 modes of different mass. Claim: reverse KL is content with some of the modes, and the effective sample size
that it reports itself does not show it; the α-divergence with annealed importance sampling keeps them. The truth is a
quadrature of one dimension.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

import cnf
from cnf.inference import importance
from experiments.figures.boltzmann import PAPER, figure, ours
from experiments.parts.wells import density, free_energy, log_evidence, reweighted
from experiments.run import run


@dataclass(frozen=True)
class Config:
    wells: tuple[int, ...] = (1, 8)
    dims: tuple[int, ...] = (2, 13)  # theirs: 2 and 32, trained for longer
    steps: int = 300
    temperatures: int = 2
    batch_size: int = 128
    draws: int = 10_000
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    truth = free_energy()
    numbers: dict[str, Any] = {"truth": truth.tolist(), "curves": {}}
    for wells, dim in zip(config.wells, config.dims, strict=True):
        target = density(wells)
        log_z = log_evidence(wells, dim)
        objectives = {
            "reverse": cnf.ReverseKL(target, path_gradient=True),
            "alpha": cnf.AlphaDivergence(target, temperatures=config.temperatures),
        }
        for name, objective in objectives.items():
            torch.manual_seed(config.seed)
            base = cnf.DiagonalNormal(dim, scale=1.5)
            flow = cnf.Flow(cnf.build("realnvp", dim, layers=6, hidden=64, preprocess="none").transform, base)
            settings = cnf.FitConfig(
                steps=config.steps, batch_size=config.batch_size, learning_rate=3e-3, progress=False
            )
            begun = time.process_time()
            cnf.fit(flow, None, objective, config=settings)
            evidence = importance(flow, target, config.draws)
            curve = reweighted(evidence.samples, evidence.log_weights)
            near = truth < 6  # nats, beyond which hardly anything is
            found = {
                "ess": evidence.ess, "log_z_error": float(evidence.log_z - log_z),
                "left": (evidence.samples[:, :wells] < 0).double().mean().item(),
                "profile_error": (curve - truth)[near].clamp(max=10).square().mean().sqrt().item(),
                "seconds": time.process_time() - begun,
            }  # fmt: skip
            numbers |= {f"{name}, {dim}-D, {key}": float(value) for key, value in found.items()}
            numbers["curves"][f"{name}, {dim}-D"] = curve.clamp(max=12).tolist()
            print(name, dim, found, flush=True)
    return numbers


SMOKE = {"steps": 3, "batch_size": 16, "draws": 100}

if __name__ == "__main__":
    run("boltzmann", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
