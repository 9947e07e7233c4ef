"""How much of the velocities' variance couplings take away on a checkerboard.

Pooladian et al. 2023, multisample flow matching (arXiv 2304.14772), figure 2: final values of the joint flow-matching
loss, CondOT 10.72, Stable 1.60, Heuristic 1.56, BatchEOT 0.57, BatchOT 0.24. The loss of a perfect field is the
variance where paths meet, `E ‖u − E[u | x_t, t]‖²`: a pure number of data and coupling. So it is found here without any
training, from neighbours: two pairs (x₀, x₁) whose paths pass the same place at the same time have velocities whose
mean squared difference is twice that variance.

The text gives neither the board's size, nor the batch, nor ε, so four numbers set three unknowns: CondOT's loss grows
with the size, and 10.72 is that of a board on [−6.34, 6.34]²; the batch, 232, is a compromise between Stable (192 would
give its 1.60) and BatchOT (256 would give its 0.24); ε = 0.46 is BatchEOT's. Heuristic, described in words only, is
left out. A minute of one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm import tqdm

import cnf
from cnf.data import toy
from cnf.objectives.couplings import Coupling
from cnf.plotting import BLUE
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


PAPER = {"CondOT": 10.72, "Stable": 1.60, "BatchEOT": 0.57, "BatchOT": 0.24}


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


def figure(results: dict[str, Any]) -> Figure:
    numbers = results["seeds"][0]
    picture = Figure(figsize=(9.6, 4.6), layout="constrained")
    grid = picture.subplots(2, len(PAPER), height_ratios=(1.6, 1))
    for axes, name in zip(grid[0], PAPER, strict=True):
        ends = torch.tensor(numbers["ends"][name]) / 100
        axes.plot(*ends.permute(2, 1, 0).numpy(), color="0.7", lw=0.5, zorder=1)
        axes.scatter(*ends[:, 0].T.numpy(), s=5, color="0.35", linewidths=0, zorder=2)
        axes.scatter(*ends[:, 1].T.numpy(), s=5, color=BLUE, linewidths=0, zorder=3)
        edge = 1.1 * results["config"]["edge"]
        axes.set(aspect="equal", xticks=[], yticks=[], xlim=(-edge, edge), ylim=(-edge, edge))
        axes.spines[:].set(linewidth=0.6, color="0.6")
        axes.set_title(name, fontsize=10)
    for axes in grid[1]:
        axes.remove()
    bars = picture.add_subplot(grid[0, 0].get_gridspec()[1, :])
    ours = [numbers[f"loss, {name}"] for name in PAPER]
    for shift, label, values, color in ((-0.2, "the paper", PAPER.values(), "0.75"), (0.2, "ours", ours, BLUE)):
        drawn = bars.bar([place + shift for place in range(len(PAPER))], values, 0.38, color=color, label=label)
        bars.bar_label(drawn, [f"{value:.2f}" for value in values], fontsize=8, padding=1)
    bars.set(yscale="log", ylim=(0.1, 30), xlim=(-0.5, len(PAPER) - 0.5), xticks=[])
    bars.set_ylabel("loss that is left", fontsize=9)
    bars.tick_params(labelsize=8)
    bars.spines[["top", "right"]].set_visible(False)
    bars.legend(frameon=False, fontsize=8, loc="upper right")
    return picture


if __name__ == "__main__":
    run(
        "joint_cfm", Config(), compute, figure,
        {"pairs": 1_024, "times": 3},
    )  # fmt: skip
