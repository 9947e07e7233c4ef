"""One column of a table given the others, p(y | x), after equal seconds: density, quantiles and coverage.

The default and zuko's neural spline flow, both with x as context, and scikit-learn's gradient boosting of quantiles,
which has no density. CRPS is twice the mean pinball loss of 20 quantiles, for all of them; those of flows are of
samples. Units are standard deviations of y; columns have noise of their resolution. Seconds are those that one thread
had of a processor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

import cnf
from cnf.metrics import log_prob_of_rows, mean_and_error
from experiments.paper import Paper
from experiments.parts.peers import ZukoFlow
from experiments.parts.quantiles import boosted, sampled, scores
from experiments.parts.toys_and_tables import parts
from experiments.run import run


@dataclass(frozen=True)
class Config:
    tables: tuple[str, ...] = ("power_plant", "kin8nm")  # y is the last column
    seconds: float = 60.0
    draws: int = 400  # of each test row
    data_root: str | None = None  # has the tables, itself or in its folder `tables`
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {"tables": {name: compared(name, config) for name in config.tables}}


def compared(name: str, config: Config) -> dict[str, dict[str, float]]:
    train, validation, test, _ = parts(name, config.seed, (0, 0, 0), config.data_root)
    y, context, numbers = test[:, -1:], test[:, :-1], {}
    for model in ("cnf", "NSF"):
        torch.manual_seed(config.seed)
        flow = built(model, context.shape[1])
        settings: dict[str, Any] = {} if model == "cnf" else {"learning_rate": 1e-3, "weight_decay": 0.0}
        given = cnf.FitConfig(seconds=config.seconds, seed=config.seed, progress=False, **settings)
        pairs = [(part[:, -1:], part[:, :-1]) for part in (train, validation)]
        cnf.fit(flow, pairs[0], validation=pairs[1], config=given, clock=time.process_time)
        nll = mean_and_error(-log_prob_of_rows(flow, (y, context)).double())
        quantiles = sampled(flow, context, config.draws, config.seed)
        numbers[model] = {"nll": nll.mean, "nll_error": nll.standard_error, **scores(quantiles, y[:, 0])}
    numbers["boosting"] = scores(boosted(train, context), y[:, 0])
    return numbers


def built(model: str, context_dim: int) -> cnf.Flow:
    if model == "cnf":
        return cnf.build("cnf", 1, context_dim=context_dim)
    import zuko  # only the peer needs it

    peer = zuko.flows.NSF(1, context_dim, transforms=5, hidden_features=(128, 128))
    transform = ZukoFlow(peer)
    transform.context_dim = context_dim
    return cnf.Flow(transform, cnf.StandardNormal(1))


def figure(results: dict[str, Any]) -> Figure:
    """Scores of every model, a panel each; what is aimed at for the coverage is grey."""
    tables = results["seeds"][0]["tables"]
    picture = Figure(figsize=(9, 2.2), layout="constrained")
    panels = picture.subplots(1, 3, sharey=True)
    rows = [(f"{table}, {model}", found) for table, models in tables.items() for model, found in models.items()]
    labels = {"nll": "NLL, nats", "crps": "CRPS", "coverage": "coverage of 90 %"}
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        for place, (row, found) in enumerate(rows):
            if name in found:
                colour = "tab:orange" if row.endswith("cnf") else "tab:blue"
                axes.errorbar(found[name], place, xerr=found.get(f"{name}_error"), fmt="o", color=colour)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    panels[2].axvspan(0.88, 0.92, color="0.9", zorder=0)
    panels[0].set_yticks(range(len(rows)), [label for label, *_ in rows])
    panels[0].invert_yaxis()
    return picture


BECAUSE = "One seed, one split."
PAPER = Paper(
    "",
    "",
    "Is the default as good where only one column is asked for?",
    "measured",
    "On kin8nm it is ahead, and inside its intervals are 0.4 % too many for an aim of 0.88 to 0.92. On power_plant "
    "zuko's flow has a better density and boosting better quantiles, while the intervals of both are too narrow. "
    + BECAUSE,
)
SMOKE = {"tables": (), "seconds": 0.5, "draws": 10}


def ours(results: dict[str, Any]) -> str:
    """Of every table and model."""
    texts = []
    for table, models in results["seeds"][0]["tables"].items():
        for model, found in models.items():
            nll = f"NLL {found['nll']:.3f}, " if "nll" in found else ""
            texts.append(f"{table}, {model}: {nll}CRPS {found['crps']:.4f}, coverage {found['coverage']:.3f}")
    return "; ".join(texts)


if __name__ == "__main__":
    run("conditional_tables", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
