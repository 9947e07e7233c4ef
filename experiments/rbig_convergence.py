"""Iterative Gaussianization: negentropy left against iteration for four families of rotations, and overfitting.

On data whose entropy is known: what is left after k layers is `KL(p_k ‖ N(0, I)) = E[log p(x) − log q_k(x)]`. Without
end, layers fit noise: the right panel has few rows, and dots where the stopping rule ends. Two minutes a seed on one
core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from cnf.data import toy
from cnf.discrete import RBIG, ROTATIONS, Splines
from cnf.distributions import StandardNormal
from experiments.figures.rbig_convergence import PAPER, figure, ours
from experiments.run import run


@dataclass(frozen=True)
class Config:
    plane: tuple[str, ...] = ("swissroll",)
    pairs: tuple[str, ...] = ("swissroll", "moons", "pinwheel", "2spirals")  # side by side: eight dimensions
    rotations: tuple[str, ...] = ("pca alone", "pca", "ica", "random")
    rows: int = 10_000
    plane_layers: int = 50
    layers: int = 100
    few_rows: int = 500  # of the eight dimensions, for overfitting
    few_layers: int = 200
    test_rows: int = 10_000
    seed: int = 0


def principal(x: Tensor, generator: Generator) -> Tensor:
    """The paper's PCA. Ours turns at random where nothing is correlated, for on the plane this one comes to a halt."""
    return torch.linalg.eigh(x.mT.cov()).eigenvectors.mT


ROTATIONS["pca alone"] = principal


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    draw = Generator().manual_seed(config.seed)
    cases = {
        "plane": (config.plane, config.rows, config.plane_layers),
        "mixed": (config.pairs, config.rows, config.layers),
        "few": (config.pairs, config.few_rows, config.few_layers),
    }
    curves: dict[str, dict[str, dict[str, list[float]]]] = {case: {} for case in cases}
    numbers: dict[str, float] = {}
    for case, (names, rows, layers) in cases.items():
        train, test = mixed(names, rows, draw), mixed(names, config.test_rows, draw)
        std, mean = torch.std_mean(train, 0)
        train, test = (train - mean) / std, (test - mean) / std
        entropy = sum(toy(name).entropy or math.nan for name in names) - std.log().sum().item()
        for kind in config.rotations:
            # On training rows layers gain something for ever, and patience for all of them never ends.
            endless = fitted(train, kind, layers, config.seed, significance=1e-12, patience=layers)
            left = {"train": left_by_layer(endless, train, entropy), "test": left_by_layer(endless, test, entropy)}
            curves[case][kind] = left
            numbers |= {f"{case} {kind}: {layers} layers": left["test"][-1]}
            if case == "few":  # the same layers, as far as they go
                stop = int(fitted(train, kind, layers, config.seed).used)
                numbers |= {f"few {kind}: stop": stop, f"few {kind}: stopped": left["test"][stop]}
                numbers |= {f"few {kind}: best": min(left["test"])}
    return {"curves": curves, **numbers}


def mixed(names: tuple[str, ...], rows: int, draw: Generator) -> Tensor:
    """Independent pairs of dimensions, all turned by one rotation: their entropies add up."""
    x = torch.cat([toy(name).sample(rows, generator=draw) for name in names], 1)
    return x @ ROTATIONS["random"](x, Generator().manual_seed(0)) if len(names) > 1 else x


def fitted(train: Tensor, kind: str, layers: int, seed: int, **rule: Any) -> RBIG:
    """Layers fitted to the rows."""
    rbig = RBIG(train.shape[1], layers=layers, rotation=kind, seed=seed, **rule)
    rbig.initialize(train)
    return rbig


def left_by_layer(rbig: RBIG, x: Tensor, entropy: float) -> list[float]:
    """Negentropy left before the first layer and after each: `−E[log q_k(x)] − H(x)`."""
    normal, log_det, left = StandardNormal(x.shape[1]), x.new_zeros(len(x)), []
    for k in range(int(rbig.used) + 1):
        left.append(round(-(normal.log_prob(x) + log_det).double().mean().item() - entropy, 4))
        if k < int(rbig.used):
            z, log_slope = Splines(*rbig.knots[k]).encode(x.mT)
            x, log_det = z.mT @ rbig.rotations[k].mT, log_det + log_slope.sum(0)
    return left


SMOKE = {"rows": 1_000, "plane_layers": 5, "layers": 5, "few_rows": 100, "few_layers": 10, "test_rows": 500}

if __name__ == "__main__":
    run("rbig_convergence", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours, seeds=3)
