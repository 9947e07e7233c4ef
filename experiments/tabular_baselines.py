"""Every baseline on tables, the same seconds for each: test NLL in nats, standardised units.

power_plant and kin8nm, and the five sets of Papamakarios et al. 2017 (MAF, arXiv 1705.07057) where their files are.
zuko's MAF, RealNVP and NSF run beside ours with equal settings and the same trainer. On the five sets the Gaussian row
is the sanity check: it must be the paper's to the digit. 45 minutes on one core:
`CNF_DATA=… python -m experiments.tabular_baselines`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import cnf
from cnf.data import DataError
from cnf.data.benchmarks import MAF_SETS, load_maf
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.figures.tabular_baselines import PAPER, PEERS, figure, ours
from experiments.parts.peers import ZukoFlow, installed
from experiments.parts.rows import Parts
from experiments.parts.tasks import task_of
from experiments.run import run

DISCRETE = (
    "nice", "realnvp", "glow", "maf", "iaf", "nsf_coupling", "nsf_autoregressive", "residual", "planar", "radial",
    "gaussianization", "rbig",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = ("power_plant", "kin8nm", *MAF_SETS)  # those whose files are missing are left out
    models: tuple[str, ...] = ("gaussian", *DISCRETE, *PEERS, "cnf")
    seconds: float = 120.0  # of one core for each; the papers train for hours
    hidden: tuple[int, ...] = (128, 128)  # of the five that have a peer
    layers: int = 5
    bins: int = 8
    batch_size: int = 512
    learning_rate: float = 2e-3
    patience: int = 8  # of 20 checks: the papers stop early too
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    tables: dict[str, dict[str, Any]] = {}
    for name in config.data:
        try:
            parts = parts_of(name)
        except DataError as error:
            print(f"left out: {error}")
            continue
        tables[name] = {model: judge(model, parts, config) for model in installed(config.models)}
    return {"tables": tables}


def parts_of(name: str) -> Parts:
    """Training, validation and test rows: the published ones, or a shuffled table in units of its training rows."""
    if name in MAF_SETS:
        parts = load_maf(name)
        return torch.from_numpy(parts.train), torch.from_numpy(parts.validation), torch.from_numpy(parts.test)
    task = task_of(name, (1_000, 200, 200), 0)
    return task.train, task.validation, task.test


def judge(model: str, parts: Parts, config: Config) -> dict[str, float]:
    """Train one model and test it."""
    train, validation, test = parts
    if model == "gaussian":
        seen = torch.cat([train, validation]).double()  # as published
        normal = torch.distributions.MultivariateNormal(seen.mean(0), seen.mT.cov())
        nll = mean_and_error(-normal.log_prob(test.double()))
        return {"nll": nll.mean, "error": nll.standard_error, "seconds": 0.0, "steps": 0}
    torch.manual_seed(config.seed)
    flow = build(model, train.shape[1], config)
    settings = {} if model == "cnf" else {"batch_size": config.batch_size, "learning_rate": config.learning_rate}
    fitted = cnf.fit(
        flow, train, validation=validation,
        config=cnf.FitConfig(seconds=config.seconds, patience=config.patience, seed=config.seed, **settings),
        clock=time.process_time,
    )  # fmt: skip
    nll = mean_and_error(-log_prob_of_rows(flow, test))
    print(f"{model}: {nll.mean:.3f} ± {nll.standard_error:.3f} after {fitted.steps} steps", flush=True)
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    return {
        "nll": nll.mean, "error": nll.standard_error, "seconds": fitted.seconds, "steps": fitted.steps,
        "best_step": fitted.best_step, "parameters": parameters,
    }  # fmt: skip


def build(model: str, dim: int, config: Config) -> cnf.Flow:
    """A model by name; those with a peer, and the peers, with the settings of the config."""
    plain: dict[str, Any] = {"layers": config.layers, "hidden": config.hidden}
    splines = {**plain, "blocks": 0, "bins": config.bins}
    options = {"realnvp": plain, "maf": plain, "nsf_coupling": splines, "nsf_autoregressive": splines}
    options |= dict.fromkeys(("planar", "radial"), {"closed": "encode"})  # the direction that likelihood needs
    if model not in PEERS:
        return cnf.build(model, dim, **options.get(model, {}))
    import zuko  # only the peers need it

    kinds: dict[str, Callable[..., Any]] = {
        "zuko_realnvp": zuko.flows.RealNVP,
        "zuko_maf": zuko.flows.MAF,
        "zuko_nsf": lambda *sizes, **others: zuko.flows.NSF(*sizes, bins=config.bins, **others),
    }
    peer = kinds[model](dim, 0, transforms=config.layers, hidden_features=config.hidden)
    return cnf.Flow(ZukoFlow(peer), cnf.StandardNormal(dim))


SMOKE = {"data": ("moons",), "models": ("gaussian", "realnvp", "zuko_realnvp"), "seconds": 1.0}

if __name__ == "__main__":
    run("tabular_baselines", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
