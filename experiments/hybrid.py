"""One flow for density and classes: a linear head on z, digits, and inputs of another kind.

Nalisnick et al. 2019 (arXiv 1902.02767), table 1 and figure 2 in small: `log p(y | z) + λ / D · log p(x)` with
`p(y | z)` linear in z. scikit-learn's digits 0 to 7, 8 × 8 pixels of 17 levels. Log p(x) is to reject what is no such
digit: the digits 8 and 9, digits in inverted grey, and digits whose pixels are shuffled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import cnf
from cnf.data.sources import open_source
from cnf.metrics import auroc
from experiments.figures.hybrid import PAPER, figure, ours
from experiments.run import run

CLASSES, LEVELS = 8, 17
LOOSE = cnf.RungeKutta("bosh3", rtol=5e-2, atol=5e-2, rows="together")  # of training


@dataclass(frozen=True)
class Config:
    weights: tuple[float, ...] = (0.0, 0.1, 1.0, 10.0)  # λ
    model: str = "cnf"
    steps: int = 300
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    batch_size: int = 128
    draws: int = 5  # of the noise of dequantisation
    seed: int = 0


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """Images and classes in a random order."""
    source = open_source("digits", context=("label",))
    parts = [part.read(range(len(part))) for part in (source.train, source.validation, source.test)]
    x, y = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]).argmax(1)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return x[order], y[order]


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "inverted": lambda x: LEVELS - 1 - x,
    "shuffled": lambda x: x.flatten(1)[:, torch.randperm(64)].view_as(x),
}


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    x, y = digits(config.seed)
    known = y < CLASSES
    x, y, new = x[known], y[known], x[~known]
    held = len(x) // 5
    others = {"8 and 9": new} | {name: change(x[:held]) for name, change in OTHERS.items()}
    numbers: dict[str, Any] = {}
    for weight in config.weights:
        flow, head = trained(weight, x[held:], y[held:], config)
        log_p, logits = judged(flow, head, x[:held], config.draws)
        found = {"accuracy": (logits.argmax(1) == y[:held]).double().mean().item(), "nll": -log_p.mean().item()}
        for name, rows in others.items():
            found[name] = auroc(-log_p, -judged(flow, head, rows, config.draws)[0]).mean
        numbers |= {f"{weight:g}, {key}": value for key, value in found.items()}
        print(weight, {key: round(value, 4) for key, value in found.items()}, flush=True)
    return numbers


def trained(weight: float, x: Tensor, y: Tensor, config: Config) -> tuple[cnf.Flow, nn.Linear]:
    """A loop of its own, for what is trained is a density of x and, beside it, one of y."""
    torch.manual_seed(config.seed)
    flow = cnf.build(config.model, tuple(x.shape[1:]), levels=LEVELS)
    flow.initialize(x)
    head, dim = nn.Linear(x[0].numel(), CLASSES), x[0].numel()
    training = cnf.reconfigure(flow, solver=LOOSE)
    optimizer = torch.optim.AdamW([*flow.parameters(), *head.parameters()], weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    for _ in range(config.steps):
        rows = torch.randint(len(x), (config.batch_size,))
        log_prob, z, _ = training(x[rows])
        loss = cross_entropy(head(z.flatten(1)), y[rows]) - weight / dim * log_prob.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return flow, head


@torch.no_grad()
def judged(flow: cnf.Flow, head: nn.Module, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Log p(x) and logits, averaged over the noise."""
    found = [flow(x) for _ in range(draws)]
    log_prob = torch.stack([each.log_prob for each in found]).mean(0)
    return log_prob, torch.stack([head(each.z.flatten(1)) for each in found]).mean(0)


SMOKE = {"weights": (0.0, 1.0), "steps": 2, "draws": 1}

if __name__ == "__main__":
    run("hybrid", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
