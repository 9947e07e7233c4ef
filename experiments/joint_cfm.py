"""How much of the velocities' variance couplings take away on a checkerboard.

The joint flow-matching loss of a perfect field is the variance where paths meet, `E ‖u − E[u | x_t, t]‖²`: a number of
data and coupling alone. So it is found here without any training, from neighbours: two pairs (x₀, x₁) whose paths pass
the same place at the same time have velocities whose mean squared difference is twice that variance.

The text gives neither the board's size, nor the batch, nor ε, so these three were fitted to its four numbers: the size
to CondOT's loss, the batch as a compromise between Stable's and BatchOT's, ε to BatchEOT's. Heuristic, described in
words only, is left out. Half a minute a seed on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm import tqdm

import cnf
from cnf.data import toy
from cnf.objectives.couplings import Coupling
from experiments.figures.joint_cfm import PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    edge: float = 6.34  # half the side of the board, from CondOT's loss
    batch_size: int = 232  # between Stable's and BatchOT's losses
    epsilon: float = 0.46  # from BatchEOT's loss
    pairs: int = 120_000
    times: int = 10  # in the middles of as many parts of [0, 1]
    shown: int = 120
    seed: int = 0


def couplings(config: Config) -> dict[str, Coupling]:
    return {
        "CondOT": cnf.IndependentCoupling(),
        "Stable": cnf.StableCoupling(),
        "BatchEOT": cnf.EntropicCoupling(config.epsilon),
        "BatchOT": cnf.OptimalTransport(),
    }


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    numbers: dict[str, float] = {}
    ends: dict[str, Any] = {}
    for name, coupling in tqdm(couplings(config).items(), desc="couplings"):
        torch.manual_seed(config.seed)
        base, data = coupled(config, coupling)
        numbers[f"loss, {name}"] = residual(base, data, config.times)
        ends[name] = (100 * torch.stack([base, data], 1)[: config.shown]).round().int().tolist()
    return {**numbers, "ends": ends}


def coupled(config: Config, coupling: Coupling) -> tuple[Tensor, Tensor]:
    """Base points and data paired in batches, each `(pairs, 2)`."""
    batches = (config.edge / 4 * toy("checkerboard").sample(config.pairs)).split(config.batch_size)
    bases = [torch.randn_like(batch) for batch in batches]
    chosen = [base[coupling(base, data, None)] for base, data in zip(bases, batches, strict=True)]
    return torch.cat(chosen), torch.cat(batches)


def residual(base: Tensor, data: Tensor, times: int) -> float:
    """`E ‖u − E[u | x_t, t]‖²`, as half the squared difference of the velocities of nearest neighbours."""
    velocity, total = data - base, 0.0
    for t in (torch.arange(times) + 0.5) / times:
        place = base + t * velocity
        _, neighbours = cKDTree(place.numpy()).query(place.numpy(), k=2)
        total += (velocity - velocity[neighbours[:, 1]]).square().sum(1).mean().item() / 2
    return total / times


SMOKE = {"pairs": 1_024, "times": 3}

if __name__ == "__main__":
    run("joint_cfm", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
