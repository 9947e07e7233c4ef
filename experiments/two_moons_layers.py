"""Two moons layer by layer: RealNVP's jumps from base to data, and a continuous flow's path between the same ends.

After Dinh et al. 2017 (arXiv 1605.08803), figure 1, and Chen et al. 2018 (arXiv 1806.07366), figure 5. Between the
layers of a discrete flow are shears and stretches that nothing asks to look like anything, and points go a long way
round; a continuous flow has a density at every time in between. Four minutes on one core.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

import cnf
from cnf.data import toy
from cnf.metrics import kl_to
from experiments.figures.two_moons_layers import PAPER, animation, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    data: str = "moons"
    seconds: float = 90.0  # for each of the two
    rows: int = 100_000
    couplings: int = 8
    hidden: tuple[int, ...] = (64, 64)
    points: int = 800  # that are drawn
    test_rows: int = 10_000
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    source, draw = toy(config.data), Generator().manual_seed(config.seed)
    train, validation, test = (source.sample(n, generator=draw) for n in (config.rows, 2_000, config.test_rows))
    torch.manual_seed(config.seed)
    discrete = cnf.build("realnvp", 2, layers=config.couplings, hidden=config.hidden, activation="silu")
    continuous = cnf.build("cnf", 2)
    for flow in (discrete, continuous):
        budget = cnf.FitConfig(seconds=config.seconds, patience=None, seed=config.seed)
        cnf.fit(flow, train, validation=validation, config=budget, clock=time.process_time)
    z = continuous.base.sample(config.points, generator=draw)
    times = torch.linspace(0, 1, 2 * config.couplings + 1)  # in between the paths are straight, to the eye
    paths = {"realnvp": layers(discrete, z), "cnf": continuous.trajectory(z, times).detach()}
    exact = source.log_prob(test.double())
    numbers = {
        f"KL, {name}": kl_to(flow, test, exact).mean for name, flow in (("realnvp", discrete), ("cnf", continuous))
    } | {f"detour, {name}": detour(path) for name, path in paths.items()}
    return {"paths": {name: (100 * path).round().int().mT.tolist() for name, path in paths.items()}, **numbers}


@torch.no_grad()
def layers(flow: cnf.Flow, z: Tensor) -> Tensor:
    """Base points and what each coupling makes of them, in the units of the data, `(couplings + 1, N, 2)`."""
    transform: Any = flow.transform
    *front, couplings = transform.transforms
    front = cnf.Compose(front)
    states = [z]
    for coupling in reversed(couplings.transforms):
        states.append(coupling.push(states[-1]))
    return torch.stack([front.push(state) for state in states])


def detour(path: Tensor) -> float:
    """Length of the points' ways over the distance between their ends, `Σ |steps| / Σ |x(1) − x(0)|`."""
    return (path.diff(dim=0).norm(dim=2).sum() / (path[-1] - path[0]).norm(dim=1).sum()).item()


SMOKE = {"seconds": 1.0, "rows": 2_000, "couplings": 2, "points": 100, "test_rows": 500}

if __name__ == "__main__":
    run("two_moons_layers", Config(), compute, figure, SMOKE, animation=animation, paper=PAPER, ours=ours)
