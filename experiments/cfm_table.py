"""Flow matching with four couplings and paths: how close the samples come, and how close the ways are to the shortest.

Tong et al. 2024, [SF]²M (arXiv 2307.03672), table 2: W₂ of samples and data, and the normalised path energy
`|∫ E‖v‖² dt − W₂²(q₀, q₁)| / W₂²(q₀, q₁)`. Claim: all of them carry one distribution to the other, only minibatch
optimal transport does so at nearly the least energy.

The data are those of the authors' runner: the sets of the same names in torchcfm's `utils.py` have other scales, and
energies that do not fit the table. As there, the rate is constant, and the weights that are tested are those with the
lowest loss on other rows, looked at every 200 steps; the draws of all looks are the same here. W₂ of finite sets has a
floor, which is drawn. With `--seeds 5` 135 minutes of one core, half of them for optimal plans.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ot
import torch
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from sklearn.datasets import make_moons, make_s_curve
from torch import Tensor, nn
from tqdm import tqdm

import cnf
from cnf.objectives.couplings import Coupling
from cnf.objectives.paths import Path
from cnf.plotting import BLUE, VERMILION
from experiments.run import run


@dataclass(frozen=True)
class Config:
    pairs: tuple[str, ...] = ("N → 8gaussians", "moons → 8gaussians", "N → moons", "N → scurve")
    rows: int = 10_000  # of each of the sets: to train, to choose weights, to test
    steps: int = 20_000
    batch_size: int = 512
    group: int = 128  # rows paired at a time; theirs the batch, at three times the cost
    check: int = 200  # steps between looks at the validation rows: the best weights of all looks are tested
    sigma: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    solver_steps: int = 100  # of Euler
    slow_seed: int = 42  # the one for which SB-CFM is run, whose plans take minutes
    slow_steps: int = 300
    slow_batch: int = 128
    seed: int = 42


# The paper's numbers, mean and standard deviation of five seeds, in the order of the pairs.
PAPER = {
    "W2": {
        "OT-CFM": ((0.303, 0.043), (0.601, 0.027), (0.130, 0.016), (0.144, 0.028)),
        "I-CFM": ((0.373, 0.103), (1.557, 0.407), (0.178, 0.014), (0.242, 0.141)),
        "FM": ((0.343, 0.058), None, (0.209, 0.055), (0.198, 0.037)),
        "SB-CFM": ((2.314, 2.112), None, (0.434, 0.594), (0.341, 0.468)),
    },
    "NPE": {
        "OT-CFM": ((0.031, 0.027), (0.015, 0.010), (0.083, 0.009), (0.027, 0.012)),
        "I-CFM": ((0.202, 0.055), (2.680, 0.292), (0.891, 0.120), (0.856, 0.031)),
        "FM": ((0.190, 0.054), None, (0.762, 0.099), (0.743, 0.116)),
        "SB-CFM": ((1.000, 0.000), None, (0.995, 0.000), (0.745, 0.039)),
    },
}  # fmt: skip


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    numbers: dict[str, float] = {}
    paths: dict[str, Any] = {}
    for pair in tqdm(config.pairs, desc="pairs"):
        rng = np.random.default_rng(config.seed)
        train, validation, test = ([draw(config.rows, rng) for draw in PAIRS[pair]] for _ in range(3))
        least = wasserstein(*test)
        numbers[f"W2 of the pair, {pair}"] = least
        numbers[f"W2 floor, {pair}"] = wasserstein(test[1], PAIRS[pair][1](config.rows, rng))
        for method in METHODS:
            if skipped(config, method, pair):
                continue
            states = carried(config, method, pair, train, validation[1], test[0])
            energy = (states.diff(dim=0).square().sum(2).mean(1) * config.solver_steps).sum().item()
            numbers[f"W2, {method}, {pair}"] = wasserstein(states[-1], test[1])
            numbers[f"NPE, {method}, {pair}"] = abs(energy - least**2) / least**2
            if (method, pair) in SHOWN and config.seed == config.slow_seed:
                paths[f"{method}, {pair}"] = (states[::5, :120] * 50).round().int().mT.tolist()
    return {**numbers, "paths": paths}


def skipped(config: Config, method: str, pair: str) -> bool:
    """FM needs a Gaussian source; SB-CFM is slow."""
    return (method == "FM" and not pair.startswith("N")) or (method == "SB-CFM" and config.seed != config.slow_seed)


METHODS: dict[str, Callable[[Config], tuple[Path, Coupling]]] = {
    "OT-CFM": lambda c: (cnf.StraightPath(c.sigma), cnf.OptimalTransport(group=c.group)),
    "I-CFM": lambda c: (cnf.StraightPath(c.sigma), cnf.IndependentCoupling()),
    "FM": lambda c: (cnf.LipmanPath(c.sigma), cnf.IndependentCoupling()),
    "SB-CFM": lambda c: (cnf.BridgePath(c.sigma), cnf.EntropicCoupling(2 * c.sigma**2)),
}


def carried(config: Config, method: str, pair: str, train: list[Tensor], validation: Tensor, start: Tensor) -> Tensor:
    """Where a trained flow has the points after each step of Euler, `(solver_steps + 1, N, 2)`."""
    torch.manual_seed(config.seed)
    network = nn.Sequential(
        nn.Linear(3, 64), nn.SELU(), nn.Linear(64, 64), nn.SELU(), nn.Linear(64, 64), nn.SELU(), nn.Linear(64, 2)
    )
    flow = cnf.from_velocity(network, 2, arguments="concat", solver=cnf.RungeKutta("euler", steps=1))
    source = None if pair.startswith("N") else lambda n: train[0][torch.randint(len(train[0]), (n,))]
    objective = cnf.FlowMatching(*METHODS[method](config), source)
    if method == "SB-CFM":
        config = replace(config, steps=config.slow_steps, batch_size=config.slow_batch, check=config.slow_steps)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    best, kept = float("inf"), {}
    for step in range(1, config.steps + 1):
        optimizer.zero_grad()
        objective(flow, train[1][torch.randint(len(train[1]), (config.batch_size,))]).value.backward()
        optimizer.step()
        if step % config.check == 0:
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(config.seed)  # the same draws in every look
                loss = sum(objective(flow, part).value.item() for part in validation.split(config.batch_size))
            if loss < best:
                best, kept = loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    with torch.no_grad():
        return flow.trajectory(start, torch.linspace(0, 1, config.solver_steps + 1))


def wasserstein(x: Tensor, y: Tensor) -> float:
    """W₂ of two sets of as many points, exactly."""
    return ot.emd2([], [], ot.dist(x.double().numpy(), y.double().numpy()), numItermax=10**7) ** 0.5


# The runner's data.


def normal(n: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal((n, 2))).float()


def gaussians(n: int, rng: np.random.Generator, radius: float = 5.0, std: float = 1.0) -> Tensor:
    angle = rng.integers(8, size=n) * np.pi / 4
    return torch.from_numpy(radius * np.stack([np.cos(angle), np.sin(angle)], 1)).float() + std * normal(n, rng)


def moons(n: int, rng: np.random.Generator) -> Tensor:
    x, _ = make_moons(n, noise=0.05, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(2 * x - [1, 0]).float()


def scurve(n: int, rng: np.random.Generator) -> Tensor:
    x, _ = make_s_curve(n, noise=0.05, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(1.5 * x[:, [0, 2]]).float()


def large_moons(n: int, rng: np.random.Generator) -> Tensor:
    """Both coordinates shifted and scaled alike, to a common standard deviation of 7."""
    x, _ = make_moons(n, noise=0.1, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(7 * (x - x.mean()) / x.std()).float()


def large_gaussians(n: int, rng: np.random.Generator) -> Tensor:
    return gaussians(n, rng, 12.0, 1.5)


Draw = Callable[[int, np.random.Generator], Tensor]
PAIRS: dict[str, tuple[Draw, Draw]] = {
    "N → 8gaussians": (normal, gaussians),
    "moons → 8gaussians": (large_moons, large_gaussians),
    "N → moons": (normal, moons),
    "N → scurve": (normal, scurve),
}


# The figure.

SHOWN = tuple((method, pair) for pair in ("moons → 8gaussians", "N → moons") for method in ("I-CFM", "OT-CFM"))


def figure(results: dict[str, Any]) -> Figure:
    pairs = results["config"]["pairs"]
    picture = Figure(figsize=(9.6, 6.4), layout="constrained")
    grid = picture.subplots(3, len(pairs), squeeze=False, height_ratios=(1, 1, 1.25))
    for row, quantity in zip(grid[:2], ("W2", "NPE"), strict=True):
        for j, (axes, pair) in enumerate(zip(row, pairs, strict=True)):
            compare(axes, results, quantity, pair, j)
        row[0].set_ylabel({"W2": "$W_2$", "NPE": "normalised path energy"}[quantity], fontsize=9)
    for axes, pair in zip(grid[0], pairs, strict=True):
        axes.set_title(pair, fontsize=10)
    bars = [part for part in grid[0, 0].containers if isinstance(part, BarContainer)]
    for axes, name in zip(grid[2], map(", ".join, SHOWN), strict=True):
        shown = results["seeds"][0]["paths"].get(name)
        if shown is None:
            axes.remove()
        else:
            draw_paths(axes, np.array(shown) / 50, name)
    picture.legend(
        handles=[*bars, *grid[0, 0].lines[-1:]], labels=["the paper", "ours", "between two sets of test data"],
        loc="outside upper center", ncols=3, frameon=False, fontsize=9,
    )  # fmt: skip
    return picture


def compare(axes: Axes, results: dict[str, Any], quantity: str, pair: str, j: int) -> None:
    """Bars of the paper and of ours, with standard deviations over seeds."""
    for shift, color in ((-0.2, "0.75"), (0.2, BLUE)):
        places, means, spreads = [], [], []
        for place, method in enumerate(METHODS):
            found = [seed.get(f"{quantity}, {method}, {pair}") for seed in results["seeds"]]
            ours = [value for value in found if value is not None]
            bar = PAPER[quantity][method][j] if shift < 0 else (np.mean(ours), np.std(ours)) if ours else None
            if bar is not None:
                places, means, spreads = [*places, place + shift], [*means, bar[0]], [*spreads, bar[1]]
        axes.bar(places, means, 0.38, yerr=spreads, color=color, error_kw={"lw": 0.8, "ecolor": "0.2"}, capsize=2)
    axes.set_xticks(range(len(METHODS)), METHODS, fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if quantity == "W2":  # of two independent sets of the data, as large as the test set: nothing can be closer
        floor = np.mean([seed[f"W2 floor, {pair}"] for seed in results["seeds"]])
        axes.axhline(floor, color="0.3", lw=0.8, ls="--", zorder=3, label="two sets of test data")
    axes.set(yscale="log", ylim=(0.003, 6)) if quantity == "NPE" else axes.set(ylim=0)


def draw_paths(axes: Axes, states: np.ndarray, name: str) -> None:
    """Ways of points, `(states, 2, N)`."""
    axes.plot(states[:, 0], states[:, 1], color="0.6", lw=0.4)
    axes.scatter(states[0, 0], states[0, 1], s=3, color=VERMILION, linewidths=0, zorder=2)
    axes.scatter(states[-1, 0], states[-1, 1], s=3, color=BLUE, linewidths=0, zorder=3)
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.set_xlabel(name, fontsize=8)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    run(
        "cfm_table", Config(), compute, figure,
        {"rows": 300, "steps": 6, "check": 3, "slow_steps": 2, "solver_steps": 10},
    )  # fmt: skip
